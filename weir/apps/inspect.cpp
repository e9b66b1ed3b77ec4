// `weir inspect`: what a model directory holds and what serving it takes.
#include <cstdio>

#include "weir/apps/commands.h"
#include "weir/apps/inspection.h"
#include "weir/apps/terminal.h"

namespace weir {

const CommandSpec& inspect_command() {
  static const CommandSpec command = {
      .name = "inspect",
      .summary = "Shows layers, sizes, types, quantisation and the memory a model needs.",
      .positionals = {"MODEL"},
      .flags =
          {{.name = "json", .type = FlagType::kBool, .group = "Output", .help = "One JSON object instead of text.", .fallback = "false"}},
  };
  return command;
}

int run_inspect(std::span<const std::string> args) {
  const auto flags = parse_or_help(inspect_command(), args);
  if (!flags) return 0;
  const auto model = flags->positional(0);
  if (!model) throw UsageError("inspect: no model given: name a directory with config.json and *.safetensors");
  const Inspection inspection = inspect_model(*model);
  // Names in it come from files.
  const std::string text = flags->boolean("json") ? to_json(inspection).dump(2, ' ', false, Json::error_handler_t::replace) + "\n"
                                                  : printable(to_text(inspection));
  std::fwrite(text.data(), 1, text.size(), stdout);
  return 0;
}

}  // namespace weir
