// How everything above (server, offline generation) talks to an engine: in this process, or one day over a socket.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "weir/core/config.h"
#include "weir/core/request.h"

namespace weir {

struct DraftCounters {
  int64_t drafts = 0;                             // verifications of at least one guess
  int64_t draft_tokens = 0;                       // guesses verified
  int64_t accepted_tokens = 0;                    // … that were right, and so were all before them
  std::array<int64_t, kMaxDrafts> accepted_at{};  // the same by position
  double mean_length() const {                    // tokens per verification, the one that is drawn anyway included
    return drafts == 0 ? 1.0 : 1.0 + static_cast<double>(accepted_tokens) / static_cast<double>(drafts);
  }
  friend DraftCounters operator-(DraftCounters now, const DraftCounters& then) {
    now.drafts -= then.drafts;
    now.draft_tokens -= then.draft_tokens;
    now.accepted_tokens -= then.accepted_tokens;
    for (size_t i = 0; i < now.accepted_at.size(); ++i) now.accepted_at[i] -= then.accepted_at[i];
    return now;
  }
};

// A snapshot of what an engine is doing; read at any time from any thread.
struct EngineStatus {
  int32_t num_running = 0;
  int32_t num_waiting = 0;
  int32_t max_num_seqs = 0;
  int32_t pages_used = 0, pages_cached = 0, pages_total = 0;  // held by sequences; free for them but still known as prefixes; all
  int32_t slots_used = 0, slots_cached = 0, slots_total = 0;
  int64_t steps = 0;
  int64_t prompt_tokens = 0;      // computed since start
  int64_t generation_tokens = 0;  // sampled since start
  int64_t preemptions = 0;
  int64_t prefix_queries = 0, prefix_hits = 0;  // tokens of prompts looked up in the prefix cache, and found there
  int64_t tier_queries = 0, tier_hits = 0;      // tokens that were not there looked up in the second tier, and found there
  int64_t tier_bytes = 0;                       // it holds
  double run_seconds = 0;                       // inside Executor::run
  double host_seconds = 0;                      // planning, committing and emitting, while the ranks have nothing to do
  int32_t max_drafts = 0;                       // 0: no speculation
  DraftCounters speculation;
  std::string failure;  // not empty: the engine is dead and answers every request with this
};

class EngineClient {
 public:
  // Called on a thread of the engine, one call at a time: must be quick and must neither block nor throw. It may call submit (which may
  // throw into it), abort and status. The last output of a request carries `finish`.
  using OnOutput = std::function<void(RequestOutput)>;

  virtual ~EngineClient() = default;

  // Hands a validated request over; every accepted request gets exactly one output with `finish`.
  // Throws Error: kResourceExhausted when the waiting queue is full, kUnavailable when draining or dead,
  // kInvalidArgument when the request can never run (prompt + 1 > max_model_len, more pages than exist) or its id is in use.
  virtual void submit(Request request, OnOutput on_output) = 0;

  // Stops a request within one step; its last output says kAbort. Unknown or finished ids are ignored.
  virtual void abort(RequestId id) = 0;

  // Forgets all prefixes before any request submitted later is looked at. What runs goes on.
  virtual void reset_prefix_cache() = 0;

  virtual EngineStatus status() const = 0;
};

}  // namespace weir
