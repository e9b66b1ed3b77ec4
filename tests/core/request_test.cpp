#include "weir/core/request.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "weir/base/error.h"

namespace weir {
namespace {

constexpr int32_t kVocab = 100;

// The message validate() refuses with; "" when it accepts.
template <class Change>
std::string refusal(Change change) {
  SamplingParams params;
  change(params);
  try {
    validate(params, kVocab);
  } catch (const Error& e) {
    EXPECT_EQ(e.code, ErrorCode::kInvalidArgument);
    return e.what();
  }
  return "";
}

TEST(ValidateSampling, TheDefaultsAreValid) {
  EXPECT_EQ(refusal([](SamplingParams&) {}), "");
}

TEST(ValidateSampling, TheEdgesOfEveryRangeAreValid) {
  EXPECT_EQ(refusal([](SamplingParams& p) {
              p.temperature = 0;
              p.top_p = 1;
              p.min_p = 1;
              p.presence_penalty = -2;
              p.frequency_penalty = 2;
              p.max_tokens = p.min_tokens = 1;
              p.stop_token_ids = {0, kVocab - 1};
              p.logit_bias = {{kVocab - 1, -100.0f}, {0, 100.0f}};
              p.logprobs = p.prompt_logprobs = 20;
            }),
            "");
}

TEST(ValidateSampling, NamesTheFieldTheRangeAndTheValueSeen) {
  EXPECT_EQ(refusal([](SamplingParams& p) { p.temperature = -0.5f; }), "temperature must be in [0, 100], got -0.5");
  EXPECT_EQ(refusal([](SamplingParams& p) { p.top_p = 0; }), "top_p must be in (0, 1], got 0");
  EXPECT_EQ(refusal([](SamplingParams& p) { p.max_tokens = -1; }), "max_tokens must be at least 1, got -1");
  EXPECT_EQ(refusal([](SamplingParams& p) { p.stop_token_ids = {5, kVocab}; }), "stop_token_ids must hold token ids in [0, 99], got 100");
}

TEST(ValidateSampling, RefusesWhatIsOutsideARange) {
  EXPECT_NE(refusal([](SamplingParams& p) { p.top_k = -1; }), "");
  EXPECT_NE(refusal([](SamplingParams& p) { p.min_p = 1.01f; }), "");
  EXPECT_NE(refusal([](SamplingParams& p) { p.presence_penalty = 2.1f; }), "");
  EXPECT_NE(refusal([](SamplingParams& p) { p.frequency_penalty = -2.1f; }), "");
  EXPECT_NE(refusal([](SamplingParams& p) { p.repetition_penalty = 0; }), "");
  EXPECT_NE(refusal([](SamplingParams& p) { p.min_tokens = p.max_tokens + 1; }), "");
  EXPECT_NE(refusal([](SamplingParams& p) { p.allowed_token_ids = {-1}; }), "");
  EXPECT_NE(refusal([](SamplingParams& p) { p.bad_words = {{1, 2}, {kVocab}}; }), "");
  EXPECT_NE(refusal([](SamplingParams& p) { p.logit_bias = {{1, 101.0f}}; }), "");
  EXPECT_NE(refusal([](SamplingParams& p) { p.logit_bias = {{-7, 0.0f}}; }), "");
  EXPECT_NE(refusal([](SamplingParams& p) { p.logprobs = 21; }), "");
  EXPECT_NE(refusal([](SamplingParams& p) { p.prompt_logprobs = -1; }), "");
}

TEST(ValidateSampling, RefusesNanAndInfinityEverywhere) {
  for (const float value : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    EXPECT_NE(refusal([&](SamplingParams& p) { p.temperature = value; }), "");
    EXPECT_NE(refusal([&](SamplingParams& p) { p.top_p = value; }), "");
    EXPECT_NE(refusal([&](SamplingParams& p) { p.min_p = value; }), "");
    EXPECT_NE(refusal([&](SamplingParams& p) { p.presence_penalty = value; }), "");
    EXPECT_NE(refusal([&](SamplingParams& p) { p.frequency_penalty = value; }), "");
    EXPECT_NE(refusal([&](SamplingParams& p) { p.repetition_penalty = value; }), "");
    EXPECT_NE(refusal([&](SamplingParams& p) { p.logit_bias = {{1, value}}; }), "");
  }
}

}  // namespace
}  // namespace weir
