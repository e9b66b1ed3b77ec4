// What the draft head has not taken in yet. Nothing reads the head's keys and values but its guesses, so without guesses it takes in whole
// pages, sixteen tokens in one product, instead of each token in its step. Until then the trunk's outputs wait here, at most a page's for
// each slot. So pages that others may share are complete, and a guess finds all tokens before it: they are taken in first.
// Rank thread only.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "weir/core/config.h"
#include "weir/core/plan.h"
#include "weir/runtime/model_input.h"
#include "weir/tensor/tensor.h"

namespace weir {

// Tokens that the head takes in now.
struct DraftIntake {
  StepPlan plan;              // a row for each sequence that has some; its tokens are the successors, which the head reads
  Tensor hidden;              // [T, H] the trunk's outputs for them
  std::vector<int32_t> last;  // of each row of the step: index in `hidden` of the token to guess after, -1 when no guess is wanted
};

class DraftBacklog {
 public:
  DraftBacklog(int64_t num_slots, int64_t width);

  // A step is done: `hidden` [T, H] are its outputs in the order of input.rows. Refused guesses and rows that failed are passed over.
  DraftIntake take(const StepPlan& plan, std::span<const RowResult> results, const ModelInput& input, const Tensor& hidden, Arena& arena);

  const Tensor& memory() const { return hidden_; }  // row i belongs to slot i
  static int64_t bytes_per_slot(int64_t width) { return int64_t{kPageTokens} * width * static_cast<int64_t>(sizeof(float)); }

 private:
  // Of a slot: tokens [begin, end) of the sequence wait, all of one page.
  struct Waiting {
    SeqId seq{};
    int32_t begin = 0, end = 0;
    std::array<Token, kPageTokens> successors{};  // by position within the page, as the outputs are
  };
  // A row of the step. Tokens [begin, end) of its sequence are ready; [begin, until) are taken in, the others wait.
  struct Row {
    const SeqStep& row;
    const RowResult& result;
    const float* outputs;  // of its first token
    int64_t stride;
    int32_t begin, until, end;
  };
  Row ready(const SeqStep& row, const RowResult& result, const float* outputs, int64_t stride) const;
  const float* output_of(const Row& row, int32_t position) const;
  Token successor_of(const Row& row, int32_t position) const;
  SeqStep intake(const Row& row, float* to) const;
  void keep(const Row& row);

  float* place(SlotId slot, int32_t position) const;
  const Waiting& waiting(SlotId slot) const { return waiting_[static_cast<size_t>(index(slot))]; }

  Tensor hidden_;  // [slots, tokens of a page, H]
  std::vector<Waiting> waiting_;
};

}  // namespace weir
