// The command line of every soak program: PROGRAM SECONDS [FIRST_SEED].
#pragma once

#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <random>

namespace weir::testing {

struct SoakArguments {
  std::chrono::seconds duration{};
  uint32_t first_seed = 0;  // drawn when it is not given
};

// nullopt after telling the usage on stderr.
inline std::optional<SoakArguments> read_soak_arguments(int argc, char** argv, const char* program) {
  const auto number = [](const char* text) -> std::optional<uint32_t> {
    uint32_t value = 0;
    const char* const end = text + std::strlen(text);
    const auto [stop, error] = std::from_chars(text, end, value);
    if (error != std::errc{} || stop != end) return std::nullopt;
    return value;
  };
  const auto seconds = argc > 1 ? number(argv[1]) : std::nullopt;
  const auto first = argc > 2 ? number(argv[2]) : std::optional<uint32_t>(std::random_device{}());
  if (seconds && first && argc <= 3) return SoakArguments{std::chrono::seconds(*seconds), *first};
  std::fprintf(stderr, "usage: %s SECONDS [FIRST_SEED]\n", program);
  return std::nullopt;
}

}  // namespace weir::testing
