// The rows of a step as the operators see them: which tokens belong together, where their pages and states lie.
#pragma once

#include "weir/tensor/tensor.h"

namespace weir::ops {

// R rows with T tokens in all; all tensors are I32 on the CPU.
struct Rows {
  Tensor row_starts;   // [R + 1] first token of each row in [0, T]; row r has row_starts[r+1] - row_starts[r] >= 1 tokens
  Tensor starts;       // [R] index within its sequence of the row's first token (= tokens already in pages and state)
  Tensor page_table;   // [R, P] page ids, P >= pages of the longest row; page i holds tokens [16 i, 16 i + 16) of the sequence
  Tensor state_read;   // [R] slot, -1: zero state (starts[r] == 0)
  Tensor state_write;  // [R] slot of the state after the row; may equal state_read
  Tensor
      snapshots;  // [S, 3] (row, position, slot): also store the state after `position` tokens of the sequence; starts[r] < position <= end
  int64_t num_rows() const { return starts.dim(0); }
};

// Row r, read out of the tensors.
struct Row {
  int64_t token, count;  // tokens [token, token + count) of the step
  int64_t start;         // index within its sequence of the first one
  int64_t end() const { return start + count; }
};
Row row_of(const Rows& rows, int64_t r);

// Broken rows are bugs of the caller: these abort, naming the row.
void check_rows(const Rows& rows, int64_t num_tokens);
void check_pages(const Rows& rows, int64_t num_pages, int64_t page_tokens);  // every page that a row's tokens lie in
void check_slots(const Rows& rows, int64_t num_slots);                       // state_read, state_write and snapshots

}  // namespace weir::ops
