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

#include "weir/apps/calibration.h"
#include "weir/apps/commands.h"
#include "weir/apps/progress_bar.h"
#include "weir/apps/quantizer.h"
#include "weir/apps/terminal.h"
#include "weir/base/log.h"

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

using OutputErrors = std::map<std::string, OutputError>;  // empty: not measured

// Mean and largest of some errors.
struct Errors {
  int64_t count = 0;
  double sum = 0, worst = 0;
  void add(double error) {
    ++count;
    sum += error;
    worst = std::max(worst, error);
  }
  std::string text() const {
    std::ostringstream out;
    out << std::fixed << std::setprecision(3);
    if (count == 0)
      out << std::setw(10) << "-" << std::setw(10) << "-";
    else
      out << std::setw(8) << 100 * sum / static_cast<double>(count) << " %" << std::setw(8) << 100 * worst << " %";
    return out.str();
  }
};

std::string report_text(const QuantizeReport& report, const OutputErrors& outputs) {
  struct Line {
    Errors weights, outputs;
  };
  std::map<std::string, Line> lines;
  for (const QuantizeReport::Matrix& m : report.matrices) lines[report_line(m.name)].weights.add(m.error);
  for (const auto& [name, error] : outputs) lines[report_line(name)].outputs.add(error.relative);
  size_t width = 0;
  for (const auto& [name, line] : lines) width = std::max(width, name.size());
  std::ostringstream out;
  out << std::left << std::setw(static_cast<int>(width)) << "matrices that are int8 now" << std::right << std::setw(7) << "count"
      << std::setw(10) << "weights" << std::setw(10) << "worst";
  if (!outputs.empty()) out << std::setw(10) << "outputs" << std::setw(10) << "worst";
  out << '\n';
  for (const auto& [name, line] : lines) {
    out << std::left << std::setw(static_cast<int>(width)) << name << std::right << std::setw(7)
        << std::max(line.weights.count, line.outputs.count) << line.weights.text();
    if (!outputs.empty()) out << line.outputs.text();
    out << '\n';
  }
  out << "Errors are the root of the squared differences over the squared values: of the weights"
      << (outputs.empty() ? ".\n"
                          : "; of the outputs on the calibration prompts,\neach matrix with the input that it has in the float model.\n");
  if (report.kept_shards > 0) out << report.kept_shards << " of " << report.shards << " shards were kept from an earlier run.\n";
  out << std::fixed << std::setprecision(2) << static_cast<double>(report.source_bytes) / (1 << 20) << " MiB became "
      << static_cast<double>(report.written_bytes) / (1 << 20) << " MiB in " << report.shards
      << (report.shards == 1 ? " file\n" : " files\n");
  return out.str();
}

void write_report(const std::string& file, const QuantizeReport& report, const OutputErrors& outputs) {
  std::map<std::string, Json> by_name;
  for (const QuantizeReport::Matrix& m : report.matrices) by_name[m.name] = {{"name", m.name}, {"relative_error", m.error}};
  for (const auto& [name, error] : outputs) {
    Json& matrix = by_name[name];
    matrix["name"] = name;
    matrix["output_relative_error"] = error.relative;
    matrix["calibration_tokens"] = error.tokens;
  }
  Json matrices = Json::array();
  for (auto& [name, matrix] : by_name) matrices.push_back(std::move(matrix));
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

// What --calibration asks for; nullopt: nothing is measured.
std::optional<Prompts> calibration_prompts(const Flags& flags, const std::string& source) {
  const std::string wanted = flags.text("calibration");
  if (wanted == "none") return std::nullopt;
  if (wanted != "default") return read_calibration(wanted, *Tokenizer::load(source));
  try {
    return default_calibration(*Tokenizer::load(source));
  } catch (const Error& error) {
    if (error.code != ErrorCode::kNotFound) throw;
    log_warning("outputs are not measured: ", source, " has no tokenizer.json");
    return std::nullopt;
  }
}

OutputErrors measure(const QuantizeOptions& options, const Prompts& prompts, bool visible) {
  std::optional<ProgressBar> bar;
  return measure_outputs(
      options.source, options.destination, prompts, options.threads,
      [&](int64_t layers) { bar.emplace("Measuring outputs", layers, visible); }, [&] { bar->advance(1); });
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
           {.name = "calibration",
            .group = kOutput,
            .help =
                "Prompts on which the outputs of the int8 matrices are measured, layer by layer, with one layer of both models in memory. "
                "FILE.jsonl: the \"text\" or \"prompt\" of every line; another FILE: a prompt to a line. none: only the weights' errors.",
            .fallback = "default",
            .value_name = "FILE|default|none"},
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
  const std::optional<Prompts> prompts = calibration_prompts(*flags, options.source);  // a file that cannot be read is known at once
  const bool visible = ::isatty(STDERR_FILENO) != 0;
  std::optional<ProgressBar> bar;
  const QuantizeReport report = quantize_checkpoint(
      options, [&](int64_t bytes) { bar.emplace("Quantising", bytes, visible); }, [&](int64_t bytes) { bar->advance(bytes); });
  bar.reset();
  const OutputErrors outputs = prompts ? measure(options, *prompts, visible) : OutputErrors{};
  if (const auto file = flags->find_text("report")) write_report(*file, report, outputs);
  const std::string text = printable(report_text(report, outputs));  // names in it come from files
  std::fwrite(text.data(), 1, text.size(), stdout);
  return 0;
}

}  // namespace weir
