#include "tests/apps/cached_answers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "weir/base/error.h"

namespace weir {
namespace {

class CachedIn : public ::testing::TestWithParam<const char*> {};

// What a model answers, and so how full the pools get, depends on the instruction set: cases go on until they have seen enough.
template <class Enough>
void run_cases(testing::CachedAnswers& model, uint32_t at_least, testing::CachedCounts& sum, const Enough& enough) {
  for (uint32_t seed = 0; seed < at_least || (!enough() && seed < 5 * at_least); ++seed) {
    const testing::CachedCounts counts = model.run_case(seed, seed == 0 ? 1500 : seed % 3 == 0 ? 120 : 300);
    sum.requests += counts.requests, sum.prompt_tokens += counts.prompt_tokens;
    sum.cached_tokens += counts.cached_tokens, sum.preemptions += counts.preemptions;
    sum.tier_tokens += counts.tier_tokens;
    sum.drafted += counts.drafted, sum.accepted += counts.accepted;
  }
}

TEST_P(CachedIn, AnswersAreThoseOfColdRequestsBitForBit) {
  testing::CachedCounts sum;
  const auto enough = [&] { return sum.preemptions > 0 && sum.tier_tokens > 100; };
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    testing::CachedAnswers model(concat(WEIR_SOURCE_DIR, "/", GetParam()), compute);
    run_cases(model, 20, sum, enough);
  }
  EXPECT_GT(sum.cached_tokens, sum.prompt_tokens / 8) << "enough hits to mean something";
  EXPECT_TRUE(enough()) << sum.preemptions << " preemptions, " << sum.tier_tokens << " tokens from the tier";
  EXPECT_GT(sum.drafted, 1000);
  EXPECT_GT(sum.accepted, std::string(GetParam()) == "models/weir-tiny" ? 100 : -1) << "random weights guess nothing right";
}

TEST(Cached, NarrowPagesAndStatesChangeNothingOfThat) {
  for (const char* checkpoint : {"models/weir-tiny", "tests/golden/real_heads"}) {
    testing::CachedAnswers model(concat(WEIR_SOURCE_DIR, "/", checkpoint), DType::kBF16, {.kv = DType::kI8, .state = DType::kBF16});
    testing::CachedCounts sum;
    const auto enough = [&] { return sum.preemptions > 0 && sum.tier_tokens > 0; };
    run_cases(model, 12, sum, enough);
    EXPECT_GT(sum.cached_tokens, 1000);
    EXPECT_TRUE(enough()) << sum.preemptions << " preemptions, " << sum.tier_tokens << " tokens from the tier";
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
