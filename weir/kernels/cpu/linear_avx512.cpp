#include <cstdint>

#include "weir/kernels/cpu/coded_simd.h"
#include "weir/kernels/cpu/linear_steps.h"
#include "weir/kernels/cpu/rows_avx512.h"
#include "weir/kernels/cpu/vec.h"

namespace weir::cpu {
namespace {

struct Bf16 {
  using Value = __m512;
  static __m512 sum(__m512 sum) { return sum; }
  static Value start(const float* y, bool continued) { return continued ? _mm512_loadu_ps(y) : Value{}; }
  static constexpr int kExtraSteps = 0;
  static __m512 dot(__m512 sum, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
};

struct F32 {
  using Value = __m512;
  static __m512 sum(__m512 sum) { return sum; }
  static Value start(const float* y, bool continued) { return continued ? _mm512_loadu_ps(y) : Value{}; }
  static constexpr int kExtraSteps = 0;
  static __m512 dot(__m512 sum, __m512i a, __m512i b) { return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum); }
};

// Sums as vectors of int: kept in __m512i, g++ 12 copies or spills every accumulator of the loop.
using Int16 = int __attribute__((vector_size(64)));

struct I8 {
  using Value = Int16;
  static __m512i sum(Int16 sum) { return reinterpret_cast<__m512i>(sum); }
  static Value start(const float*, bool) { return Value{}; }
  static constexpr int kExtraSteps = kInt8ExtraSteps;
  static Int16 dot(Int16 sum, __m512i a, __m512i b) {
    return reinterpret_cast<Int16>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), a, b));
  }
};

// Where __builtin_prefetch puts what it is asked for: into L1 past the other caches, into L2, or into all of them.
constexpr int kIntoL1 = 0, kIntoL2 = 2, kIntoAll = 3;

// Accumulators of 12 rows x 32 columns fill 24 of the 32 registers; the loops over r are unrolled completely, so they stay there.
template <class Type, int rows, int into>
void multiply_rows(const uint32_t* panel, const uint32_t* tile0, const uint32_t* tile1, int64_t steps, float* y, int64_t y_stride,
                   int columns, Sum sum, const Ahead& ahead) {
  typename Type::Value left[rows], right[rows];
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    left[r] = Type::start(y + r * y_stride, sum == Sum::kContinued);
    right[r] = Type::start(y + r * y_stride + kTileColumns, sum == Sum::kContinued);
  }
  steps -= Type::kExtraSteps;
  const int64_t near_end = steps > ahead_steps(rows) ? steps - ahead_steps(rows) : 0;
  const uint32_t *soon0 = ahead.near0, *soon1 = ahead.near1;
  for (int64_t s = 0, end = near_end;; end = steps, soon0 = ahead.far0, soon1 = ahead.far1) {
    for (; s < end; ++s) {
      __builtin_prefetch(soon0, 0, into);
      __builtin_prefetch(soon1, 0, into);
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
    __m512 first_half = finished(Type::sum(left[r]), tile0, panel + r), second_half = finished(Type::sum(right[r]), tile1, panel + r);
    if (sum == Sum::kAdded) {
      first_half = _mm512_add_ps(_mm512_maskz_loadu_ps(mask0, out), first_half);
      second_half = _mm512_add_ps(_mm512_maskz_loadu_ps(mask1, out + 16), second_half);
    }
    _mm512_mask_storeu_ps(out, mask0, first_half);
    _mm512_mask_storeu_ps(out + 16, mask1, second_half);
  }
}

// Few rows, which use the weights once.
template <class Type, int rows>
void multiply_few(const uint32_t* panel, const uint32_t* tile0, const uint32_t* tile1, int64_t steps, float* y, int64_t y_stride,
                  int columns, Sum sum, const Ahead& ahead) {
  static_assert(reads_once(rows));
  if (prefetches_past_caches()) return multiply_rows<Type, rows, kIntoL1>(panel, tile0, tile1, steps, y, y_stride, columns, sum, ahead);
  multiply_rows<Type, rows, kIntoAll>(panel, tile0, tile1, steps, y, y_stride, columns, sum, ahead);
}

template <class Type>
void multiply(const uint32_t* panel, const uint32_t* tile0, const uint32_t* tile1, int64_t steps, int rows, float* y, int64_t y_stride,
              int columns, Sum sum, const Ahead& ahead) {
  switch (rows) {
    case 1: return multiply_few<Type, 1>(panel, tile0, tile1, steps, y, y_stride, columns, sum, ahead);
    case 2: return multiply_few<Type, 2>(panel, tile0, tile1, steps, y, y_stride, columns, sum, ahead);
    case 3: return multiply_few<Type, 3>(panel, tile0, tile1, steps, y, y_stride, columns, sum, ahead);
    case 4: return multiply_few<Type, 4>(panel, tile0, tile1, steps, y, y_stride, columns, sum, ahead);
    case 5: return multiply_rows<Type, 5, kIntoL2>(panel, tile0, tile1, steps, y, y_stride, columns, sum, ahead);
    case 6: return multiply_rows<Type, 6, kIntoL2>(panel, tile0, tile1, steps, y, y_stride, columns, sum, ahead);
    case 7: return multiply_rows<Type, 7, kIntoL2>(panel, tile0, tile1, steps, y, y_stride, columns, sum, ahead);
    case 8: return multiply_rows<Type, 8, kIntoL2>(panel, tile0, tile1, steps, y, y_stride, columns, sum, ahead);
    case 9: return multiply_rows<Type, 9, kIntoL2>(panel, tile0, tile1, steps, y, y_stride, columns, sum, ahead);
    case 10: return multiply_rows<Type, 10, kIntoL2>(panel, tile0, tile1, steps, y, y_stride, columns, sum, ahead);
    case 11: return multiply_rows<Type, 11, kIntoL2>(panel, tile0, tile1, steps, y, y_stride, columns, sum, ahead);
    case 12: return multiply_rows<Type, 12, kIntoL2>(panel, tile0, tile1, steps, y, y_stride, columns, sum, ahead);
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

void pack_panel_bf16(const float* x, int64_t stride, int rows, int /*room*/, int64_t k, const InputScale&, uint32_t* panel) {
  store_panel(rows, (k + 1) / 2, panel, [=](int r, int64_t s) { return bf16_steps(x + r * stride + 2 * s, k - 2 * s); });
}

void pack_panel_f32(const float* x, int64_t stride, int rows, int /*room*/, int64_t k, const InputScale&, uint32_t* panel) {
  store_panel(rows, k, panel, [=](int r, int64_t s) { return _mm512_maskz_loadu_epi32(first(k - s), x + r * stride + s); });
}

void pack_panel_i8(const float* x, int64_t stride, int rows, int /*room*/, int64_t k, const InputScale& input, uint32_t* panel) {
  const int64_t steps = (k + 3) / 4;
  Quantiser quantiser[kMaxPanelRows];  // as many as store_panel() looks at
  for (int r = 0; r < rows; ++r) {
    const RowScale scale = row_scale(x + r * stride, k, input);
    quantiser[r] = {_mm512_set1_ps(scale.scale), _mm512_set1_ps(input.offset)};
    __builtin_memcpy(panel + steps * rows + r, &scale.factor, sizeof(scale.factor));
    panel[(steps + 1) * rows + r] = 0;
  }
  store_panel(rows, steps, panel, [&](int r, int64_t s) { return quantiser[r].sixty_four(x + r * stride + 4 * s, k - 4 * s); });
}

void gather_panel(const uint32_t* const* row, int rows, int /*room*/, int64_t steps, uint32_t* panel) {
  store_panel(rows, steps, panel, [=](int r, int64_t s) { return _mm512_maskz_loadu_epi32(first(steps - s), row[r] + s); });
}

void store_steps(__m512i value, int count, int rows, uint32_t* panel) {
  if (rows == 1) return _mm512_mask_storeu_epi32(panel, first(count), value);
  alignas(64) uint32_t steps[16];
  _mm512_store_si512(steps, value);
  for (int i = 0; i < count; ++i) panel[i * rows] = steps[i];
}

void silu_mul_panel_bf16(const float* gate, const float* up, int64_t stride, int rows, int /*room*/, int64_t column, int64_t width,
                         uint32_t* panel) {
  const int columns = columns_from(column, width);
  panel += column / 2 * rows;
  const __mmask16 mask = first(columns);
  for (int r = 0; r < rows; ++r) {
    const __m512i value =
        reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(_mm512_setzero_ps(), silu_mul(gate + r * stride, up + r * stride, mask)));
    store_steps(value, (columns + 1) / 2, rows, panel + r);
  }
}

void silu_mul_panel_f32(const float* gate, const float* up, int64_t stride, int rows, int /*room*/, int64_t column, int64_t width,
                        uint32_t* panel) {
  const int columns = columns_from(column, width);
  panel += column * rows;
  const __mmask16 mask = first(columns);
  for (int r = 0; r < rows; ++r)
    store_steps(_mm512_castps_si512(silu_mul(gate + r * stride, up + r * stride, mask)), columns, rows, panel + r);
}

}  // namespace

const LinearKernels kLinearAvx512 = {
    .panel_rows = kStepPanelRows,
    .panels_are_even = true,
    .panel_align = 1,
    .memory_bound_rows = 8,
    .bf16 = {pack_panel_bf16, gather_panel, multiply_panels<multiply<Bf16>>, silu_mul_panel_bf16},
    .f32 = {pack_panel_f32, gather_panel, multiply_panels<multiply<F32>>, silu_mul_panel_f32},
    .i8 = {pack_panel_i8, gather_panel, multiply_panels<multiply<I8>>, nullptr},
    .multiply_coded = multiply_coded<multiply<Bf16>, VectorDecoder>,
    .silu_mul = silu_mul_rows,
    .scatter_add = scatter_add,
};

}  // namespace weir::cpu
