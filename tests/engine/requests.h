// Requests for engine tests, and what has come back for one.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "tests/engine/fake_executor.h"
#include "weir/core/request.h"

namespace weir::testing {

inline std::vector<Token> random_prompt(std::mt19937& rng, int32_t length) {
  std::vector<Token> prompt;
  for (int32_t i = 0; i < length; ++i) prompt.push_back(static_cast<Token>(rng() % kFakeVocab));
  return prompt;
}

inline Request make_request(uint64_t id, std::vector<Token> prompt, SamplingParams params) {
  Request request;
  request.id = RequestId{id};
  request.prompt = std::move(prompt);
  request.sampling = std::make_shared<const SamplingParams>(std::move(params));
  return request;
}

// Greedy, never ended by a stop token: exactly max_tokens long.
inline SamplingParams tokens_exactly(int32_t max_tokens) {
  SamplingParams params;
  params.temperature = 0;
  params.ignore_eos = true;
  params.max_tokens = max_tokens;
  return params;
}

// Any mix of what a request can ask for that fits a context of max_model_len; seeded, so that its answer is known beforehand.
inline Request random_request(std::mt19937& rng, uint64_t id, int32_t max_prompt, int32_t max_tokens) {
  const auto one_in = [&](unsigned n) { return rng() % n == 0; };
  SamplingParams params;
  params.temperature = one_in(2) ? 0.0f : 1.0f;
  params.seed = rng();
  params.max_tokens = 1 + static_cast<int32_t>(rng() % static_cast<unsigned>(max_tokens));
  if (one_in(4)) params.min_tokens = static_cast<int32_t>(rng() % static_cast<unsigned>(params.max_tokens + 1));
  params.ignore_eos = !one_in(3);
  if (one_in(3)) params.stop_token_ids = {static_cast<Token>(rng() % kFakeVocab), static_cast<Token>(rng() % kFakeVocab)};
  if (one_in(4)) params.repetition_penalty = 1.1f;
  if (one_in(4)) params.logprobs = static_cast<int32_t>(rng() % 3);
  if (one_in(4)) params.prompt_logprobs = static_cast<int32_t>(rng() % 3);
  Request request = make_request(id, random_prompt(rng, 1 + static_cast<int32_t>(rng() % static_cast<unsigned>(max_prompt))), params);
  request.prompt_only = one_in(8);
  return request;
}

// The outputs of one request, put together.
struct Answer {
  std::vector<Token> tokens;
  std::vector<PositionLogprobs> logprobs, prompt_logprobs;
  int num_outputs = 0;
  std::optional<Finish> finish;
  Usage usage;

  void take(RequestOutput output) {
    EXPECT_FALSE(finish) << "an output after the last one";
    EXPECT_TRUE(output.prompt_logprobs.empty() || num_outputs == 0) << "prompt logprobs in a later output";
    ++num_outputs;
    tokens.insert(tokens.end(), output.tokens.begin(), output.tokens.end());
    logprobs.insert(logprobs.end(), output.logprobs.begin(), output.logprobs.end());
    prompt_logprobs.insert(prompt_logprobs.end(), output.prompt_logprobs.begin(), output.prompt_logprobs.end());
    finish = std::move(output.finish);
    usage = output.usage;
  }
};

inline std::vector<std::pair<Token, float>> flat(const std::vector<PositionLogprobs>& positions) {
  std::vector<std::pair<Token, float>> out;
  for (const PositionLogprobs& position : positions)
    for (const TokenLogprob& entry : position) out.emplace_back(entry.token, entry.logprob);
  return out;
}

inline void expect_answer(const Answer& answer, const Request& request, const EngineConfig& config) {
  SCOPED_TRACE(::testing::Message() << "request " << index(request.id));
  const Expected expected = expected_answer(request, config);
  ASSERT_TRUE(answer.finish);
  EXPECT_EQ(answer.finish->reason, expected.reason) << answer.finish->error;
  EXPECT_EQ(answer.finish->stop_token.has_value(), expected.reason == FinishReason::kStop);
  EXPECT_EQ(answer.tokens, expected.tokens);
  EXPECT_EQ(flat(answer.logprobs), flat(expected.logprobs));
  EXPECT_EQ(flat(answer.prompt_logprobs), flat(expected.prompt_logprobs));
  EXPECT_EQ(answer.usage.prompt_tokens, static_cast<int32_t>(request.prompt.size()));
  EXPECT_EQ(answer.usage.completion_tokens, static_cast<int32_t>(expected.tokens.size()));
}

}  // namespace weir::testing
