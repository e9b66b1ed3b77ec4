// `weir quantize`: a float checkpoint as W8A8.
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <fstream>
#include <iomanip>
#include <map>
#include <optional>
#include <sstream>

#include "weir/apps/commands.h"
#include "weir/apps/progress_bar.h"
#include "weir/apps/quantizer.h"
#include "weir/apps/terminal.h"

namespace weir {
namespace {

constexpr const char* kOutput = "Output";

// "layers.3.mlp.experts.17.gate_proj" -> "layers.3.mlp.experts.*.gate_proj": a line of the report.
std::string report_line(const std::string& module) {
  const std::string experts = ".experts.";
  const size_t at = module.find(experts);
  if (at == std::string::npos) return module;
  const size_t end = module.find('.', at + experts.size());
  return module.substr(0, at + experts.size()) + "*" + (end == std::string::npos ? "" : module.substr(end));
}

std::string report_text(const QuantizeReport& report) {
  struct Line {
    int64_t count = 0;
    double sum = 0, worst = 0;
  };
  std::map<std::string, Line> lines;
  size_t width = 0;
  for (const QuantizeReport::Matrix& m : report.matrices) {
    const std::string name = report_line(m.name);
    Line& line = lines[name];
    ++line.count;
    line.sum += m.error;
    line.worst = std::max(line.worst, m.error);
    width = std::max(width, name.size());
  }
  std::ostringstream out;
  out << std::left << std::setw(static_cast<int>(width)) << "matrices that are int8 now" << std::right << std::setw(7) << "count"
      << std::setw(10) << "error" << std::setw(10) << "worst" << '\n'
      << std::fixed << std::setprecision(3);
  for (const auto& [name, line] : lines)
    out << std::left << std::setw(static_cast<int>(width)) << name << std::right << std::setw(7) << line.count << std::setw(8)
        << 100 * line.sum / static_cast<double>(line.count) << " %" << std::setw(8) << 100 * line.worst << " %\n";
  out << "error: of the weights, root of the squared differences over the squared weights; an output's error is of the same size.\n";
  if (report.kept_shards > 0) out << report.kept_shards << " of " << report.shards << " shards were kept from an earlier run.\n";
  out << std::setprecision(2) << static_cast<double>(report.source_bytes) / (1 << 20) << " MiB became "
      << static_cast<double>(report.written_bytes) / (1 << 20) << " MiB in " << report.shards
      << (report.shards == 1 ? " file\n" : " files\n");
  return out.str();
}

void write_report(const std::string& file, const QuantizeReport& report) {
  Json matrices = Json::array();
  for (const QuantizeReport::Matrix& m : report.matrices) matrices.push_back({{"name", m.name}, {"relative_error", m.error}});
  const Json json = {{"source_bytes", report.source_bytes},
                     {"written_bytes", report.written_bytes},
                     {"shards", report.shards},
                     {"kept_shards", report.kept_shards},
                     {"matrices", matrices}};
  std::ofstream out(file);
  out << json.dump(1, ' ', false, Json::error_handler_t::replace) << '\n';
  out.close();
  if (!out) fail(ErrorCode::kUnavailable, "--report ", file, ": cannot be written");
}

// --recipe FILE.yaml, or else a word nobody knows.
const std::string& recipe_file(const std::string& recipe) {
  if (!recipe.ends_with(".yaml") && !recipe.ends_with(".yml"))
    throw UsageError(concat("--recipe must be default, all, experts or a file named *.yaml, got \"", recipe, "\""));
  return recipe;
}

QuantizeOptions quantize_options(const Flags& flags) {
  const auto source = flags.positional(0), destination = flags.positional(1);
  if (!source || !destination) throw UsageError("quantize: name two directories: the float model and where the int8 one goes");
  QuantizeOptions out{.source = *source, .destination = *destination};
  const std::string recipe = flags.text("recipe");
  using Named = QuantizeRecipe::Named;
  out.recipe = recipe == "default"   ? Named::kDefault
               : recipe == "all"     ? Named::kAll
               : recipe == "experts" ? Named::kExperts
                                     : QuantizeRecipe::read(recipe_file(recipe));
  out.format = flags.text("format") == "ascend" ? QuantizedFormat::kAscend : QuantizedFormat::kCompressedTensors;
  out.max_shard_bytes = flags.integer("max-shard-size");
  out.resume = flags.boolean("resume");
  out.threads = static_cast<int>(flags.integer("threads"));
  return out;
}

}  // namespace

const CommandSpec& quantize_command() {
  static const CommandSpec command = {
      .name = "quantize",
      .summary = "Writes a BF16 model as W8A8: int8 weights, inputs rounded to int8 per token.",
      .positionals = {"SRC", "DST"},
      .flags =
          {{.name = "format",
            .group = kOutput,
            .help = "ascend: as msmodelslim writes it, for vLLM Ascend and weir. compressed-tensors: as llm-compressor does.",
            .fallback = "ascend",
            .choices = {"ascend", "compressed-tensors"}},
           {.name = "recipe",
            .group = kOutput,
            .help =
                "default: what the published W8A8 models quantise (MoE: q, k, v and routed experts; dense: attention and feed-forward). "
                "experts: routed experts only. all: every projection but routers and the small gates, and the head. FILE.yaml: a list of "
                "lines like - \"*.mlp.experts.*\": int8 (or float); the first pattern that matches a tensor's name decides.",
            .fallback = "default",
            .value_name = "NAME|FILE.yaml"},
           {.name = "max-shard-size",
            .type = FlagType::kCount,
            .group = kOutput,
            .help = "Bytes of tensors in one file at most.",
            .fallback = "4G",
            .min = 1},
           {.name = "report", .group = kOutput, .help = "JSON file for the error of every matrix.", .value_name = "FILE"},
           {.name = "resume",
            .type = FlagType::kBool,
            .group = kOutput,
            .help = "Keep the complete files that an interrupted run with the same arguments left in DST.",
            .fallback = "false"},
           {.name = "threads",
            .type = FlagType::kInt,
            .group = "CPU",
            .help = "Compute threads; 0: one per physical core.",
            .fallback = "0",
            .min = 0,
            .max = 1024}},
      .epilogue = "\nexample\n  weir quantize models/weir-tiny /tmp/weir-tiny-w8a8 && weir chat /tmp/weir-tiny-w8a8\n",
  };
  return command;
}

int run_quantize(std::span<const std::string> args) {
  const auto flags = parse_or_help(quantize_command(), args);
  if (!flags) return 0;
  const QuantizeOptions options = quantize_options(*flags);
  std::optional<ProgressBar> bar;
  const QuantizeReport report = quantize_checkpoint(
      options, [&](int64_t bytes) { bar.emplace("Quantising", bytes, ::isatty(STDERR_FILENO) != 0); },
      [&](int64_t bytes) { bar->advance(bytes); });
  bar.reset();
  if (const auto file = flags->find_text("report")) write_report(*file, report);
  const std::string text = printable(report_text(report));  // names in it come from files
  std::fwrite(text.data(), 1, text.size(), stdout);
  return 0;
}

}  // namespace weir
