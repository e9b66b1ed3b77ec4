// The decisions of the scheduler as pure functions, to be read and tested alone.
#pragma once

#include <cstdint>
#include <optional>

#include "weir/core/config.h"
#include "weir/engine/sequence.h"

namespace weir {

// The one order of sequences: lower priority value first, then arrival. Admission and planning follow it; the victim of a page
// shortage is the last one in it. Being total and fixed at arrival, it also rules out that two sequences preempt each other in turn.
struct RunsBefore {
  bool operator()(const Sequence* a, const Sequence* b) const;
};

// What the ends of unfinished chunks are multiples of: kChunkAlign, or 1 where a whole step's budget could not reach one.
int32_t chunk_align(const SchedulerConfig& config);

// Tokens a sequence gets in a step that has `budget` tokens left. All it wants if possible; an unfinished chunk ends at a multiple
// of chunk_align, so that chunking never changes a bit of the result; 0 when the budget cannot reach one. A
// long_prefill_token_threshold below chunk_align counts as chunk_align: it must not stop a prompt altogether.
int32_t chunk_tokens(const Sequence& seq, int32_t budget, const SchedulerConfig& config);

// Pages that must be free to admit `seq` beside num_running others: those of all its tokens and of the next one, and one for each
// of the others, which will want it within 16 steps. Without that reserve a sequence is admitted only to be preempted at once.
// Alone it needs no reserve.
int32_t pages_to_admit(const Sequence& seq, int32_t num_running);

// Why the sequence ends after the token sampled last, or nullopt. REQUIRES: num_output() > 0.
std::optional<Finish> finish_after_token(const Sequence& seq, const EngineConfig& config);

// Most sequences that can run at once: --max-num-seqs, a slot each, and a token of every step's budget each.
int32_t most_running(const EngineConfig& config);

// Throw Error(kInvalidArgument), naming the values seen and allowed and the flag: for settings no request could run with, and for a
// request that could not run even alone.
void check_config(const EngineConfig& config);
void check_request(const Request& request, const EngineConfig& config);

}  // namespace weir
