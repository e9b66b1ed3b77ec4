// The program: finds the sub-command, and turns what it throws into one line on stderr and an exit code.
#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "weir/apps/commands.h"
#include "weir/apps/version.h"

namespace {

using namespace weir;

constexpr int kFailed = 1, kWrongUsage = 2;

struct Command {
  const CommandSpec& (*spec)();
  int (*run)(std::span<const std::string>);
};
constexpr std::array kCommands = {Command{serve_command, run_serve}, Command{chat_command, run_chat},
                                  Command{generate_command, run_generate}, Command{inspect_command, run_inspect},
                                  Command{bench_command, run_bench}};

void print_help() {
  std::printf("weir %s: serves Qwen3.5 models on the CPU through the OpenAI API\n\nusage: weir COMMAND [arguments] [flags]\n\n", kVersion);
  for (const Command& command : kCommands) {
    std::string head = command.spec().name;
    for (const std::string& positional : command.spec().positionals) head += " " + positional;
    std::printf("  %-18s %s\n", head.c_str(), command.spec().summary.c_str());
  }
  std::printf("\n  %-18s %s\n  %-18s %s\n", "--version", "The version.", "COMMAND --help", "All flags of a command.");
}

int run(std::span<const std::string> args) {
  if (args.empty()) {
    print_help();
    return kWrongUsage;
  }
  const std::string& name = args[0];
  if (name == "--version" || name == "-V" || name == "version") {
    std::printf("weir %s\n", kVersion);
    return 0;
  }
  if (name == "--help" || name == "-h" || name == "help") {
    print_help();
    return 0;
  }
  std::vector<std::string> names;
  for (const Command& command : kCommands) {
    if (command.spec().name == name) return command.run(args.subspan(1));
    names.push_back(command.spec().name);
  }
  std::string message = "unknown command \"" + name + "\"; known are ";
  for (const std::string& known : names) message += known + (known == names.back() ? "" : ", ");
  if (const auto near = nearest_names(name, names, 1); !near.empty()) message += "; did you mean " + near[0] + "?";
  throw UsageError(message);
}

// One line, whatever a file or an argument put into the message.
std::string one_line(std::string text) {
  std::replace_if(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  // A reader that goes away is an error of one write, never the end of the program.
  std::signal(SIGPIPE, SIG_IGN);
  const std::vector<std::string> args(argv + std::min(argc, 1), argv + argc);
  try {
    return run(args);
  } catch (const weir::UsageError& error) {
    std::fprintf(stderr, "weir: %s\n", one_line(error.what()).c_str());
    return kWrongUsage;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "weir: %s\n", one_line(error.what()).c_str());
    return kFailed;
  }
}
