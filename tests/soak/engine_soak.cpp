// soak_engine SECONDS [FIRST_SEED]: random lives of an engine (tests/engine/random_cases.h), one seed after the other until the time
// is over. Ends with 1 and the seed at the first failure; `soak_engine 1 SEED` repeats it.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>

#include "tests/engine/random_cases.h"
#include "tests/soak/arguments.h"
#include "weir/base/log.h"

int main(int argc, char** argv) {
  using Clock = std::chrono::steady_clock;
  const auto arguments = weir::testing::read_soak_arguments(argc, argv, "soak_engine");
  if (!arguments) return 2;
  GTEST_FLAG_SET(throw_on_failure, true);
  weir::set_log_level(static_cast<weir::LogLevel>(static_cast<int>(weir::LogLevel::kError) + 1));  // steps fail on purpose
  const auto end = Clock::now() + arguments->duration;
  int64_t cases = 0, preemptions = 0, hits = 0, tier_hits = 0;
  uint32_t seed = arguments->first_seed;
  do {
    try {
      const auto counts = weir::testing::run_scheduler_case(seed);
      preemptions += counts.preemptions, hits += counts.prefix_hits, tier_hits += counts.tier_hits;
      if (cases % 16 == 0) weir::testing::run_engine_case(seed);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "seed %u failed:\n%s\n", seed, e.what());
      return 1;
    }
    ++cases, ++seed;
  } while (Clock::now() < end);
  std::printf("soak_engine: %lld cases from seed %u, %lld preemptions, %lld cached tokens, %lld of them from the second tier, no failure\n",
              static_cast<long long>(cases), arguments->first_seed, static_cast<long long>(preemptions), static_cast<long long>(hits),
              static_cast<long long>(tier_hits));
  return 0;
}
