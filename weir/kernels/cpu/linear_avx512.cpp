#include <cstdint>

#include "weir/kernels/cpu/linear.h"
#include "weir/kernels/cpu/vec.h"

namespace weir::cpu {
namespace {

// Far enough ahead to cover the latency of memory at the speed of one core, near enough to stay in L1 (in steps of one tile: 64 bytes each).
constexpr int64_t kPrefetchSteps = 32;

struct Bf16 {
  static __m512 dot(__m512 sum, __m512i a, __m512i b) { return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b)); }
};

struct F32 {
  static __m512 dot(__m512 sum, __m512i a, __m512i b) { return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum); }
};

// Accumulators of 12 rows x 32 columns fill 24 of the 32 registers; the loops over r are unrolled completely, so they stay there.
template <class Type, int rows>
void multiply_rows(const uint32_t* panel, const uint32_t* tile0, const uint32_t* tile1, int64_t steps, float* y, int64_t y_stride, int columns,
                   bool add) {
  __m512 left[rows], right[rows];
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) left[r] = right[r] = _mm512_setzero_ps();
  for (int64_t s = 0; s < steps; ++s) {
    _mm_prefetch(reinterpret_cast<const char*>(tile0 + kPrefetchSteps * kTileColumns), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(tile1 + kPrefetchSteps * kTileColumns), _MM_HINT_T0);
    const __m512i b0 = _mm512_loadu_si512(tile0), b1 = _mm512_loadu_si512(tile1);
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) {
      const __m512i a = _mm512_set1_epi32(static_cast<int>(panel[r]));
      left[r] = Type::dot(left[r], a, b0);
      right[r] = Type::dot(right[r], a, b1);
    }
    tile0 += kTileColumns;
    tile1 += kTileColumns;
    panel += rows;
  }
  const auto mask0 = static_cast<__mmask16>(columns >= 16 ? 0xffff : (1 << columns) - 1);
  const auto mask1 = static_cast<__mmask16>(columns >= 32 ? 0xffff : columns <= 16 ? 0 : (1 << (columns - 16)) - 1);
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    float* out = y + r * y_stride;
    if (add) {
      left[r] = _mm512_add_ps(_mm512_maskz_loadu_ps(mask0, out), left[r]);
      right[r] = _mm512_add_ps(_mm512_maskz_loadu_ps(mask1, out + 16), right[r]);
    }
    _mm512_mask_storeu_ps(out, mask0, left[r]);
    _mm512_mask_storeu_ps(out + 16, mask1, right[r]);
  }
}

template <class Type>
void multiply(const uint32_t* panel, const uint32_t* tile0, const uint32_t* tile1, int64_t steps, int rows, float* y, int64_t y_stride,
              int columns, bool add) {
  switch (rows) {
    case 1: return multiply_rows<Type, 1>(panel, tile0, tile1, steps, y, y_stride, columns, add);
    case 2: return multiply_rows<Type, 2>(panel, tile0, tile1, steps, y, y_stride, columns, add);
    case 3: return multiply_rows<Type, 3>(panel, tile0, tile1, steps, y, y_stride, columns, add);
    case 4: return multiply_rows<Type, 4>(panel, tile0, tile1, steps, y, y_stride, columns, add);
    case 5: return multiply_rows<Type, 5>(panel, tile0, tile1, steps, y, y_stride, columns, add);
    case 6: return multiply_rows<Type, 6>(panel, tile0, tile1, steps, y, y_stride, columns, add);
    case 7: return multiply_rows<Type, 7>(panel, tile0, tile1, steps, y, y_stride, columns, add);
    case 8: return multiply_rows<Type, 8>(panel, tile0, tile1, steps, y, y_stride, columns, add);
    case 9: return multiply_rows<Type, 9>(panel, tile0, tile1, steps, y, y_stride, columns, add);
    case 10: return multiply_rows<Type, 10>(panel, tile0, tile1, steps, y, y_stride, columns, add);
    case 11: return multiply_rows<Type, 11>(panel, tile0, tile1, steps, y, y_stride, columns, add);
    case 12: return multiply_rows<Type, 12>(panel, tile0, tile1, steps, y, y_stride, columns, add);
    default: return;
  }
}

// Steps [s, s + 16) of one row: 16 dwords. `left` counts the elements of k from 2s (BF16) or s (F32) on.
__m512i steps_bf16(const float* x, int64_t left) {
  const auto low = static_cast<__mmask16>(left >= 16 ? 0xffff : (1 << left) - 1);
  const auto high = static_cast<__mmask16>(left >= 32 ? 0xffff : left <= 16 ? 0 : (1 << (left - 16)) - 1);
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(high, x + 16), _mm512_maskz_loadu_ps(low, x)));
}

void store_steps(__m512i value, int count, int rows, uint32_t* panel) {
  if (rows == 1) return _mm512_mask_storeu_epi32(panel, static_cast<__mmask16>((1 << count) - 1), value);
  alignas(64) uint32_t steps[16];
  _mm512_store_si512(steps, value);
  for (int i = 0; i < count; ++i) panel[i * rows] = steps[i];
}

void pack_panel_bf16(const float* x, int64_t stride, int rows, int64_t k, uint32_t* panel) {
  for (int64_t i = 0; i < k; i += 32) {
    const int64_t left = k - i;
    const int count = left >= 32 ? 16 : static_cast<int>((left + 1) / 2);
    for (int r = 0; r < rows; ++r) store_steps(steps_bf16(x + r * stride + i, left), count, rows, panel + i / 2 * rows + r);
  }
}

void pack_panel_f32(const float* x, int64_t stride, int rows, int64_t k, uint32_t* panel) {
  for (int64_t i = 0; i < k; i += 16) {
    const int count = k - i >= 16 ? 16 : static_cast<int>(k - i);
    const auto mask = static_cast<__mmask16>((1 << count) - 1);
    for (int r = 0; r < rows; ++r)
      store_steps(_mm512_castps_si512(_mm512_maskz_loadu_ps(mask, x + r * stride + i)), count, rows, panel + i * rows + r);
  }
}

__m512 silu_mul(const float* gate, const float* up, __mmask16 mask) {
  const __m512 g = _mm512_maskz_loadu_ps(mask, gate);
  return _mm512_mul_ps(_mm512_mul_ps(g, sigmoid_ps(g)), _mm512_maskz_loadu_ps(mask, up));
}

void silu_mul_panel_bf16(const float* gate, const float* up, int64_t stride, int rows, int columns, uint32_t* panel) {
  const auto mask = static_cast<__mmask16>((1 << columns) - 1);
  for (int r = 0; r < rows; ++r) {
    const __m512i value = reinterpret_cast<__m512i>(
        _mm512_cvtne2ps_pbh(_mm512_setzero_ps(), silu_mul(gate + r * stride, up + r * stride, mask)));
    store_steps(value, (columns + 1) / 2, rows, panel + r);
  }
}

void silu_mul_panel_f32(const float* gate, const float* up, int64_t stride, int rows, int columns, uint32_t* panel) {
  const auto mask = static_cast<__mmask16>((1 << columns) - 1);
  for (int r = 0; r < rows; ++r)
    store_steps(_mm512_castps_si512(silu_mul(gate + r * stride, up + r * stride, mask)), columns, rows, panel + r);
}

void gather_panel(const uint32_t* const* row, int rows, int64_t steps, uint32_t* panel) {
  for (int64_t s = 0; s < steps; ++s)
    for (int r = 0; r < rows; ++r) panel[s * rows + r] = row[r][s];
}

void add_weighted(const float* const* row, const float* weight, int64_t count, int64_t columns, float* y) {
  for (int64_t c = 0; c < columns; c += 16) {
    const auto mask = static_cast<__mmask16>(columns - c >= 16 ? 0xffff : (1 << (columns - c)) - 1);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < count; ++i) sum = _mm512_fmadd_ps(_mm512_set1_ps(weight[i]), _mm512_maskz_loadu_ps(mask, row[i] + c), sum);
    _mm512_mask_storeu_ps(y + c, mask, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y + c), sum));
  }
}

}  // namespace

const LinearKernels kLinearAvx512 = {
    {pack_panel_bf16, multiply<Bf16>, silu_mul_panel_bf16},
    {pack_panel_f32, multiply<F32>, silu_mul_panel_f32},
    gather_panel,
    add_weighted,
};

}  // namespace weir::cpu
