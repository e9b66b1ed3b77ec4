// soak_cached SECONDS [FIRST_SEED]: answers behind a prefix cache against cold ones (tests/apps/cached_answers.h) on every checkpoint in
// turn until the time is over. Ends with 1 and the case at the first difference; `soak_cached 1 SEED` repeats it.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "tests/apps/cached_answers.h"
#include "tests/soak/arguments.h"
#include "weir/base/error.h"

int main(int argc, char** argv) {
  using Clock = std::chrono::steady_clock;
  const auto arguments = weir::testing::read_soak_arguments(argc, argv, "soak_cached");
  if (!arguments) return 2;
  GTEST_FLAG_SET(throw_on_failure, true);
  const auto end = Clock::now() + arguments->duration;
  std::vector<std::unique_ptr<weir::testing::CachedAnswers>> models;
  for (const char* dir : {"models/weir-tiny", "tests/golden/moe", "tests/golden/dense", "tests/golden/real_heads"})
    for (const weir::DType compute : {weir::DType::kF32, weir::DType::kBF16})
      models.push_back(std::make_unique<weir::testing::CachedAnswers>(weir::concat(WEIR_SOURCE_DIR, "/", dir), compute));

  weir::testing::CachedCounts sum;
  int64_t cases = 0;
  uint32_t seed = arguments->first_seed;
  do {
    for (const auto& model : models) {
      try {
        const auto counts = model->run_case(seed, seed % 8 == 0 ? 3000 : 300);
        sum.requests += counts.requests, sum.prompt_tokens += counts.prompt_tokens;
        sum.cached_tokens += counts.cached_tokens, sum.tier_tokens += counts.tier_tokens, sum.preemptions += counts.preemptions;
        sum.drafted += counts.drafted, sum.accepted += counts.accepted;
      } catch (const std::exception& e) {
        std::fprintf(stderr, "seed %u failed:\n%s\n", seed, e.what());
        return 1;
      }
      ++cases;
    }
    ++seed;
  } while (Clock::now() < end);
  std::puts(weir::concat("soak_cached: ", cases, " cases from seed ", arguments->first_seed, ", ", sum.requests, " requests, ",
                         sum.cached_tokens, " of ", sum.prompt_tokens, " prompt tokens cached, ", sum.tier_tokens,
                         " of them from the second tier, ", sum.preemptions, " preemptions, ", sum.accepted, " of ", sum.drafted,
                         " guesses right, no difference")
                .c_str());
  return 0;
}
