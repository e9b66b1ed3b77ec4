// The sub-commands of the program: each takes the arguments after its name and returns the exit code. They throw UsageError for a wrong
// command line (main: exit code 2) and Error for what cannot be done (exit code 1).
#pragma once

#include <span>
#include <string>

#include "weir/apps/flags.h"

namespace weir {

const CommandSpec& serve_command();
const CommandSpec& chat_command();
const CommandSpec& generate_command();
const CommandSpec& inspect_command();
const CommandSpec& bench_command();

int run_serve(std::span<const std::string> args);
int run_chat(std::span<const std::string> args);
int run_generate(std::span<const std::string> args);
int run_inspect(std::span<const std::string> args);
int run_bench(std::span<const std::string> args);

// Parses; prints --help to stdout when it was asked for, and then returns nullopt.
std::optional<Flags> parse_or_help(const CommandSpec& command, std::span<const std::string> args);

}  // namespace weir
