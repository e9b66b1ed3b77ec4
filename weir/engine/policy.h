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

// Tokens a sequence gets in a step that has `budget` tokens left: all it wants if possible. An unfinished chunk ends at a multiple of
// kChunkAlign, so that the delta net computes whole blocks (a matter of speed, not of bits). Where the budget cannot reach one it is
// 0, and the sequence waits for a step with more room, unless may_split_block. A long_prefill_token_threshold below kChunkAlign
// counts as kChunkAlign.
int32_t chunk_tokens(const Sequence& seq, int32_t budget, bool may_split_block, const SchedulerConfig& config);

// Pages that must be free to admit `seq` beside num_running others: those of all its tokens and of the next one, and one for each
// of the others, which will want it within 16 steps. Without that reserve a sequence is admitted only to be preempted at once.
// Alone it needs no reserve.
int32_t pages_to_admit(const Sequence& seq, int32_t num_running);

// Tokens of a sequence that may be taken from the prefix cache: all but the last, which has to be computed to draw the next one; and only
// those whose log-probabilities are not asked for, or are known.
int32_t reusable_tokens(const Sequence& seq);

// How many of its guesses a sequence that streams verifies in a step: `most`, unless there are fewer, it ends before, or the row would go
// on into the next block of the delta net. The state of a block is made by the next one's first token, and a guess must not do that: what
// comes before the guess could no longer be read.
int32_t drafts_to_verify(const Sequence& seq, int32_t most, const EngineConfig& config);

// Why the sequence ends after the token sampled last, or nullopt. REQUIRES: num_output() > 0.
std::optional<Finish> finish_after_token(const Sequence& seq, const EngineConfig& config);

// Most sequences that can run at once: --max-num-seqs, a slot each, and a token of every step's budget each.
int32_t most_running(const EngineConfig& config);

// Throw Error(kInvalidArgument), naming the values seen and allowed and the flag: for settings no request could run with, and for a
// request that could not run even alone.
void check_config(const EngineConfig& config);
void check_request(const Request& request, const EngineConfig& config);

}  // namespace weir
