// A request while the engine knows it: its tokens so far, how many of them are in pages and state, and what it holds of the cache.
// Engine thread only; owned by the Scheduler.
#pragma once

#include <cstdint>
#include <vector>

#include "weir/cache/cache_manager.h"
#include "weir/cache/page_keys.h"
#include "weir/core/engine_client.h"
#include "weir/core/ids.h"
#include "weir/core/request.h"

namespace weir {

enum class SeqStatus { kWaiting, kRunning };

struct Sequence {
  SeqId id{};       // grows with arrival
  Request request;  // its prompt has moved to the front of `tokens`
  int32_t num_prompt = 0;
  std::vector<Token> tokens;  // prompt, then every token sampled
  int32_t num_computed = 0;   // tokens in pages and state; 0 while waiting
  uint64_t seed = 0;          // the request's, or one drawn by the engine
  SeqStatus status = SeqStatus::kWaiting;
  SeqCache cache;  // empty while waiting
  PageKeys keys;   // of `tokens`, as far as they have been needed
  bool was_admitted = false;
  bool is_fetching = false;  // waits for bytes from the second tier, or has them near and waits for room
  int32_t num_cached = 0;    // tokens of the prompt that were cached when it was first admitted
  int32_t num_known = 0;     // pages up to here were known when it was last admitted, though perhaps no state

  TokenList drafts;           // guesses for what follows `tokens`, not verified
  DraftCounters speculation;  // of this request

  int32_t num_prompt_logprobs = 0;                // received, for prompt tokens 1 … num_prompt_logprobs
  std::vector<PositionLogprobs> prompt_logprobs;  // those of them not yet sent

  int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  int32_t num_output() const { return num_tokens() - num_prompt; }
  int32_t num_pending() const { return num_tokens() - num_computed; }  // what it wants of a step; 1 while it streams
};

}  // namespace weir
