#include "weir/apps/bench_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "weir/apps/bench_arrivals.h"

namespace weir {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;

BenchAnswer answer(double start_s, double ttft_s, std::vector<double> itl_s, int32_t input, int32_t output) {
  BenchAnswer out;
  out.start_s = start_s;
  out.ttft_s = ttft_s;
  out.latency_s = ttft_s;
  for (const double gap : itl_s) out.latency_s += gap;
  out.itl_s = std::move(itl_s);
  out.input_tokens = input;
  out.output_tokens = output;
  return out;
}

BenchAnswer failure() {
  BenchAnswer out;
  out.error = "refused";
  out.input_tokens = 100;
  return out;
}

TEST(BenchMetrics, PercentilesAreLinearBetweenNeighbours) {
  EXPECT_DOUBLE_EQ(percentile({4, 1, 3, 2}, 50), 2.5);
  EXPECT_DOUBLE_EQ(percentile({4, 1, 3, 2}, 25), 1.75);
  EXPECT_DOUBLE_EQ(percentile({10, 20}, 99), 19.9);
  EXPECT_DOUBLE_EQ(percentile({7}, 99), 7);
  EXPECT_DOUBLE_EQ(percentile({1, 2, 3}, 100), 3);
  EXPECT_DOUBLE_EQ(percentile({1, 2, 3}, 0), 1);
  EXPECT_DOUBLE_EQ(percentile({}, 50), 0);
}

TEST(BenchMetrics, DescribesWithThePopulationsDeviation) {
  const std::vector<double> percentiles = {50, 99};
  const Distribution d = describe({2, 4, 4, 4, 5, 5, 7, 9}, percentiles);
  EXPECT_DOUBLE_EQ(d.mean, 5);
  EXPECT_DOUBLE_EQ(d.median, 4.5);
  EXPECT_DOUBLE_EQ(d.std, 2);
  EXPECT_THAT(d.percentiles, ElementsAre(DoubleNear(4.5, 1e-12), DoubleNear(8.86, 1e-12)));
  const Distribution none = describe({}, percentiles);
  EXPECT_EQ(none.mean, 0);
  EXPECT_THAT(none.percentiles, ElementsAre(0, 0));
}

// Two good requests, one of a single token, and one that failed, over four seconds.
TEST(BenchMetrics, AgreesWithNumbersWorkedOutByHand) {
  const std::vector<BenchAnswer> answers = {answer(0.0, 0.5, {0.1, 0.3}, 10, 3), answer(0.25, 1.0, {0.5, 0.5, 0.5}, 20, 6),
                                            answer(2.0, 0.25, {}, 5, 1), failure()};
  const ServeMetrics m = measure(answers, 4.0, {});
  EXPECT_EQ(m.completed, 3);
  EXPECT_EQ(m.failed, 1);
  EXPECT_EQ(m.input_tokens, 35) << "a failed request counts nowhere";
  EXPECT_EQ(m.output_tokens, 10);
  EXPECT_DOUBLE_EQ(m.request_throughput, 0.75);
  EXPECT_DOUBLE_EQ(m.output_throughput, 2.5);
  EXPECT_DOUBLE_EQ(m.total_token_throughput, 11.25);
  EXPECT_THAT(m.ttft_s, ElementsAre(0.5, 1.0, 0.25));
  EXPECT_THAT(m.tpot_s, ElementsAre(DoubleNear(0.2, 1e-12), DoubleNear(0.3, 1e-12))) << "one token has no time per further token";
  EXPECT_THAT(m.e2el_s, ElementsAre(DoubleNear(0.9, 1e-12), DoubleNear(2.5, 1e-12), DoubleNear(0.25, 1e-12)));
  EXPECT_EQ(m.itl_s.size(), 5u);
  EXPECT_EQ(m.request_goodput, 0) << "nothing was asked";
  // Events at 0.5, 0.6, 0.9 | 1.25, 1.75 | 2.25, 2.75 and 2.25.
  EXPECT_EQ(m.max_output_tokens_per_s, 3);
  EXPECT_EQ(m.max_concurrent_requests, 2);
}

TEST(BenchMetrics, AnEndAndAStartAtOneMomentDoNotOverlap) {
  const std::vector<BenchAnswer> answers = {answer(0, 1, {}, 1, 1), answer(1, 1, {}, 1, 1)};
  EXPECT_EQ(measure(answers, 2, {}).max_concurrent_requests, 1);
}

TEST(BenchMetrics, GoodRequestsKeepEveryLimit) {
  const std::vector<BenchAnswer> answers = {answer(0, 0.5, {0.1, 0.3}, 10, 3), answer(0, 1.0, {0.5, 0.5}, 20, 3), answer(2, 0.25, {}, 5, 1),
                                            failure()};
  EXPECT_DOUBLE_EQ(measure(answers, 2, {.ttft_ms = 600}).request_goodput, 1.0);
  EXPECT_DOUBLE_EQ(measure(answers, 2, {.ttft_ms = 600, .tpot_ms = 100}).request_goodput, 0.5) << "the single token has no TPOT to miss";
  EXPECT_DOUBLE_EQ(measure(answers, 2, {.e2el_ms = 10'000}).request_goodput, 1.5);
}

TEST(BenchMetrics, NothingAtAllIsZeros) {
  const ServeMetrics m = measure({}, 0, {});
  EXPECT_EQ(m.completed + m.failed, 0);
  EXPECT_EQ(m.request_throughput, 0);
  EXPECT_EQ(m.max_concurrent_requests, 0);
}

constexpr const char* kBefore = R"(# HELP vllm:spec_decode_num_drafts_total Drafts.
vllm:spec_decode_num_drafts_total{engine="0",model_name="a b"} 10.0
vllm:spec_decode_num_draft_tokens_total{engine="0"} 20.0
vllm:spec_decode_num_accepted_tokens_total{engine="0"} 12.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",position="0"} 8.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",position="1"} 4.0
vllm:spec_decode_num_drafts_created{engine="0"} 1.7e9
)";
constexpr const char* kAfter = R"(vllm:spec_decode_num_drafts_total{engine="0"} 60.0
vllm:spec_decode_num_drafts_total{engine="1"} 50.0
vllm:spec_decode_num_draft_tokens_total{engine="0"} 220
vllm:spec_decode_num_accepted_tokens_total{engine="0"} 162
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",position="0"} 98
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",position="1"} 64
)";

TEST(BenchMetrics, SpeculationIsWhatTheCountersGained) {
  const auto speculation = speculation_between(read_speculation_counters(kBefore), read_speculation_counters(kAfter));
  ASSERT_TRUE(speculation);
  EXPECT_EQ(speculation->counters.drafts, 100) << "engines add up";
  EXPECT_EQ(speculation->counters.draft_tokens, 200);
  EXPECT_EQ(speculation->counters.accepted_tokens, 150);
  EXPECT_DOUBLE_EQ(speculation->acceptance_rate, 75);
  EXPECT_DOUBLE_EQ(speculation->acceptance_length, 2.5);
  EXPECT_THAT(speculation->per_position_rates, ElementsAre(0.9, 0.6));
}

TEST(BenchMetrics, AServerThatDraftsNothingHasNoSpeculation) {
  EXPECT_FALSE(read_speculation_counters("vllm:num_requests_running 0\n"));
  EXPECT_FALSE(read_speculation_counters(""));
  const auto same = read_speculation_counters(kBefore);
  EXPECT_FALSE(speculation_between(same, same));
  EXPECT_FALSE(speculation_between(same, std::nullopt));
}

TEST(BenchMetrics, HostileCountersAreSkipped) {
  const auto counters = read_speculation_counters(
      "vllm:spec_decode_num_drafts_total nan\nvllm:spec_decode_num_drafts_total 1e99\nvllm:spec_decode_num_drafts_total\n"
      "vllm:spec_decode_num_drafts_total{x=\"\n vllm:spec_decode_\nvllm:spec_decode_num_drafts_total -5\n"
      "vllm:spec_decode_num_accepted_tokens_per_pos_total{position=\"x\"} 3\nvllm:spec_decode_num_drafts_total 4");
  ASSERT_TRUE(counters);
  EXPECT_EQ(counters->drafts, 4);
  EXPECT_TRUE(counters->accepted_per_position.empty());
}

TEST(BenchArrivals, WithoutARateComeAllAtOnce) {
  for (const double at : plan_arrivals(10, {}, 1).at_s) EXPECT_EQ(at, 0);
  EXPECT_TRUE(plan_arrivals(0, {.request_rate = 5}, 1).at_s.empty());
}

TEST(BenchArrivals, EndAfterExactlyTheTimeTheRateSays) {
  for (const double burstiness : {0.25, 1.0, 8.0})
    for (const uint64_t seed : {1u, 2u}) {
      const auto at = plan_arrivals(100, {.request_rate = 4, .burstiness = burstiness}, seed).at_s;
      EXPECT_NEAR(at.back(), 25, 1e-9);
      EXPECT_TRUE(std::is_sorted(at.begin(), at.end()));
    }
  EXPECT_EQ(plan_arrivals(100, {.request_rate = 4}, 1).at_s, plan_arrivals(100, {.request_rate = 4}, 1).at_s);
  EXPECT_NE(plan_arrivals(100, {.request_rate = 4}, 1).at_s, plan_arrivals(100, {.request_rate = 4}, 2).at_s);
}

// A gamma distribution of shape k has the mean we ask for and the deviation mean / sqrt(k).
TEST(BenchArrivals, GapsHaveTheMeanAndTheDeviationOfTheGammaDistribution) {
  constexpr int kRequests = 200'000;
  constexpr double kRate = 50;
  for (const double burstiness : {0.5, 1.0, 4.0}) {
    const auto at = plan_arrivals(kRequests, {.request_rate = kRate, .burstiness = burstiness}, 3).at_s;
    std::vector<double> gaps;
    for (size_t i = 0; i < at.size(); ++i) gaps.push_back(at[i] - (i == 0 ? 0 : at[i - 1]));
    const Distribution d = describe(gaps, {});
    EXPECT_NEAR(d.mean, 1 / kRate, 1e-9);
    EXPECT_NEAR(d.std, 1 / kRate / std::sqrt(burstiness), 0.02 / kRate) << burstiness;
  }
}

TEST(BenchArrivals, InfiniteBurstinessIsEven) {
  const auto at = plan_arrivals(4, {.request_rate = 2, .burstiness = std::nullopt}, 1).at_s;
  EXPECT_THAT(at, ElementsAre(DoubleNear(0.5, 1e-12), DoubleNear(1, 1e-12), DoubleNear(1.5, 1e-12), DoubleNear(2, 1e-12)));
}

TEST(BenchArrivals, ARampRisesAndTellsEveryWholeRate) {
  for (const char* strategy : {"linear", "exponential"}) {
    const Arrivals arrivals = plan_arrivals(50, {.burstiness = std::nullopt, .ramp_up = RampUp{strategy, 2, 8}}, 1);
    EXPECT_NEAR(arrivals.at_s[0], 1.0 / 2, 1e-9) << strategy;
    EXPECT_NEAR(arrivals.at_s[49] - arrivals.at_s[48], 1.0 / 8, 1e-9) << strategy;
    ASSERT_EQ(arrivals.rate_changes.size(), 7u) << strategy;
    for (int64_t i = 0; i < 7; ++i) EXPECT_EQ(arrivals.rate_changes[static_cast<size_t>(i)].rps, 2 + i);
    EXPECT_EQ(arrivals.rate_changes[0].at_s, 0);
  }
}

}  // namespace
}  // namespace weir
