// Verification of drafts: what is kept, and that it leaves the distribution of the tokens as it is.
#include "weir/runtime/accept.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>

#include "weir/base/error.h"

namespace weir {
namespace {

constexpr int32_t kVocab = 6;
const SampleContext kContext{.eos_token_ids = {}, .num_tokens = kVocab};

Sampling how(SamplingParams params, uint64_t seed = 1) {
  Sampling out;
  out.params = std::make_shared<SamplingParams>(std::move(params));
  out.seed = seed;
  out.history = {0, 1};
  out.prompt_tokens = 2;
  return out;
}

// Logits that put `token` first.
std::vector<float> favour(Token token) {
  std::vector<float> logits(kVocab, 0.0f);
  logits[static_cast<size_t>(token)] = 5.0f;
  return logits;
}

Verdict verify_rows(std::vector<std::vector<float>> logits, const std::vector<Token>& drafts, const Sampling& sampling) {
  std::vector<std::span<float>> rows(logits.begin(), logits.end());
  SampleScratch scratch;
  return verify(rows, drafts, sampling, kContext, scratch);
}

TEST(Verify, WithoutDraftsIsOneDraw) { EXPECT_EQ(verify_rows({favour(3)}, {}, how({.temperature = 0})).tokens, std::vector<Token>{3}); }

TEST(Verify, KeepsDraftsUpToTheFirstThatDiffers) {
  const std::vector<std::vector<float>> logits = {favour(3), favour(1), favour(4), favour(2)};
  const Sampling greedy = how({.temperature = 0});
  EXPECT_EQ(verify_rows(logits, {3, 1, 4}, greedy).tokens, (std::vector<Token>{3, 1, 4, 2})) << "all agree: one more for nothing";
  EXPECT_EQ(verify_rows(logits, {3, 1, 5}, greedy).tokens, (std::vector<Token>{3, 1, 4}));
  EXPECT_EQ(verify_rows(logits, {3, 0, 4}, greedy).tokens, (std::vector<Token>{3, 1})) << "a later agreement does not count";
  EXPECT_EQ(verify_rows(logits, {2, 1, 4}, greedy).tokens, std::vector<Token>{3});
}

TEST(Verify, ReportsTheLogprobsOfWhatItKeeps) {
  const Verdict verdict = verify_rows({favour(3), favour(1), favour(4)}, {3, 0}, how({.temperature = 0, .logprobs = 1}));
  ASSERT_EQ(verdict.logprobs.size(), 2u);
  EXPECT_EQ(verdict.logprobs[1][0].token, 1);
}

TEST(Verify, PenaltiesCountTheDraftsBefore) {
  // Token 3 leads by 5; once it has been generated a frequency penalty of 2 per time leaves it ahead twice, not three times.
  const Sampling sampling = how({.temperature = 0, .frequency_penalty = 2.0f});
  EXPECT_EQ(verify_rows({favour(3), favour(3), favour(3), favour(3)}, {3, 3, 3}, sampling).tokens, (std::vector<Token>{3, 3, 3, 0}));
}

TEST(Verify, MinTokensAreCountedPerPosition) {
  Sampling sampling = how({.temperature = 0, .min_tokens = 2, .stop_token_ids = {3}});
  EXPECT_EQ(verify_rows({favour(3), favour(3), favour(3)}, {0, 0}, sampling).tokens, (std::vector<Token>{0, 0, 3}));
}

TEST(Verify, FailsWhenNothingCanBeDrawn) {
  std::vector<float> broken = favour(1);
  broken[2] = NAN;
  EXPECT_THROW(verify_rows({favour(3), broken}, {3}, how({.temperature = 0})), Error);
}

// Two tokens after each other, the second one's logits depending on the first. Drafted: the likeliest pair; where the first differs the
// second is drawn in a step of its own, as the engine would.
using Pair = std::pair<Token, Token>;

std::vector<float> logits_after(Token previous, uint64_t salt) {
  std::mt19937_64 rng(salt * 100 + static_cast<uint64_t>(previous));
  std::normal_distribution<float> normal(0, 1.5f);
  std::vector<float> out(kVocab);
  for (float& value : out) value = normal(rng);
  return out;
}

Pair draw_speculatively(const Sampling& sampling, uint64_t salt) {
  const std::vector<float> first = logits_after(0, salt);
  const Token draft = argmax(first);
  const Verdict verdict = verify_rows({first, logits_after(draft, salt)}, {draft}, sampling);
  if (verdict.tokens.size() == 2) return {verdict.tokens[0], verdict.tokens[1]};
  Sampling next = sampling;
  next.output_index = 1;
  next.history.push_back(verdict.tokens[0]);
  return {verdict.tokens[0], verify_rows({logits_after(verdict.tokens[0], salt)}, {}, next).tokens[0]};
}

Pair draw_plainly(const Sampling& sampling, uint64_t salt) {
  std::vector<float> logits = logits_after(0, salt);
  SampleScratch scratch;
  const Token first = sample(logits, sampling, kContext, scratch).token;
  Sampling next = sampling;
  next.output_index = 1;
  next.history.push_back(first);
  logits = logits_after(first, salt);
  return {first, sample(logits, next, kContext, scratch).token};
}

class VerifiedPairs : public testing::TestWithParam<SamplingParams> {};

TEST_P(VerifiedPairs, AreThePlainOnesOfTheSameSeed) {
  for (uint64_t seed = 0; seed < 5'000; ++seed) {
    const Sampling sampling = how(GetParam(), seed);
    ASSERT_EQ(draw_speculatively(sampling, 7), draw_plainly(sampling, 7)) << "seed " << seed;
  }
}

// Over seeds that plain decoding does not share: two samples of 50,000 pairs from the same distribution. The statistic of Pearson for two
// histograms has as many degrees of freedom as there are pairs, less one; its mean is that and its variance twice that.
TEST_P(VerifiedPairs, HaveTheDistributionOfPlainDecoding) {
  constexpr int kSamples = 50'000;
  std::map<Pair, std::pair<double, double>> counts;
  for (uint64_t i = 0; i < kSamples; ++i) {
    ++counts[draw_speculatively(how(GetParam(), i), 7)].first;
    ++counts[draw_plainly(how(GetParam(), kSamples + i), 7)].second;
  }
  double chi_square = 0;
  for (const auto& [pair, count] : counts) {
    const auto [a, b] = count;
    chi_square += (a - b) * (a - b) / (a + b);
  }
  const auto freedom = static_cast<double>(counts.size() - 1);
  EXPECT_GT(counts.size(), 4u);
  EXPECT_LT(chi_square, freedom + 3.3 * std::sqrt(2 * freedom)) << counts.size() << " different pairs";
}

INSTANTIATE_TEST_SUITE_P(Parameters, VerifiedPairs,
                         testing::Values(SamplingParams{.temperature = 1.0f}, SamplingParams{.temperature = 0.7f, .top_p = 0.9f},
                                         SamplingParams{.temperature = 1.3f, .top_k = 4, .min_p = 0.05f},
                                         SamplingParams{.temperature = 1.0f, .presence_penalty = 0.8f, .repetition_penalty = 1.2f}));

}  // namespace
}  // namespace weir
