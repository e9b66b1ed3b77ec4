#include "weir/kernels/cpu/route.h"

#include <cmath>
#include <limits>

namespace weir::cpu {

void route(const float* logits, int64_t n, int64_t top_k, int32_t* ids, float* weights) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  int64_t chosen = 0;  // weights[0 … chosen) holds their logits, falling
  for (int64_t i = 0; i < n; ++i) {
    const float logit = std::isnan(logits[i]) ? kLowest : logits[i];
    if (chosen == top_k && !(logit > weights[chosen - 1])) continue;  // the common case: one comparison per expert
    int64_t place = chosen < top_k ? chosen++ : chosen - 1;
    for (; place > 0 && weights[place - 1] < logit; --place) {
      weights[place] = weights[place - 1];
      ids[place] = ids[place - 1];
    }
    weights[place] = logit;
    ids[place] = static_cast<int32_t>(i);
  }
  const float largest = weights[0];
  float sum = 0.0f;
  for (int64_t i = 0; i < top_k; ++i) {
    weights[i] = weights[i] == largest ? 1.0f : std::exp(weights[i] - largest);  // equal also when both are infinite
    sum += weights[i];
  }
  for (int64_t i = 0; i < top_k; ++i) weights[i] /= sum;
}

}  // namespace weir::cpu
