#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "elementwise_support.h"
#include "weir/ops/elementwise.h"

namespace weir::ops {
namespace {

class Route : public testing::Test {
 protected:
  Routing of(const std::vector<float>& logits, int64_t experts, int64_t top_k, bool shared = false) {
    Tensor x = arena_.empty({1, static_cast<int64_t>(logits.size())});
    std::copy(logits.begin(), logits.end(), x.data<float>());
    return route(ctx_, x, experts, top_k, shared);
  }
  static std::vector<int32_t> ids(const Routing& r) { return {r.ids.data<int32_t>(), r.ids.data<int32_t>() + r.ids.numel()}; }
  static std::vector<float> weights(const Routing& r) { return {r.weights.data<float>(), r.weights.data<float>() + r.weights.numel()}; }

  ThreadPool team_{2, /*pin=*/false};
  Arena arena_{size_t{64} << 20};
  Context ctx_{team_, arena_};
};

TEST_F(Route, IsTheNormalisedTopOfTheSoftmax) {
  const int64_t tokens = 50, experts = 130, top_k = 8;
  Tensor logits = random_normal({tokens, experts + 1}, 1, 2.0f);
  for (int64_t i = 0; i < logits.numel(); ++i)  // BF16 values: with ties
    logits.data<float>()[i] = bf16_to_f32(static_cast<uint16_t>(f32_to_bf16(logits.data<float>()[i]) & 0xfff0u));
  const Routing r = route(ctx_, logits, experts, top_k, true);
  for (int64_t t = 0; t < tokens; ++t) {
    const float* row = logits.data<float>() + t * (experts + 1);
    std::vector<int32_t> order(static_cast<size_t>(experts));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return row[a] > row[b]; });
    double all = 0, chosen = 0;
    for (int64_t e = 0; e < experts; ++e) all += std::exp(static_cast<double>(row[e]));
    for (int64_t k = 0; k < top_k; ++k) chosen += std::exp(static_cast<double>(row[order[static_cast<size_t>(k)]])) / all;
    for (int64_t k = 0; k < top_k; ++k) {
      const int32_t e = order[static_cast<size_t>(k)];
      ASSERT_EQ(r.ids.data<int32_t>()[t * (top_k + 1) + k], e) << "token " << t << " choice " << k;
      ASSERT_NEAR(r.weights.data<float>()[t * (top_k + 1) + k], std::exp(static_cast<double>(row[e])) / all / chosen, 1e-6);
    }
    ASSERT_EQ(r.ids.data<int32_t>()[t * (top_k + 1) + top_k], experts);
    ASSERT_NEAR(r.weights.data<float>()[t * (top_k + 1) + top_k], 1.0 / (1.0 + std::exp(-static_cast<double>(row[experts]))), 1e-6);
  }
}

TEST_F(Route, BreaksTiesToTheLowerId) {
  const Routing r = of({1, 3, 2, 3, 2, 3}, 6, 4);
  EXPECT_EQ(ids(r), (std::vector<int32_t>{1, 3, 5, 2}));
  const Routing all_equal = of({0, 0, 0, 0}, 4, 2);
  EXPECT_EQ(ids(all_equal), (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(weights(all_equal), (std::vector<float>{0.5f, 0.5f}));
}

TEST_F(Route, TakesAllExpertsWhenAllAreWanted) { EXPECT_EQ(ids(of({1, 5, 3}, 3, 3)), (std::vector<int32_t>{1, 2, 0})); }

TEST_F(Route, KeepsIdsValidForLogitsThatAreNotNumbers) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(ids(of({nan, nan, nan}, 3, 2)), (std::vector<int32_t>{0, 1}));
  const Routing r = of({nan, 2, -inf, inf, inf}, 5, 3);
  EXPECT_EQ(ids(r), (std::vector<int32_t>{3, 4, 1}));
  EXPECT_EQ(weights(r), (std::vector<float>{0.5f, 0.5f, 0.0f}));
}

TEST_F(Route, SurvivesLargeLogits) {
  const Routing r = of({3e38f, -3e38f, 1}, 3, 2);
  EXPECT_EQ(ids(r), (std::vector<int32_t>{0, 2}));
  EXPECT_EQ(weights(r), (std::vector<float>{1.0f, 0.0f}));
}

}  // namespace
}  // namespace weir::ops
