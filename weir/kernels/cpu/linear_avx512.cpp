#include <cstdint>

#include "weir/kernels/cpu/linear.h"
#include "weir/kernels/cpu/vec.h"

namespace weir::cpu {
namespace {

// The first `count` of 16 lanes.
__mmask16 first(int64_t count) { return static_cast<__mmask16>(count >= 16 ? 0xffff : (1 << count) - 1); }

struct Bf16 {
  static __m512 dot(__m512 sum, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
};

struct F32 {
  static __m512 dot(__m512 sum, __m512i a, __m512i b) { return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum); }
};

// Accumulators of 12 rows x 32 columns fill 24 of the 32 registers; the loops over r are unrolled completely, so they stay there.
template <class Type, int rows>
void multiply_rows(const uint32_t* panel, const uint32_t* tile0, const uint32_t* tile1, int64_t steps, float* y, int64_t y_stride,
                   int columns, bool add, const Ahead& ahead) {
  __m512 left[rows], right[rows];
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) left[r] = right[r] = _mm512_setzero_ps();
  constexpr auto kInto = reads_once(rows) ? _MM_HINT_NTA : _MM_HINT_T1;
  const int64_t near_end = steps > ahead_steps(rows) ? steps - ahead_steps(rows) : 0;
  const uint32_t *soon0 = ahead.near0, *soon1 = ahead.near1;
  for (int64_t s = 0, end = near_end;; end = steps, soon0 = ahead.far0, soon1 = ahead.far1) {
    for (; s < end; ++s) {
      _mm_prefetch(reinterpret_cast<const char*>(soon0), kInto);
      _mm_prefetch(reinterpret_cast<const char*>(soon1), kInto);
      const __m512i b0 = _mm512_loadu_si512(tile0), b1 = _mm512_loadu_si512(tile1);
#pragma GCC unroll 12
      for (int r = 0; r < rows; ++r) {
        const __m512i a = _mm512_set1_epi32(static_cast<int>(panel[r]));
        left[r] = Type::dot(left[r], a, b0);
        right[r] = Type::dot(right[r], a, b1);
      }
      tile0 += kTileColumns;
      tile1 += kTileColumns;
      soon0 += kTileColumns;
      soon1 += kTileColumns;
      panel += rows;
    }
    if (s == steps) break;
  }
  const __mmask16 mask0 = first(columns), mask1 = first(columns > 16 ? columns - 16 : 0);
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
              int columns, bool add, const Ahead& ahead) {
  switch (rows) {
    case 1: return multiply_rows<Type, 1>(panel, tile0, tile1, steps, y, y_stride, columns, add, ahead);
    case 2: return multiply_rows<Type, 2>(panel, tile0, tile1, steps, y, y_stride, columns, add, ahead);
    case 3: return multiply_rows<Type, 3>(panel, tile0, tile1, steps, y, y_stride, columns, add, ahead);
    case 4: return multiply_rows<Type, 4>(panel, tile0, tile1, steps, y, y_stride, columns, add, ahead);
    case 5: return multiply_rows<Type, 5>(panel, tile0, tile1, steps, y, y_stride, columns, add, ahead);
    case 6: return multiply_rows<Type, 6>(panel, tile0, tile1, steps, y, y_stride, columns, add, ahead);
    case 7: return multiply_rows<Type, 7>(panel, tile0, tile1, steps, y, y_stride, columns, add, ahead);
    case 8: return multiply_rows<Type, 8>(panel, tile0, tile1, steps, y, y_stride, columns, add, ahead);
    case 9: return multiply_rows<Type, 9>(panel, tile0, tile1, steps, y, y_stride, columns, add, ahead);
    case 10: return multiply_rows<Type, 10>(panel, tile0, tile1, steps, y, y_stride, columns, add, ahead);
    case 11: return multiply_rows<Type, 11>(panel, tile0, tile1, steps, y, y_stride, columns, add, ahead);
    case 12: return multiply_rows<Type, 12>(panel, tile0, tile1, steps, y, y_stride, columns, add, ahead);
    default: return;
  }
}

// Transposes 16 x 16 dwords in registers.
void transpose(__m512i (&v)[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    v[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    v[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    v[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    v[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  // v[4 i + j] now holds in its 128-bit lane l the column 4 l + j of rows 4 i … 4 i + 3.
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    t[j] = _mm512_shuffle_i32x4(v[j], v[4 + j], 0x88);
    t[4 + j] = _mm512_shuffle_i32x4(v[j], v[4 + j], 0xdd);
    t[8 + j] = _mm512_shuffle_i32x4(v[8 + j], v[12 + j], 0x88);
    t[12 + j] = _mm512_shuffle_i32x4(v[8 + j], v[12 + j], 0xdd);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    v[j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0x88);
    v[8 + j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0xdd);
    v[4 + j] = _mm512_shuffle_i32x4(t[4 + j], t[12 + j], 0x88);
    v[12 + j] = _mm512_shuffle_i32x4(t[4 + j], t[12 + j], 0xdd);
  }
}

// Sixteen steps of `rows` rows, row after row, become steps of a panel; of the last block only `count` are kept.
void store_block(__m512i (&block)[16], int rows, int64_t count, uint32_t* panel) {
  transpose(block);
  const __mmask16 mask = first(rows);
#pragma GCC unroll 16
  for (int s = 0; s < 16; ++s)
    if (s < count) _mm512_mask_storeu_epi32(panel + s * rows, mask, block[s]);
}

// The panel of rows whose steps [s, s + 16) are load(r, s, mask of those that exist).
template <class Load>
void store_panel(int rows, int64_t steps, uint32_t* panel, Load load) {
  if (rows == 1) {
    for (int64_t s = 0; s < steps; s += 16) _mm512_mask_storeu_epi32(panel + s, first(steps - s), load(0, s));
    return;
  }
  for (int64_t s = 0; s < steps; s += 16) {
    __m512i block[16];
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r) block[r] = r < rows ? load(r, s) : _mm512_setzero_si512();
    store_block(block, rows, steps - s, panel + s * rows);
  }
}

void pack_panel_bf16(const float* x, int64_t stride, int rows, int64_t k, uint32_t* panel) {
  store_panel(rows, (k + 1) / 2, panel, [=](int r, int64_t s) {
    const float* from = x + r * stride + 2 * s;
    const int64_t left = k - 2 * s;
    return reinterpret_cast<__m512i>(
        _mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(first(left > 16 ? left - 16 : 0), from + 16), _mm512_maskz_loadu_ps(first(left), from)));
  });
}

void pack_panel_f32(const float* x, int64_t stride, int rows, int64_t k, uint32_t* panel) {
  store_panel(rows, k, panel, [=](int r, int64_t s) { return _mm512_maskz_loadu_epi32(first(k - s), x + r * stride + s); });
}

void gather_panel(const uint32_t* const* row, int rows, int64_t steps, uint32_t* panel) {
  store_panel(rows, steps, panel, [=](int r, int64_t s) { return _mm512_maskz_loadu_epi32(first(steps - s), row[r] + s); });
}

void store_steps(__m512i value, int count, int rows, uint32_t* panel) {
  if (rows == 1) return _mm512_mask_storeu_epi32(panel, first(count), value);
  alignas(64) uint32_t steps[16];
  _mm512_store_si512(steps, value);
  for (int i = 0; i < count; ++i) panel[i * rows] = steps[i];
}

__m512 silu_mul(const float* gate, const float* up, __mmask16 mask) {
  const __m512 g = _mm512_maskz_loadu_ps(mask, gate);
  return _mm512_mul_ps(_mm512_mul_ps(g, sigmoid_ps(g)), _mm512_maskz_loadu_ps(mask, up));
}

void silu_mul_panel_bf16(const float* gate, const float* up, int64_t stride, int rows, int columns, uint32_t* panel) {
  const __mmask16 mask = first(columns);
  for (int r = 0; r < rows; ++r) {
    const __m512i value =
        reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(_mm512_setzero_ps(), silu_mul(gate + r * stride, up + r * stride, mask)));
    store_steps(value, (columns + 1) / 2, rows, panel + r);
  }
}

void silu_mul_panel_f32(const float* gate, const float* up, int64_t stride, int rows, int columns, uint32_t* panel) {
  const __mmask16 mask = first(columns);
  for (int r = 0; r < rows; ++r)
    store_steps(_mm512_castps_si512(silu_mul(gate + r * stride, up + r * stride, mask)), columns, rows, panel + r);
}

void add_weighted(const float* const* row, const float* weight, int64_t count, int64_t columns, float* y) {
  for (int64_t c = 0; c < columns; c += 16) {
    const __mmask16 mask = first(columns - c);
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
