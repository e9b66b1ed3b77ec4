#include "weir/runtime/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "weir/base/error.h"

namespace weir {
namespace {

Sampling how(SamplingParams params, uint64_t seed = 1, int32_t output_index = 0) {
  Sampling s;
  s.params = std::make_shared<const SamplingParams>(std::move(params));
  s.seed = seed;
  s.output_index = output_index;
  return s;
}

Token draw(std::vector<float> logits, const Sampling& sampling, int32_t num_tokens = -1) {
  const std::vector<Token> eos = {3};
  SampleScratch scratch;
  const SampleContext context{.eos_token_ids = eos, .num_tokens = num_tokens < 0 ? static_cast<int32_t>(logits.size()) : num_tokens};
  return sample(logits, sampling, context, scratch).token;
}

// Shares of the tokens over many output positions.
std::map<Token, double> shares(const std::vector<float>& logits, Sampling sampling, int n = 40'000) {
  std::map<Token, double> out;
  for (int i = 0; i < n; ++i) {
    sampling.output_index = i;
    out[draw(logits, sampling)] += 1.0 / n;
  }
  return out;
}

TEST(Sampler, GreedyTakesTheLowestOfEqualLogits) { EXPECT_EQ(draw({1, 5, 5, 2}, how({.temperature = 0})), 1); }

TEST(Sampler, NeverDrawsPaddingRows) {
  EXPECT_EQ(draw({1, 2, 9, 9}, how({.temperature = 0}), 2), 1);
  for (int i = 0; i < 1000; ++i) EXPECT_LT(draw({1, 2, 50, 50}, how({}, 7, i), 2), 2);
}

TEST(Sampler, DrawsFromTheSoftmax) {
  const std::vector<float> logits = {0, 1, 2, -1};
  const double total = std::exp(0) + std::exp(1) + std::exp(2) + std::exp(-1);
  const auto got = shares(logits, how({}));
  for (Token t = 0; t < 4; ++t) EXPECT_NEAR(got.at(t), std::exp(logits[static_cast<size_t>(t)]) / total, 0.01) << t;
}

TEST(Sampler, TheSmallestTemperatureIsNearlyGreedy) {
  for (const float temperature : {1e-3f, 1e-30f, 1e-42f})
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(draw({0, 3, 2, 1}, how({.temperature = temperature}, 1, i)), 1) << temperature;
      EXPECT_EQ(draw({0, 3, 2, 1}, how({.temperature = temperature, .top_p = 0.9f}, 1, i)), 1) << temperature;
      EXPECT_EQ(draw({0, 3, 2, 1}, how({.temperature = temperature, .top_k = 2}, 1, i)), 1) << temperature;
    }
}

TEST(Sampler, TemperatureSharpens) {
  const auto got = shares({0, 1}, how({.temperature = 0.5f}));
  EXPECT_NEAR(got.at(1), std::exp(2.0) / (1 + std::exp(2.0)), 0.01);
}

TEST(Sampler, TopKTopPAndMinPCutTheTail) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)};
  EXPECT_EQ(shares(logits, how({.top_k = 2})).size(), 2u);
  EXPECT_EQ(shares(logits, how({.top_p = 0.79f})).size(), 2u);
  EXPECT_EQ(shares(logits, how({.top_p = 0.81f})).size(), 3u);
  EXPECT_EQ(shares(logits, how({.min_p = 0.25f})).size(), 3u);
  EXPECT_NEAR(shares(logits, how({.top_k = 2})).at(0), 0.5 / 0.8, 0.01);
}

TEST(Sampler, TopKOfManyLogitsIsTheSortedHead) {
  std::vector<float> logits(5000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>((i * 7919) % 5000) / 5000.0f;
  const auto got = shares(logits, how({.top_k = 3}), 2000);
  EXPECT_EQ(got.size(), 3u);
  for (const auto& [token, share] : got) EXPECT_GE(logits[static_cast<size_t>(token)], 4997.0f / 5000.0f);
}

// The likeliest tokens that together hold top_p, by sorting all of them.
std::set<Token> nucleus(const std::vector<float>& logits, double top_p, float temperature) {
  std::vector<Token> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto weight = [&](Token id) { return std::exp(static_cast<double>(logits[static_cast<size_t>(id)]) / temperature); };
  std::stable_sort(order.begin(), order.end(),
                   [&](Token a, Token b) { return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)]; });
  double total = 0, sum = 0;
  for (const Token id : order) total += weight(id);
  std::set<Token> out;
  for (size_t i = 0; i < order.size() && (i == 0 || sum < top_p * total); ++i) {
    out.insert(order[i]);
    sum += weight(order[i]);
  }
  return out;
}

TEST(Sampler, TopPOfManyLogitsDrawsFromTheNucleusAndFromAllOfIt) {
  std::mt19937 rng(3);
  for (const float spread : {0.05f, 1.0f, 4.0f}) {  // flat, ordinary, peaked
    std::normal_distribution<float> normal(0.0f, spread);
    std::vector<float> logits(3000);
    for (float& logit : logits) logit = normal(rng);
    const std::set<Token> want = nucleus(logits, 0.9, 0.8f);
    const auto got = shares(logits, how({.temperature = 0.8f, .top_p = 0.9f}), 20'000);
    for (const auto& [token, share] : got) EXPECT_TRUE(want.contains(token)) << token << " of spread " << spread;
    if (want.size() < 200) {
      EXPECT_GT(got.size(), want.size() * 9 / 10);
    }
  }
}

TEST(Sampler, TheWholeOfALargeVocabularyIsDrawnFromAsOftenAsItShould) {
  std::vector<float> logits(2000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = i < 1000 ? 1.0f : 0.0f;  // in the ratio of e to 1
  logits[1999] = -std::numeric_limits<float>::infinity();
  const auto got = shares(logits, how({}), 40'000);
  double first_half = 0;
  for (const auto& [token, share] : got) first_half += token < 1000 ? share : 0;
  EXPECT_NEAR(first_half, std::exp(1) / (std::exp(1) + 1), 0.01);
  EXPECT_FALSE(got.contains(1999)) << "masked";
  EXPECT_GT(got.size(), 1900u);
  const auto cut = shares(logits, how({.min_p = 0.5f}), 5'000);
  for (const auto& [token, share] : cut) EXPECT_LT(token, 1000) << "min_p cuts the rest";
}

TEST(Sampler, ATopKBeyondAHeapIsTheSortedHead) {
  std::vector<float> logits(5000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>((i * 7919) % 5000) / 5000.0f;
  for (const auto& [token, share] : shares(logits, how({.top_p = 0.99f, .top_k = 2000}), 3000))
    EXPECT_GE(logits[static_cast<size_t>(token)], 3000.0f / 5000.0f);
}

TEST(Sampler, ADrawDependsOnSeedAndIndexOnly) {
  const std::vector<float> logits(100, 0.0f);
  EXPECT_EQ(draw(logits, how({}, 5, 9)), draw(logits, how({}, 5, 9)));
  int different = 0;
  for (int i = 0; i < 100; ++i) different += draw(logits, how({}, 5, i)) != draw(logits, how({}, 6, i)) ? 1 : 0;
  EXPECT_GT(different, 90);
}

TEST(Sampler, PenaltiesCountPromptAndOutputAsVllmDoes) {
  Sampling s = how({.temperature = 0, .repetition_penalty = 2.0f});
  s.history = {0, 1};
  s.prompt_tokens = 1;
  EXPECT_EQ(draw({4, 4, 2.5f, -9}, s), 2);  // both the prompt's and the output's token are halved
  s = how({.temperature = 0, .frequency_penalty = 0.5f});
  s.history = {0, 0, 1, 1, 1};
  s.prompt_tokens = 2;
  EXPECT_EQ(draw({1, 2, 0, 0}, s), 0);  // 2 - 3 · 0.5 < 1: the prompt does not count
  s = how({.temperature = 0, .presence_penalty = 1.5f});
  s.history = {1, 1};
  s.prompt_tokens = 0;
  EXPECT_EQ(draw({1, 2, 0, 0}, s), 0);
}

TEST(Sampler, BiasAllowedIdsAndBadWordsMaskTokens) {
  EXPECT_EQ(draw({5, 4, 3, 2}, how({.temperature = 0, .logit_bias = {{2, 10.0f}}})), 2);
  EXPECT_EQ(draw({5, 4, 3, 2}, how({.temperature = 0, .allowed_token_ids = {1, 2}})), 1);
  Sampling s = how({.temperature = 0, .bad_words = {{7, 0}, {1}}});
  s.history = {7};
  s.prompt_tokens = 0;
  EXPECT_EQ(draw({5, 4, 3, 2}, s), 2);  // "7 0" would be completed, "1" is forbidden by itself
  s.history = {8};
  EXPECT_EQ(draw({5, 4, 3, 2}, s), 0);
}

TEST(Sampler, StopTokensWaitForMinTokens) {
  Sampling s = how({.temperature = 0, .min_tokens = 3, .stop_token_ids = {2}});
  s.output_index = 3;
  EXPECT_EQ(draw({1, 2, 5, 6}, s), 3);
  s.output_index = 2;
  EXPECT_EQ(draw({1, 2, 5, 6}, s), 1);  // eos 3 and stop id 2 are masked
}

TEST(Sampler, ReportsWhatCannotBeDrawn) {
  EXPECT_THROW(draw({NAN, 1, 2, 3}, how({})), Error);
  EXPECT_THROW(draw({1, 2, 3, 4}, how({.bad_words = {{0}, {1}, {2}, {3}}})), Error);
}

TEST(Sampler, LogprobsAreOfTheUntouchedDistribution) {
  std::vector<float> logits = {0, 1, 2, 3};
  const std::vector<Token> eos;
  SampleScratch scratch;
  const Sample s =
      sample(logits, how({.temperature = 0, .logit_bias = {{0, 100.0f}}, .logprobs = 2}), {.eos_token_ids = eos, .num_tokens = 4}, scratch);
  const double total = 1 + std::exp(1) + std::exp(2) + std::exp(3);
  ASSERT_EQ(s.logprobs.size(), 3u);
  EXPECT_EQ(s.logprobs[0].token, 0);
  EXPECT_EQ(s.logprobs[0].rank, 4);
  EXPECT_NEAR(s.logprobs[0].logprob, std::log(1 / total), 1e-5);
  EXPECT_EQ(s.logprobs[1].token, 3);
  EXPECT_EQ(s.logprobs[2].token, 2);
}

TEST(Sampler, UniformIsUniform) {
  double sum = 0;
  int low = 0;
  for (uint64_t i = 0; i < 100'000; ++i) {
    const double u = uniform(i / 1000, i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    low += u < 0.1 ? 1 : 0;
  }
  EXPECT_NEAR(sum / 100'000, 0.5, 0.005);
  EXPECT_NEAR(low, 10'000, 400);
}

}  // namespace
}  // namespace weir
