// What a client asks of an engine and what comes back. Tokens only: text, templates and stop strings live above (text, api).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "weir/base/small_vector.h"
#include "weir/core/config.h"
#include "weir/core/ids.h"

namespace weir {

// How the next token is drawn. Order of application: logit_bias, allowed ids, bad words, min_tokens (no stop token), penalties,
// temperature, min_p, top_k, top_p, draw. temperature 0 is greedy; ties break to the lowest id.
struct SamplingParams {
  float temperature = 1.0f;
  float top_p = 1.0f;
  int32_t top_k = 0;  // 0: off
  float min_p = 0.0f;
  float presence_penalty = 0.0f;      // over the generated tokens
  float frequency_penalty = 0.0f;     // over the generated tokens
  float repetition_penalty = 1.0f;    // over prompt and generated tokens
  std::optional<uint64_t> seed;       // nullopt: the engine draws one
  int32_t max_tokens = 16;            // generated tokens at most, >= 1
  int32_t min_tokens = 0;             // no stop token before this many
  bool ignore_eos = false;            // the model's own eos ids do not stop
  std::vector<Token> stop_token_ids;  // stop as well, beside the model's eos ids
  std::vector<std::pair<Token, float>> logit_bias;
  std::vector<Token> allowed_token_ids;       // empty: all
  std::vector<std::vector<Token>> bad_words;  // token sequences that must not be completed
  std::optional<int32_t> logprobs;            // nullopt: none; k: the sampled token and the k most likely ones
  std::optional<int32_t> prompt_logprobs;     // the same for every prompt token but the first
};

// Throws Error(kInvalidArgument) that names the field, the value seen and the values allowed.
void validate(const SamplingParams& params, int32_t vocab_size);

struct Request {
  RequestId id{};
  std::vector<Token> prompt;                       // at least one token
  std::shared_ptr<const SamplingParams> sampling;  // shared by the n samples of one HTTP request
  int32_t priority = 0;                            // lower runs first; arrival breaks ties
  bool prompt_only = false;                        // max_tokens 0 (echo with logprobs): stop after the prompt, sample nothing
  std::string cache_salt;                          // prefixes are shared among requests with the same salt only
  std::string trace;                               // X-Request-Id of the client, for log lines
};

struct TokenLogprob {
  Token token;
  float logprob;  // natural logarithm, of the unmodified distribution
  int32_t rank;   // 1 = most likely
};
// Of one position: entry 0 is the token itself, then the k most likely in falling order.
using PositionLogprobs = std::vector<TokenLogprob>;

enum class FinishReason { kStop, kLength, kAbort, kError };

struct Finish {
  FinishReason reason;
  std::optional<Token> stop_token;  // the id in stop_token_ids (or eos) that ended it
  std::string error;                // kError only
};

struct Usage {
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;  // of the prompt, taken from the prefix cache
  int32_t completion_tokens = 0;
  int32_t accepted_drafts = 0, rejected_drafts = 0;  // guesses of a draft head that were right, or computed in vain
};

// What one step adds to a sequence: guesses that were right, and the token drawn after them.
using TokenList = SmallVector<Token, kMaxDrafts + 1>;

// One step's news of one request; several may follow each other quickly, tokens never repeat.
struct RequestOutput {
  RequestId id{};
  TokenList tokens;                               // new ones; includes the stop token that ends the request
  std::vector<PositionLogprobs> logprobs;         // parallel to tokens when asked for, else empty
  std::vector<PositionLogprobs> prompt_logprobs;  // with the first output only: prompt tokens 1 … n-1
  std::optional<Finish> finish;                   // the last output of a request has it
  Usage usage;                                    // so far
};

}  // namespace weir
