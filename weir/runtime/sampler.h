// From a row of logits to a token: penalties, masks, temperature, truncation, draw. Pure functions; a draw depends on
// (logits, Sampling) only, never on the batch, so a seeded request repeats itself wherever it runs.
#pragma once

#include <span>

#include "weir/core/plan.h"

namespace weir {

struct SampleContext {
  std::span<const Token> eos_token_ids;  // masked, with stop_token_ids, while output_index < min_tokens
  int32_t num_tokens = 0;                // ids >= this are padding rows of the vocabulary: never drawn, never listed
};

// What a draw works in; kept by the caller, so that draws allocate nothing once it has grown. One thread at a time.
struct SampleScratch {
  SampleScratch() = default;
  explicit SampleScratch(int32_t num_tokens) {  // for draws among so many
    candidates.reserve(static_cast<size_t>(num_tokens));
    weights.reserve(static_cast<size_t>(num_tokens));
    sums.reserve(static_cast<size_t>(num_tokens));
  }
  struct Candidate {
    float logit;
    Token id;
  };
  struct Seen {
    Token id;
    int32_t in_output;  // 1, or 0: in the prompt
  };
  std::vector<Candidate> candidates;
  std::vector<Seen> seen;
  std::vector<float> weights, raw, kept;
  std::vector<double> sums;
};

struct Sample {
  Token token = 0;
  PositionLogprobs logprobs;  // when asked for: the token, then the k most likely ones
};

// `logits` [vocab_size] is used as scratch. Throws Error when no token can be drawn (non-finite logits, everything masked).
Sample sample(std::span<float> logits, const Sampling& how, const SampleContext& context, SampleScratch& scratch);

// Log-probability of `token` and of the k most likely tokens under softmax(logits), untouched by any sampling parameter.
PositionLogprobs top_logprobs(std::span<const float> logits, Token token, int32_t k);

// Index of the largest value, ties to the lowest; -1 when a value is NaN or none is finite.
Token argmax(std::span<const float> logits);

// Uniform in [0, 1) from a counter: the n-th draw of a seed, in any order (splitmix64 finaliser over both).
double uniform(uint64_t seed, uint64_t n);

}  // namespace weir
