#include "weir/core/request.h"

#include "weir/base/error.h"

namespace weir {

void validate(const SamplingParams& p, int32_t vocab_size) {
  const auto bad = [](const char* name, const char* allowed, auto seen) {
    fail(ErrorCode::kInvalidArgument, name, " must be ", allowed, ", got ", seen);
  };
  // Written so that NaN fails too.
  if (!(p.temperature >= 0 && p.temperature <= 100)) bad("temperature", "in [0, 100]", p.temperature);
  if (!(p.top_p > 0 && p.top_p <= 1)) bad("top_p", "in (0, 1]", p.top_p);
  if (p.top_k < 0) bad("top_k", "-1 or 0 (off), or at least 1", p.top_k);
  if (!(p.min_p >= 0 && p.min_p <= 1)) bad("min_p", "in [0, 1]", p.min_p);
  if (!(p.presence_penalty >= -2 && p.presence_penalty <= 2)) bad("presence_penalty", "in [-2, 2]", p.presence_penalty);
  if (!(p.frequency_penalty >= -2 && p.frequency_penalty <= 2)) bad("frequency_penalty", "in [-2, 2]", p.frequency_penalty);
  if (!(p.repetition_penalty > 0 && p.repetition_penalty <= 100)) bad("repetition_penalty", "in (0, 100]", p.repetition_penalty);
  if (p.max_tokens < 1) bad("max_tokens", "at least 1", p.max_tokens);
  if (p.min_tokens < 0 || p.min_tokens > p.max_tokens) bad("min_tokens", "in [0, max_tokens]", p.min_tokens);
  const auto check_ids = [&](const char* name, const std::vector<Token>& ids) {
    for (const Token id : ids)
      if (id < 0 || id >= vocab_size)
        fail(ErrorCode::kInvalidArgument, name, " must hold token ids in [0, ", vocab_size - 1, "], got ", id);
  };
  check_ids("stop_token_ids", p.stop_token_ids);
  check_ids("allowed_token_ids", p.allowed_token_ids);
  for (const auto& word : p.bad_words) check_ids("bad_words", word);
  for (const auto& [id, bias] : p.logit_bias) {
    check_ids("logit_bias", {id});
    if (!(bias >= -100 && bias <= 100)) bad("logit_bias", "in [-100, 100]", bias);
  }
  if (p.logprobs && (*p.logprobs < 0 || *p.logprobs > 20)) bad("logprobs", "in [0, 20]", *p.logprobs);
  if (p.prompt_logprobs && (*p.prompt_logprobs < 0 || *p.prompt_logprobs > 20)) bad("prompt_logprobs", "in [0, 20]", *p.prompt_logprobs);
}

}  // namespace weir
