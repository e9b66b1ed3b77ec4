// A plan as flat tensors: what the model reads. build_input() is a pure function of the plan; its tensors lie in the step's arena.
#pragma once

#include "weir/core/plan.h"
#include "weir/ops/rows.h"
#include "weir/tensor/arena.h"
#include "weir/tensor/tensor.h"

namespace weir {

struct ModelInput {
  Tensor ids;        // I32 [T]
  Tensor positions;  // I32 [3, T]: rotary position of each token on the t, h and w axes (equal for text)
  ops::Rows rows;
};

// Throws Error(kInternal) for a plan that contradicts itself (an engine's mistake must not become a wild read).
ModelInput build_input(const StepPlan& plan, int32_t num_pages, int32_t num_slots, int32_t vocab_size, Arena& arena);

// Bytes that it takes at most, for rows of at most max_pages pages.
int64_t input_bytes(int64_t num_rows, int64_t num_tokens, int64_t max_pages, int64_t num_slots);

}  // namespace weir
