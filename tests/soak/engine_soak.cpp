// soak_engine SECONDS [FIRST_SEED]: random lives of an engine (tests/engine/random_cases.h), one seed after the other until the time
// is over. Ends with 1 and the seed at the first failure; `soak_engine 1 SEED` repeats it.
#include <gtest/gtest.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <random>

#include "tests/engine/random_cases.h"
#include "weir/base/log.h"

namespace {

std::optional<uint32_t> number(const char* text) {
  uint32_t value = 0;
  const char* const end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  if (error != std::errc{} || stop != end) return std::nullopt;
  return value;
}

}  // namespace

int main(int argc, char** argv) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = argc > 1 ? number(argv[1]) : std::nullopt;
  const auto first = argc > 2 ? number(argv[2]) : std::optional<uint32_t>(std::random_device{}());
  if (!seconds || !first || argc > 3) {
    std::fprintf(stderr, "usage: soak_engine SECONDS [FIRST_SEED]\n");
    return 2;
  }
  GTEST_FLAG_SET(throw_on_failure, true);
  weir::set_log_level(static_cast<weir::LogLevel>(static_cast<int>(weir::LogLevel::kError) + 1));  // steps fail on purpose
  const auto end = Clock::now() + std::chrono::seconds(*seconds);
  int64_t cases = 0, preemptions = 0, hits = 0;
  uint32_t seed = *first;
  do {
    try {
      const auto counts = weir::testing::run_scheduler_case(seed);
      preemptions += counts.preemptions, hits += counts.prefix_hits;
      if (cases % 16 == 0) weir::testing::run_engine_case(seed);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "seed %u failed:\n%s\n", seed, e.what());
      return 1;
    }
    ++cases, ++seed;
  } while (Clock::now() < end);
  std::printf("soak_engine: %lld cases from seed %u, %lld preemptions, %lld cached tokens, no failure\n", static_cast<long long>(cases),
              *first, static_cast<long long>(preemptions), static_cast<long long>(hits));
  return 0;
}
