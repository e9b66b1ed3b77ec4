// Logprobs as OpenAI and vLLM write them. -inf becomes -9999, because JSON has no infinity.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "weir/base/json.h"
#include "weir/core/request.h"
#include "weir/text/tokenizer.h"

namespace weir {

struct LogprobStyle {
  int32_t top = 0;             // alternatives per position
  bool tokens_as_ids = false;  // "token_id:123" instead of text
};

// The "logprobs" of a completions choice, filled position by position: tokens, token_logprobs, top_logprobs, text_offset.
class CompletionLogprobs {
 public:
  CompletionLogprobs(const Tokenizer& tokenizer, LogprobStyle style) : tokenizer_(tokenizer), style_(style) {}

  void add_unknown(Token token);  // the first token of a prompt: nothing predicts it
  void add(const PositionLogprobs& position);
  Json take();  // what was added since the last take; offsets go on, in characters

 private:
  void add_token(const std::string& text);

  const Tokenizer& tokenizer_;
  LogprobStyle style_;
  int64_t offset_ = 0;
  Json tokens_ = Json::array(), token_logprobs_ = Json::array(), top_logprobs_ = Json::array(), text_offset_ = Json::array();
};

// {"content": [{token, logprob, bytes, top_logprobs}, …]}
Json chat_logprobs(const Tokenizer& tokenizer, std::span<const PositionLogprobs> positions, LogprobStyle style);

// vLLM's "prompt_logprobs": null for the first token, then {"<id>": {logprob, rank, decoded_token}, …} per token.
Json prompt_logprobs_json(const Tokenizer& tokenizer, std::span<const PositionLogprobs> positions, LogprobStyle style);

}  // namespace weir
