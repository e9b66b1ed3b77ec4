#include "weir/engine/policy.h"

#include <algorithm>

#include "weir/base/error.h"

namespace weir {
namespace {

bool contains(const std::vector<Token>& ids, Token token) { return std::find(ids.begin(), ids.end(), token) != ids.end(); }

}  // namespace

bool RunsBefore::operator()(const Sequence* a, const Sequence* b) const {
  if (a->request.priority != b->request.priority) return a->request.priority < b->request.priority;
  return index(a->id) < index(b->id);
}

int32_t chunk_tokens(const Sequence& seq, int32_t budget, bool may_split_block, const SchedulerConfig& config) {
  const int32_t wanted = seq.num_pending();
  int32_t count = std::min(wanted, budget);
  if (config.long_prefill_token_threshold > 0) count = std::min(count, std::max(config.long_prefill_token_threshold, kChunkAlign));
  if (count == wanted) return count;
  const int32_t aligned = (seq.num_computed + count) / kChunkAlign * kChunkAlign - seq.num_computed;
  if (aligned > 0) return aligned;
  return may_split_block ? count : 0;
}

int32_t pages_to_admit(const Sequence& seq, int32_t num_running) {
  if (num_running == 0) return pages_for(seq.num_tokens());
  return pages_for(int64_t{seq.num_tokens()} + 1) + num_running;
}

int32_t reusable_tokens(const Sequence& seq) {
  const bool reports = seq.request.sampling->prompt_logprobs && seq.num_prompt_logprobs < seq.num_prompt - 1;
  return reports ? seq.num_prompt_logprobs : seq.num_tokens() - 1;  // token i reports on token i + 1
}

int32_t drafts_to_verify(const Sequence& seq, int32_t most, const EngineConfig& config) {
  const int32_t tokens_left =
      std::min(seq.request.sampling->max_tokens - seq.num_output(), config.scheduler.max_model_len - seq.num_tokens());
  const int32_t block_left = kSlotBlock - seq.num_computed % kSlotBlock;
  // One token of each is the one drawn anyway.
  return std::max(0, std::min({most, static_cast<int32_t>(seq.drafts.size()), tokens_left - 1, block_left - 1}));
}

std::optional<Finish> finish_after_token(const Sequence& seq, const EngineConfig& config) {
  const SamplingParams& sampling = *seq.request.sampling;
  const Token last = seq.tokens.back();
  if (seq.num_output() >= sampling.min_tokens) {
    const bool eos = !sampling.ignore_eos && contains(config.eos_token_ids, last);
    if (eos || contains(sampling.stop_token_ids, last)) return Finish{FinishReason::kStop, last, {}};
  }
  if (seq.num_output() >= sampling.max_tokens || seq.num_tokens() >= config.scheduler.max_model_len)
    return Finish{FinishReason::kLength, std::nullopt, {}};
  return std::nullopt;
}

int32_t most_running(const EngineConfig& config) {
  return std::min({config.scheduler.max_num_seqs, config.cache.num_slots, config.scheduler.max_num_batched_tokens});
}

void check_config(const EngineConfig& config) {
  const auto at_least = [](const char* flag, int32_t least, int32_t seen) {
    if (seen < least) fail(ErrorCode::kInvalidArgument, flag, " must be at least ", least, ", got ", seen);
  };
  at_least("--max-num-seqs", 1, config.scheduler.max_num_seqs);
  at_least("--max-num-batched-tokens", 1, config.scheduler.max_num_batched_tokens);
  at_least("--max-model-len", 1, config.scheduler.max_model_len);
  at_least("--long-prefill-token-threshold", 0, config.scheduler.long_prefill_token_threshold);
  at_least("max_waiting", 0, config.scheduler.max_waiting);
  if (config.speculation.num_drafts < 0 || config.speculation.num_drafts > kMaxDrafts)
    fail(ErrorCode::kInvalidArgument, "num_speculative_tokens of --speculative-config must be from 0 to ", kMaxDrafts, ", got ",
         config.speculation.num_drafts);
}

void check_request(const Request& request, const EngineConfig& config) {
  if (!request.sampling) fail(ErrorCode::kInvalidArgument, "the request has no sampling parameters");
  if (request.prompt.empty()) fail(ErrorCode::kInvalidArgument, "the prompt must have at least 1 token, got 0");
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t output = request.prompt_only ? 0 : request.sampling->max_tokens;
  if (!request.prompt_only && output < 1) fail(ErrorCode::kInvalidArgument, "max_tokens must be at least 1, got ", output);
  const int64_t limit = config.scheduler.max_model_len;
  if (prompt + std::min<int64_t>(output, 1) > limit) {
    fail(ErrorCode::kInvalidArgument, "the prompt has ", prompt, " tokens",
         request.prompt_only ? "" : " and at least 1 output token is asked for", ", but the model's context length is ", limit,
         " tokens (--max-model-len)");
  }
  // The token sampled last is never computed.
  const int64_t computed = request.prompt_only ? prompt : std::min(prompt + output, limit) - 1;
  if (pages_for(computed) > config.cache.num_pages) {
    fail(ErrorCode::kInvalidArgument, "the request may need ", pages_for(computed), " cache pages of ", kPageTokens, " tokens (", prompt,
         " prompt tokens, max_tokens ", output, ", context length ", limit, "), but the cache has ", config.cache.num_pages,
         ": lower max_tokens or raise --kv-cache-memory-bytes");
  }
}

}  // namespace weir
