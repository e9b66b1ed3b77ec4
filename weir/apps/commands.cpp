#include "weir/apps/commands.h"

#include <unistd.h>

#include <cstdio>

#include "weir/apps/terminal.h"

namespace weir {

std::optional<Flags> parse_or_help(const CommandSpec& command, std::span<const std::string> args) {
  Flags flags = Flags::parse(command, args);
  if (!flags.help_topic()) return flags;
  const std::string text = help_text(command, *flags.help_topic(), terminal_columns(STDOUT_FILENO));
  std::fwrite(text.data(), 1, text.size(), stdout);
  return std::nullopt;
}

}  // namespace weir
