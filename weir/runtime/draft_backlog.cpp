#include "weir/runtime/draft_backlog.h"

#include <algorithm>
#include <utility>

#include "weir/base/check.h"

namespace weir {
namespace {

// How many of a row's tokens have a successor that is known: not guesses that were refused, nor what lies behind them.
int32_t num_known(const SeqStep& row, const RowResult& result) {
  const auto length = static_cast<int32_t>(row.tokens.size());
  if (!result.tokens.empty()) return length - row.num_drafts + static_cast<int32_t>(result.tokens.size()) - 1;
  return row.next ? length : 0;
}

size_t in_page(int32_t position) { return static_cast<size_t>(position % kPageTokens); }

}  // namespace

DraftBacklog::DraftBacklog(int64_t num_slots, int64_t width)
    : hidden_(Tensor::zeros(Shape{num_slots, kPageTokens, width}, DType::kF32)), waiting_(static_cast<size_t>(num_slots)) {}

float* DraftBacklog::place(SlotId slot, int32_t position) const {
  return hidden_.data<float>() + (index(slot) * int64_t{kPageTokens} + static_cast<int64_t>(in_page(position))) * hidden_.dim(2);
}

DraftBacklog::Row DraftBacklog::ready(const SeqStep& row, const RowResult& result, const float* outputs, int64_t stride) const {
  const Waiting& before = waiting(row.state_write);
  const bool goes_on = before.seq == row.seq && before.end == row.start;
  const int32_t begin = goes_on ? before.begin : row.start, end = row.start + num_known(row, result);
  const bool guesses = row.want_drafts > 0 && !result.tokens.empty();
  return {row, result, outputs, stride, begin, std::max(begin, guesses ? end : end / kPageTokens * kPageTokens), end};
}

const float* DraftBacklog::output_of(const Row& row, int32_t position) const {
  if (position < row.row.start) return place(row.row.state_write, position);
  return row.outputs + (position - row.row.start) * row.stride;
}

Token DraftBacklog::successor_of(const Row& row, int32_t position) const {
  if (position < row.row.start) return waiting(row.row.state_write).successors[in_page(position)];
  if (position + 1 < row.end) return row.row.tokens[static_cast<size_t>(position + 1 - row.row.start)];
  return row.result.tokens.empty() ? *row.row.next : row.result.tokens.back();
}

SeqStep DraftBacklog::intake(const Row& row, float* to) const {
  const SeqStep& of = row.row;
  SeqStep out{.seq = of.seq, .start = row.begin, .pages = of.pages, .state_write = of.state_write};
  if (out.start > 0) out.state_read = of.state_write;  // the head has no state; the plan must be well-formed
  for (int32_t position = row.begin; position < row.until; ++position, to += hidden_.dim(2)) {
    std::copy_n(output_of(row, position), hidden_.dim(2), to);
    out.tokens.push_back(successor_of(row, position));
  }
  return out;
}

void DraftBacklog::keep(const Row& row) {
  Waiting& now = waiting_[static_cast<size_t>(index(row.row.state_write))];
  for (int32_t position = std::max(row.until, row.row.start); position < row.end; ++position) {
    std::copy_n(output_of(row, position), hidden_.dim(2), place(row.row.state_write, position));
    now.successors[in_page(position)] = successor_of(row, position);
  }
  now.seq = row.row.seq, now.begin = row.until, now.end = row.end;
}

DraftIntake DraftBacklog::take(const StepPlan& plan, std::span<const RowResult> results, const ModelInput& input, const Tensor& hidden,
                               Arena& arena) {
  std::vector<Row> rows;
  int64_t total = 0;
  for (size_t r = 0; r < plan.rows.size(); ++r) {
    const float* outputs = hidden.data<float>() + input.rows.row_starts.data<int32_t>()[r] * hidden.row_stride();
    rows.push_back(ready(plan.rows[r], results[r], outputs, hidden.row_stride()));
    total += rows.back().until - rows.back().begin;
  }
  DraftIntake out{.plan = {}, .hidden = arena.empty(Shape{total, hidden_.dim(2)}), .last = {}};
  int64_t taken = 0;
  for (const Row& row : rows) {
    if (row.until > row.begin) {
      out.plan.rows.push_back(intake(row, out.hidden.data<float>() + taken * hidden_.dim(2)));
      taken += row.until - row.begin;
    }
    const bool guesses = row.row.want_drafts > 0 && !row.result.tokens.empty();
    out.last.push_back(guesses ? static_cast<int32_t>(taken) - 1 : -1);
    keep(row);
  }
  return out;
}

}  // namespace weir
