#include "tests/apps/cached_answers.h"

#include <gtest/gtest.h>

#include "tests/runtime/golden_model.h"

namespace weir {
namespace {

class Cached : public testing::TestWithParam<const char*> {};

TEST_P(Cached, AnswersAreThoseOfColdRequestsBitForBit) {
  testing::CachedCounts sum;
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    testing::CachedAnswers model(golden_dir(GetParam()), compute);
    for (uint32_t seed = 0; seed < 10; ++seed) {
      const testing::CachedCounts counts = model.run_case(seed, seed == 0 ? 3000 : 300);
      sum.requests += counts.requests, sum.prompt_tokens += counts.prompt_tokens;
      sum.cached_tokens += counts.cached_tokens, sum.preemptions += counts.preemptions;
    }
  }
  EXPECT_GT(sum.cached_tokens, sum.prompt_tokens / 8) << "enough hits to mean something";
  EXPECT_GT(sum.preemptions, 0);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Cached, testing::Values("moe", "dense", "real_heads"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace weir
