// Expert choice of one token.
#pragma once

#include <cstdint>

namespace weir::cpu {

// The top_k largest of n logits in falling order (ties: lower id first), each with exp(logit) over the sum of the chosen ones: the
// softmax over all n divided by the chosen sum, without its common factor. A NaN counts as -infinity, so ids are always in [0, n).
// REQUIRES 1 <= top_k <= n.
void route(const float* logits, int64_t n, int64_t top_k, int32_t* ids, float* weights);

}  // namespace weir::cpu
