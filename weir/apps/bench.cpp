// `weir bench WHAT`: finds the benchmark.
#include "weir/apps/bench.h"

#include <array>
#include <cstdio>

#include "weir/apps/commands.h"

namespace weir {
namespace {

struct Benchmark {
  const char* name;
  const CommandSpec& (*spec)();
  int (*run)(std::span<const std::string>);
};
constexpr std::array kBenchmarks = {Benchmark{"serve", bench_serve_command, run_bench_serve},
                                    Benchmark{"latency", bench_latency_command, run_bench_latency},
                                    Benchmark{"throughput", bench_throughput_command, run_bench_throughput},
                                    Benchmark{"kernels", bench_kernels_command, run_bench_kernels}};

}  // namespace

const CommandSpec& bench_command() {
  static const CommandSpec command = [] {
    CommandSpec out;
    out.name = "bench";
    out.summary = "Measures a server (serve), the engine without one (latency, throughput), or its kernels.";
    out.positionals = {"WHAT"};
    return out;
  }();
  return command;
}

int run_bench(std::span<const std::string> args) {
  if (!args.empty() && !args[0].starts_with('-')) {
    std::vector<std::string> names;
    for (const Benchmark& benchmark : kBenchmarks) {
      if (args[0] == benchmark.name) return benchmark.run(args.subspan(1));
      names.push_back(benchmark.name);
    }
    const auto near = nearest_names(args[0], names, 1);
    throw UsageError(concat("unknown benchmark \"", args[0], "\"; known are serve, latency, throughput, kernels",
                            near.empty() ? "" : "; did you mean " + near[0] + "?"));
  }
  if (!args.empty() && args[0] != "--help" && args[0] != "-h")
    throw UsageError(concat("bench: name what to measure before the flags: serve, latency, throughput or kernels, got ", args[0]));
  std::printf("usage: weir bench WHAT [flags]\n\n");
  for (const Benchmark& benchmark : kBenchmarks) std::printf("  %-12s %s\n", benchmark.name, benchmark.spec().summary.c_str());
  std::printf("\n`weir bench WHAT --help` has the flags.\n");
  return args.empty() ? 2 : 0;
}

}  // namespace weir
