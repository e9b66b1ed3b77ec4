#include "weir/kernels/cpu/attention.h"

#include <bit>

#include "weir/kernels/cpu/isa.h"

namespace weir::cpu {
namespace {

uint16_t rounded(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace

void store_kv_bf16(const float* k, int64_t k_stride, const float* v, int64_t v_stride, int64_t slot, int64_t count, int64_t dim, uint16_t* keys,
                   uint16_t* values) {
  for (int64_t t = slot; t < slot + count; ++t, k += k_stride, v += v_stride) {
    for (int64_t d = 0; d < dim; ++d) keys[((d / 2) * kPageTokens + t) * 2 + d % 2] = rounded(k[d]);
    uint16_t* pair = values + (t / 2) * dim * 2;
    if (t % 2 == 0) {
      for (int64_t d = 0; d < dim; ++d) {
        pair[2 * d] = rounded(v[d]);
        pair[2 * d + 1] = 0;
      }
    } else {
      for (int64_t d = 0; d < dim; ++d) pair[2 * d + 1] = rounded(v[d]);
    }
  }
}

void store_kv_f32(const float* k, int64_t k_stride, const float* v, int64_t v_stride, int64_t slot, int64_t count, int64_t dim, float* keys,
                  float* values) {
  for (int64_t t = slot; t < slot + count; ++t, k += k_stride, v += v_stride) {
    for (int64_t d = 0; d < dim; ++d) keys[d * kPageTokens + t] = k[d];
    for (int64_t d = 0; d < dim; ++d) values[t * dim + d] = v[d];
  }
}

const AttentionKernels& attention_kernels(Isa isa) {
  switch (isa) {
    case Isa::kAvx512: return avx512::kAttention;
    case Isa::kAvx2: return avx2::kAttention;
    case Isa::kScalar: break;
  }
  return scalar::kAttention;
}

}  // namespace weir::cpu
