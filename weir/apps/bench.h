// The sub-commands of `weir bench`. Each takes the arguments behind its name and returns the exit code, as those of commands.h do.
#pragma once

#include <span>
#include <string>

#include "weir/apps/flags.h"

namespace weir {

const CommandSpec& bench_serve_command();
const CommandSpec& bench_latency_command();
const CommandSpec& bench_throughput_command();
const CommandSpec& bench_kernels_command();

int run_bench_serve(std::span<const std::string> args);
int run_bench_latency(std::span<const std::string> args);
int run_bench_throughput(std::span<const std::string> args);
int run_bench_kernels(std::span<const std::string> args);

}  // namespace weir
