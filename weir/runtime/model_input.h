// A plan as flat tensors: what the model reads. build_input() is a pure function of the plan.
#pragma once

#include "weir/core/plan.h"
#include "weir/ops/rows.h"
#include "weir/tensor/tensor.h"

namespace weir {

struct ModelInput {
  Tensor ids;        // I32 [T]
  Tensor positions;  // I32 [3, T]: rotary position of each token on the t, h and w axes (equal for text)
  ops::Rows rows;
};

// Throws Error(kInternal) for a plan that contradicts itself (an engine's mistake must not become a wild read).
ModelInput build_input(const StepPlan& plan, int32_t num_pages, int32_t num_slots, int32_t vocab_size);

}  // namespace weir
