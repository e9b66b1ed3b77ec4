// The plan of one step and its result: all that engine and ranks ever say to each other.
// A plan is self-contained: a rank needs nothing remembered but its caches, so any plan can be logged, replayed and tested alone.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "weir/core/ids.h"
#include "weir/core/request.h"
#include "weir/core/tier.h"

namespace weir {

// Draw the token that follows the row's last token (and, with drafts, verify them).
struct Sampling {
  std::shared_ptr<const SamplingParams> params;
  uint64_t seed = 0;           // with `output_index` it fixes the draw, so preemption and batching do not change a sample
  int32_t output_index = 0;    // how many tokens this request has generated before this one
  int32_t prompt_tokens = 0;   // length of the prompt inside `history`
  std::vector<Token> history;  // prompt and output, only when a penalty or a bad word needs it
};

// Store the delta-net state after `position` tokens, any position inside the row or its end, into `slot`. Afterwards it can be read at
// `position` and, as every slot, a little before it (kSlotHistory in config.h).
struct Snapshot {
  int32_t position = 0;
  SlotId slot{};
};

// What one sequence computes in this step: tokens [start, start + tokens.size()).
struct SeqStep {
  SeqId seq{};
  int32_t start = 0;          // index of the first token; equals the number of tokens already in pages and state
  std::vector<Token> tokens;  // at least one; the last num_drafts are guesses to verify
  int32_t num_drafts = 0;
  std::vector<PageId> pages;         // the whole page table: page i holds tokens [16 i, 16 i + 16); may reach further than the tokens do
  std::optional<SlotId> state_read;  // readable at `start`; nullopt: the zero state (start == 0)
  SlotId state_write{};              // state after the row, drafts included; refused ones are taken back by reading it at an earlier token
  std::vector<Snapshot> snapshots;
  std::optional<Sampling> sample;          // nullopt: an unfinished prompt chunk
  int32_t want_drafts = 0;                 // guess this many tokens after the sampled one, as far as `pages` reach
  std::optional<Token> next;               // of an unfinished chunk: the prompt token that follows it (the draft head reads it)
  std::optional<int32_t> prompt_logprobs;  // k: report the log-probability of each next prompt token of this chunk, with k alternatives
  std::vector<Token> prompt_next;  // with prompt_logprobs: the prompt token after each row token (the last row of the prompt has none)
};

struct StepPlan {
  StepId id{};
  std::vector<SeqStep> rows;
  TierOps tier;
};

struct RowResult {
  SeqId seq{};
  TokenList tokens;                               // accepted drafts and the sampled token; empty when nothing was sampled
  TokenList drafts;                               // guesses for the tokens that follow, at most want_drafts
  std::vector<PositionLogprobs> logprobs;         // parallel to tokens when asked for
  std::vector<PositionLogprobs> prompt_logprobs;  // parallel to prompt_next when asked for
  std::string error;                              // not empty: this row failed, the others did not
};

struct StepResult {
  StepId id{};
  std::vector<RowResult> rows;  // same order as the plan's rows
  TierEvents tier;
};

}  // namespace weir
