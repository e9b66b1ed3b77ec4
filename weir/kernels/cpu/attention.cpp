#include "weir/kernels/cpu/attention.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "weir/kernels/cpu/isa.h"

namespace weir::cpu {
namespace {

uint32_t rounded(float x) {  // to BF16, without a branch: whole rows at a time
  const uint32_t bits = std::bit_cast<uint32_t>(x), quiet = (bits >> 16) | 0x40u, nearest = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return (bits & 0x7fffffffu) > 0x7f800000u ? quiet : nearest;
}

// The scale of a row, and its bytes by put(d, byte). Adding and taking away 1.5 · 2^23 rounds to the nearest even integer.
template <class Put>
float store_row_i8(const float* row, int64_t dim, const Put& put) {
  uint32_t most = 0;
  for (int64_t d = 0; d < dim; ++d) most = std::max(most, std::bit_cast<uint32_t>(row[d]) & 0x7fffffffu);
  const bool finite = most < 0x7f800000u;
  const float scale = std::max(std::bit_cast<float>(most) / 127.0f, std::numeric_limits<float>::min());
  constexpr float kRound = 12'582'912.0f;
  for (int64_t d = 0; d < dim; ++d) put(d, static_cast<int8_t>(finite ? static_cast<int>(row[d] / scale + kRound - kRound) : 0));
  return finite ? scale : std::numeric_limits<float>::quiet_NaN();
}

}  // namespace

void store_kv_i8(const float* k, int64_t k_stride, const float* v, int64_t v_stride, int64_t slot, int64_t count, int64_t dim, int8_t* keys,
                 int8_t* values) {
  auto* const key_scales = reinterpret_cast<float*>(keys + kPageTokens * dim);
  auto* const value_scales = reinterpret_cast<float*>(values + kPageTokens * dim);
  for (int64_t t = slot; t < slot + count; ++t, k += k_stride, v += v_stride) {
    key_scales[t] = store_row_i8(k, dim, [&](int64_t d, int8_t byte) { keys[d * kPageTokens + t] = byte; });
    value_scales[t] = store_row_i8(v, dim, [&](int64_t d, int8_t byte) { values[t * dim + d] = byte; });
  }
}

void store_kv_bf16(const float* k, int64_t k_stride, const float* v, int64_t v_stride, int64_t slot, int64_t count, int64_t dim,
                   uint16_t* keys, uint16_t* values) {
  auto* const key_words = reinterpret_cast<uint32_t*>(keys);
  for (int64_t t = 0; t < count; ++t) {
    const float* row = k + t * k_stride;
    for (int64_t d = 0; d < dim; d += 2) key_words[d / 2 * kPageTokens + slot + t] = rounded(row[d]) | rounded(row[d + 1]) << 16;
  }
  auto* const value_words = reinterpret_cast<uint32_t*>(values);
  for (int64_t t = 0; t < count;) {
    uint32_t* pair = value_words + (slot + t) / 2 * dim;
    const float *row = v + t * v_stride, *next = row + v_stride;
    if ((slot + t) % 2 != 0) {
      for (int64_t d = 0; d < dim; ++d) pair[d] = (pair[d] & 0xffffu) | rounded(row[d]) << 16;
      t += 1;
    } else if (t + 1 < count) {
      for (int64_t d = 0; d < dim; ++d) pair[d] = rounded(row[d]) | rounded(next[d]) << 16;
      t += 2;
    } else {
      for (int64_t d = 0; d < dim; ++d) pair[d] = rounded(row[d]);
      t += 1;
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
    case Isa::kAmx: return amx::kAttention;
    case Isa::kAvx512: return avx512::kAttention;
    case Isa::kAvx2: return avx2::kAttention;
    case Isa::kScalar: break;
  }
  return scalar::kAttention;
}

}  // namespace weir::cpu
