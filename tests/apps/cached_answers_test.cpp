#include "tests/apps/cached_answers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "weir/base/error.h"

namespace weir {
namespace {

class CachedIn : public ::testing::TestWithParam<const char*> {};

TEST_P(CachedIn, AnswersAreThoseOfColdRequestsBitForBit) {
  testing::CachedCounts sum;
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    testing::CachedAnswers model(concat(WEIR_SOURCE_DIR, "/", GetParam()), compute);
    for (uint32_t seed = 0; seed < 20; ++seed) {
      const testing::CachedCounts counts = model.run_case(seed, seed == 0 ? 1500 : seed % 3 == 0 ? 120 : 300);
      sum.requests += counts.requests, sum.prompt_tokens += counts.prompt_tokens;
      sum.cached_tokens += counts.cached_tokens, sum.preemptions += counts.preemptions;
      sum.tier_tokens += counts.tier_tokens;
      sum.drafted += counts.drafted, sum.accepted += counts.accepted;
    }
  }
  EXPECT_GT(sum.cached_tokens, sum.prompt_tokens / 8) << "enough hits to mean something";
  EXPECT_GT(sum.preemptions, 0);
  EXPECT_GT(sum.tier_tokens, 100);
  EXPECT_GT(sum.drafted, 1000);
  EXPECT_GT(sum.accepted, std::string(GetParam()) == "models/weir-tiny" ? 100 : -1) << "random weights guess nothing right";
}

TEST(Cached, NarrowPagesAndStatesChangeNothingOfThat) {
  for (const char* checkpoint : {"models/weir-tiny", "tests/golden/real_heads"}) {
    testing::CachedAnswers model(concat(WEIR_SOURCE_DIR, "/", checkpoint), DType::kBF16, {.kv = DType::kI8, .state = DType::kBF16});
    testing::CachedCounts sum;
    // What the model answers, and so how full the pools get, depends on the instruction set.
    for (uint32_t seed = 0; seed < 12 || (sum.preemptions == 0 && seed < 60); ++seed) {
      const testing::CachedCounts counts = model.run_case(seed, seed == 0 ? 1500 : 200);
      sum.cached_tokens += counts.cached_tokens, sum.tier_tokens += counts.tier_tokens, sum.preemptions += counts.preemptions;
      sum.drafted += counts.drafted;
    }
    EXPECT_GT(sum.cached_tokens, 1000);
    EXPECT_GT(sum.tier_tokens, 0);
    EXPECT_GT(sum.preemptions, 0);
    EXPECT_GT(sum.drafted, 100);
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, CachedIn,
                         ::testing::Values("models/weir-tiny", "tests/golden/moe", "tests/golden/dense", "tests/golden/real_heads"),
                         [](const auto& test) {
                           std::string name = test.param;
                           name.erase(0, name.rfind('/') + 1);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace weir
