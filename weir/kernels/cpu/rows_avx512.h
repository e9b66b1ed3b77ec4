// Rows as the product kernels of linear_avx512.cpp and linear_amx.cpp round, scale and combine them. Compiled for their instruction sets
// alone: everything here is static (see vec.h).
#pragma once

#include <cstdint>

#include "weir/kernels/cpu/linear.h"
#include "weir/kernels/cpu/vec.h"

namespace weir::cpu {
namespace {

// The first `count` of 16 lanes.
inline __mmask16 first(int64_t count) { return static_cast<__mmask16>(count >= 16 ? 0xffff : (1 << count) - 1); }

// Sixteen steps of BF16 from up to 32 values, zero behind them.
inline __m512i bf16_steps(const float* x, int64_t left) {
  return reinterpret_cast<__m512i>(
      _mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(first(left > 16 ? left - 16 : 0), x + 16), _mm512_maskz_loadu_ps(first(left), x)));
}

// The largest |x| of a row; NaN when the row has one: as bits, because a comparison of floats would lose it.
inline float largest(const float* x, int64_t k) {
  __m512i most = _mm512_setzero_si512();
  for (int64_t i = 0; i < k; i += 16) {
    const __m512i bits = _mm512_maskz_loadu_epi32(first(k - i), x + i);
    most = _mm512_max_epi32(most, _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)));
  }
  const int bits = _mm512_reduce_max_epi32(most);
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

// How one row becomes bytes: (x / scale + offset, rounded) + 128.
struct Quantiser {
  __m512 scale, offset;

  __m128i sixteen(const float* x, int64_t left) const {
    const __m512 value = _mm512_add_ps(_mm512_div_ps(_mm512_maskz_loadu_ps(first(left), x), scale), offset);
    const __m512 clamped = _mm512_min_ps(_mm512_max_ps(value, _mm512_set1_ps(-128.0f)), _mm512_set1_ps(127.0f));
    return _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(clamped));
  }
  __m512i sixty_four(const float* x, int64_t left) const {
    __m512i out = _mm512_castsi128_si512(sixteen(x, left));
    out = _mm512_inserti32x4(out, sixteen(x + 16, left > 16 ? left - 16 : 0), 1);
    out = _mm512_inserti32x4(out, sixteen(x + 32, left > 32 ? left - 32 : 0), 2);
    out = _mm512_inserti32x4(out, sixteen(x + 48, left > 48 ? left - 48 : 0), 3);
    return _mm512_xor_si512(out, _mm512_set1_epi8(static_cast<char>(0x80)));
  }
};

// What a row is divided by, and its factor s_x.
struct RowScale {
  float scale, factor;
};
inline RowScale row_scale(const float* x, int64_t k, const InputScale& input) {
  const float most = largest(x, k);
  if (input.scale != 0) return {input.scale, most - most + 1.0f};  // NaN when the row is not finite
  const float scale = most / 127.0f < __FLT_MIN__ ? __FLT_MIN__ : most / 127.0f;
  return {scale, scale};
}

// The sums of one row as floats. `extra` points at the steps behind the sum, of the tile and, for this row, of the panel.
inline __m512 finished(__m512 sum, const uint32_t*, const uint32_t*) { return sum; }
inline __m512 finished(__m512i sum, const uint32_t* tile_extra, const uint32_t* panel_extra) {
  const __m512i exact = _mm512_add_epi32(sum, _mm512_loadu_si512(tile_extra));
  const __m512 scale = _mm512_loadu_ps(tile_extra + kTileColumns),
               row_scale = _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(*panel_extra)));
  return _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(exact), scale), row_scale);
}

inline __m512 silu_mul(const float* gate, const float* up, __mmask16 mask) {
  const __m512 g = _mm512_maskz_loadu_ps(mask, gate);
  return _mm512_mul_ps(_mm512_mul_ps(g, sigmoid_ps(g)), _mm512_maskz_loadu_ps(mask, up));
}

inline void silu_mul_rows(const float* gate, const float* up, int64_t stride, int rows, int columns, float* out, int64_t out_stride) {
  const __mmask16 mask = first(columns);
  for (int r = 0; r < rows; ++r) _mm512_mask_storeu_ps(out + r * out_stride, mask, silu_mul(gate + r * stride, up + r * stride, mask));
}

inline void scatter_add(const float* x, int64_t stride, int64_t rows, int columns, const float* factor, const int32_t* token, float* y,
                        int64_t y_stride) {
  const __mmask16 mask0 = first(columns), mask1 = first(columns > 16 ? columns - 16 : 0);
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = x + r * stride;
    float* to = y + token[r] * y_stride;
    const __m512 scale = _mm512_set1_ps(factor[r]);
    _mm512_mask_storeu_ps(to, mask0, _mm512_fmadd_ps(scale, _mm512_maskz_loadu_ps(mask0, from), _mm512_maskz_loadu_ps(mask0, to)));
    _mm512_mask_storeu_ps(to + 16, mask1,
                          _mm512_fmadd_ps(scale, _mm512_maskz_loadu_ps(mask1, from + 16), _mm512_maskz_loadu_ps(mask1, to + 16)));
  }
}

}  // namespace
}  // namespace weir::cpu
