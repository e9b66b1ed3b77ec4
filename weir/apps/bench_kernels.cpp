// `weir bench kernels`: the operators of a model beside what the machine can do at most.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>

#include "weir/apps/bench.h"
#include "weir/apps/commands.h"
#include "weir/apps/progress_bar.h"
#include "weir/apps/terminal.h"
#include "weir/bench/kernel_cases.h"
#include "weir/bench/shapes.h"
#include "weir/kernels/cpu/isa.h"

namespace weir {
namespace {

constexpr const char* kWhat = "Benchmark";
constexpr const char* kResult = "Result";

std::vector<std::string> type_names() { return {"bfloat16", "int8", "float32"}; }

DType type_named(const std::string& text) {
  if (text == "bfloat16" || text == "bf16") return DType::kBF16;
  if (text == "int8") return DType::kI8;
  if (text == "float32" || text == "f32") return DType::kF32;
  throw UsageError(concat("--dtype must be bfloat16, int8 or float32, got \"", text, "\""));
}

std::string name_of(DType type) { return type_names()[type == DType::kBF16 ? 0 : type == DType::kI8 ? 1 : 2]; }

struct Options {
  std::vector<std::string> shapes;
  bench::CaseOptions cases;
  int threads = 0, rounds = 5;
  bool cpu_time = false;
};

Options options_of(const Flags& flags) {
  Options out;
  out.shapes = flags.texts("model-shape");
  if (const auto given = flags.positional(0)) out.shapes.insert(out.shapes.begin(), *given);
  if (out.shapes.empty()) out.shapes = bench::known_shapes();
  if (flags.given("dtype")) out.cases.types.clear();
  for (const std::string& text : flags.texts("dtype")) out.cases.types.push_back(type_named(text));
  if (flags.given("tokens")) out.cases.tokens.clear();
  for (const std::string& text : flags.texts("tokens")) {
    const auto count = parse_count(text);
    if (!count || *count < 1 || *count > bench::kMaxCaseTokens)
      throw UsageError(concat("--tokens must be numbers from 1 to ", bench::kMaxCaseTokens, ", got \"", text, "\""));
    out.cases.tokens.push_back(*count);
  }
  out.cases.coding = flags.boolean("compress-weights") ? ops::WeightCoding::kTwelveBits : ops::WeightCoding::kPlain;
  out.cases.context = flags.integer("context");
  out.cases.filter = flags.find_text("filter").value_or("");
  out.cases.memory = flags.integer("working-set-bytes");
  out.threads = static_cast<int>(flags.integer("threads"));
  out.rounds = static_cast<int>(flags.integer("rounds"));
  out.cpu_time = flags.boolean("cpu-time");
  if (out.cpu_time && out.threads != 1) throw UsageError(concat("--cpu-time needs --threads 1, got --threads ", out.threads));
  return out;
}

// "0.42 ms"
std::string duration(double seconds) {
  char text[32];
  if (seconds < 1e-3)
    std::snprintf(text, sizeof text, "%.1f us", seconds * 1e6);
  else
    std::snprintf(text, sizeof text, "%.2f ms", seconds * 1e3);
  return text;
}

void print_head() {
  std::printf("%-26s %-38s %-9s %6s %10s %9s %11s %9s   %s\n", "kernel", "shape", "type", "tokens", "time", "GB/s", "GFLOP/s", "of bound",
              "ceilings: GB/s, GFLOP/s");
}

void print_line(const bench::KernelCase& kernel, const bench::Measurement& m) {
  std::printf("%-26s %-38s %-9s %6lld %10s %9.1f %11.1f %7.0f %%   %6.1f %9.0f\n", kernel.kernel.c_str(), kernel.shape.c_str(),
              name_of(kernel.type).c_str(), static_cast<long long>(kernel.tokens), duration(m.seconds).c_str(), m.bytes_rate * 1e-9,
              m.operation_rate * 1e-9, 100 * m.of_bound, m.read_ceiling * 1e-9, m.compute_ceiling * 1e-9);
  std::fflush(stdout);
}

Json json_line(const std::string& model, const bench::KernelCase& kernel, const bench::Measurement& m) {
  Json out = Json::object();
  out["model_shape"] = model;
  out["kernel"] = kernel.kernel;
  out["shape"] = kernel.shape;
  out["dtype"] = name_of(kernel.type);
  out["tokens"] = kernel.tokens;
  out["seconds"] = m.seconds;
  out["gb_per_s"] = m.bytes_rate * 1e-9;
  out["gflop_per_s"] = m.operation_rate * 1e-9;
  out["ceiling_gb_per_s"] = m.read_ceiling * 1e-9;
  out["ceiling_gflop_per_s"] = m.compute_ceiling * 1e-9;
  out["of_bound"] = m.of_bound;
  return out;
}

std::string now_as_text() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char text[32];
  std::strftime(text, sizeof text, "%Y%m%d-%H%M%S", &local);
  return text;
}

// Ceilings alone, before the kernels: what 1, 2, 4, … all threads read, and the peaks of all.
Json measure_machine(bench::Machine& machine) {
  Json out = Json::object();
  out["isa"] = cpu::name(cpu::active_isa());
  out["threads"] = machine.threads();
  std::printf("machine: %s, %d %s", cpu::name(cpu::active_isa()), machine.threads(), machine.threads() == 1 ? "thread" : "threads");
  Json& read = out["read_gb_per_s"] = Json::object();
  for (int threads = 1;; threads = std::min(2 * threads, machine.threads())) {
    double best = 0;
    for (int i = 0; i < 3; ++i) best = std::max(best, machine.read_rate(threads));
    read[std::to_string(threads)] = best * 1e-9;
    std::printf("; %d read%s %.1f GB/s", threads, threads == 1 ? "s" : "", best * 1e-9);
    if (threads == machine.threads()) break;
  }
  for (const DType type : {DType::kBF16, DType::kI8, DType::kF32}) {
    double best = 0;
    for (int i = 0; i < 3; ++i) best = std::max(best, machine.compute_rate(type));
    out[name_of(type) + "_gflop_per_s"] = best * 1e-9;
    std::printf("; %s %.0f GFLOP/s", name_of(type).c_str(), best * 1e-9);
  }
  std::printf("\n\n");
  return out;
}

void save(const Flags& flags, const Json& result) {
  if (!flags.boolean("save-result")) return;
  const std::filesystem::path dir = flags.find_text("result-dir").value_or("");
  std::error_code error;
  if (!dir.empty()) std::filesystem::create_directories(dir, error);
  const std::filesystem::path path =
      dir / flags.find_text("result-filename").value_or("kernels-" + result["date"].get<std::string>() + ".json");
  std::ofstream file(path, std::ios::trunc);
  file << result.dump(2, ' ', false, Json::error_handler_t::replace) << '\n';
  file.flush();
  if (!file) fail(ErrorCode::kInvalidArgument, "cannot write the result to ", path.string(), " (--result-dir, --result-filename)");
}

}  // namespace

const CommandSpec& bench_kernels_command() {
  static const CommandSpec command = [] {
    const bench::CaseOptions cases;
    CommandSpec out;
    out.name = "bench kernels";
    out.summary = "How near each operator comes to the machine's memory and arithmetic, at the sizes of a model.";
    out.positionals = {"SHAPE"};
    out.flags = {
        {.name = "model-shape",
         .type = FlagType::kTexts,
         .group = kWhat,
         .help = "Sizes to measure at: mini, 35B-A3B, 122B-A10B, 397B-A17B, or directories with a config.json. No weights are read. Not "
                 "given: all four.",
         .value_name = "NAME|DIR ..."},
        {.name = "dtype",
         .type = FlagType::kTexts,
         .group = kWhat,
         .help = "Types of weights: bfloat16, int8, float32. Not given: all.",
         .value_name = "TYPE ..."},
        {.name = "compress-weights",
         .type = FlagType::kBool,
         .group = kWhat,
         .help = "Keep BF16 weights in 12 bits, as serving does. Bytes read are those.",
         .fallback = "true"},
        {.name = "tokens",
         .type = FlagType::kTexts,
         .group = kWhat,
         .help = concat("Tokens of a call. Up to ", bench::kMostSequences,
                        " are sequences that decode, more are a chunk of one prompt. Not given: 1 8 512."),
         .value_name = "N ..."},
        {.name = "context",
         .type = FlagType::kCount,
         .group = kWhat,
         .help = "Tokens that attention sees.",
         .fallback = std::to_string(cases.context),
         .min = 1,
         .max = bench::kMaxCaseContext},
        {.name = "filter", .group = kWhat, .help = "Only kernels whose name contains this.", .value_name = "TEXT"},
        {.name = "threads",
         .type = FlagType::kInt,
         .group = kWhat,
         .help = "Compute threads; 0: one per physical core this process may use.",
         .fallback = "0",
         .min = 0,
         .max = 1024},
        {.name = "rounds",
         .type = FlagType::kInt,
         .group = kWhat,
         .help = "Measurements of each; medians are shown.",
         .fallback = "5",
         .min = 1,
         .max = 1000},
        {.name = "working-set-bytes",
         .type = FlagType::kCount,
         .group = kWhat,
         .help = "Memory for the weights or states of one operator. Much more than the caches, or these are measured.",
         .fallback = std::to_string(cases.memory),
         .min = 1 << 20,
         .max = 1e12},
        {.name = "cpu-time",
         .type = FlagType::kBool,
         .group = kWhat,
         .help = "Count the time on the CPU, not on the clock: for a machine that is busy with something else. One thread only.",
         .fallback = "false"},
        {.name = "save-result", .type = FlagType::kBool, .group = kResult, .help = "Write the result as JSON.", .fallback = "false"},
        {.name = "result-dir", .group = kResult, .help = "Where; made when missing. Not given: here.", .value_name = "DIR"},
        {.name = "result-filename", .group = kResult, .help = "Not given: kernels-DATE.json.", .value_name = "NAME"},
    };
    out.epilogue =
        "\nOf bound: the time in which the machine could have read the weights, keys and states, or done the arithmetic, whichever is "
        "longer,\n"
        "over the time it took. Ceilings are measured in turns with each kernel. Elementwise kernels work on activations, which lie in\n"
        "caches: they may exceed the memory's ceiling.\n"
        "\nexample\n  weir bench kernels 35B-A3B --dtype bfloat16 int8 --tokens 1 32 512\n";
    return out;
  }();
  return command;
}

int run_bench_kernels(std::span<const std::string> args) {
  const auto flags = parse_or_help(bench_kernels_command(), args);
  if (!flags) return 0;
  const Options options = options_of(*flags);
  std::vector<ModelConfig> models;  // all are known before anything is measured
  for (const std::string& shape : options.shapes) models.push_back(bench::model_shape(shape));

  ThreadPool pool(options.threads);
  bench::Machine machine(pool, bench::Clock(options.cpu_time));
  Json result = Json::object();
  result["date"] = now_as_text();
  result["compress_weights"] = options.cases.coding == ops::WeightCoding::kTwelveBits;
  result["machine"] = measure_machine(machine);
  result["results"] = Json::array();
  for (size_t i = 0; i < models.size(); ++i) {
    std::printf("%s%s\n", i == 0 ? "" : "\n", printable(options.shapes[i]).c_str());
    print_head();
    each_kernel_case(models[i], options.cases, pool, [&](const bench::KernelCase& kernel) {
      const bench::Measurement measured = measure(machine, kernel, options.rounds);
      print_line(kernel, measured);
      result["results"].push_back(json_line(options.shapes[i], kernel, measured));
    });
  }
  if (result["results"].empty()) throw UsageError(concat("--filter \"", options.cases.filter, "\" names no kernel"));
  save(*flags, result);
  return 0;
}

}  // namespace weir
