#include <cstdint>

#include "weir/kernels/cpu/coded_simd.h"
#include "weir/kernels/cpu/linear_steps.h"
#include "weir/kernels/cpu/vec.h"

namespace weir::cpu {
namespace {

__m256i high_half(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi32(static_cast<int>(0xffff0000u))); }

struct Bf16 {
  // A BF16 is the upper half of the F32 of the same value: the pair (k, k + 1) becomes two F32 products, added in that order.
  struct Step {
    __m256 first, second;
  };
  using Sum = __m256;
  static Step load(const uint32_t* p) {
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(v, 16)), _mm256_castsi256_ps(high_half(v))};
  }
  static Step broadcast(const uint32_t* p) {
    const __m256i v = _mm256_set1_epi32(static_cast<int>(*p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(v, 16)), _mm256_castsi256_ps(high_half(v))};
  }
  static __m256 dot(__m256 sum, const Step& a, const Step& b) {
    return _mm256_fmadd_ps(a.second, b.second, _mm256_fmadd_ps(a.first, b.first, sum));
  }
};

struct F32 {
  using Step = __m256;
  using Sum = __m256;
  static Step load(const uint32_t* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
  static Step broadcast(const uint32_t* p) { return _mm256_broadcast_ss(reinterpret_cast<const float*>(p)); }
  static __m256 dot(__m256 sum, Step a, Step b) { return _mm256_fmadd_ps(a, b, sum); }
};

struct I8 {
  // Bytes widened to 16 bits, even and odd ones apart: the instruction for bytes (maddubs) saturates and would not be exact.
  struct Step {
    __m256i even, odd;
  };
  using Sum = __m256i;
  static Step load(const uint32_t* p) {
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8), _mm256_srai_epi16(v, 8)};
  }
  static Step broadcast(const uint32_t* p) {  // unsigned
    const __m256i v = _mm256_set1_epi32(static_cast<int>(*p));
    return {_mm256_and_si256(v, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(v, 8)};
  }
  static __m256i dot(__m256i sum, const Step& a, const Step& b) {
    return _mm256_add_epi32(_mm256_add_epi32(sum, _mm256_madd_epi16(a.even, b.even)), _mm256_madd_epi16(a.odd, b.odd));
  }
};

void load(const float* from, __m256& sums) { sums = _mm256_loadu_ps(from); }
void load(const float* from, __m256i& sums) { sums = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
void store(float* to, __m256 sums) { _mm256_storeu_ps(to, sums); }
void store(float* to, __m256i sums) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), sums); }

// `rows` rows of a panel of `panel_rows`, against `tiles` tiles. The sums are added to out[r][32], those of I8 as the bits of an int.
template <class Type, int rows, int tiles>
void multiply_rows(const uint32_t* panel, int panel_rows, const uint32_t* tile0, const uint32_t* tile1, int64_t steps, float* out,
                   const Ahead& ahead) {
  typename Type::Sum sums[rows][2 * tiles];
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
    for (int j = 0; j < 2 * tiles; ++j) load(out + r * 32 + 8 * j, sums[r][j]);
  const int64_t near_end = steps > ahead_steps(panel_rows) ? steps - ahead_steps(panel_rows) : 0;
  const uint32_t *soon0 = ahead.near0, *soon1 = ahead.near1;
  for (int64_t s = 0, end = near_end;; end = steps, soon0 = ahead.far0, soon1 = ahead.far1) {
    for (; s < end; ++s) {
      _mm_prefetch(reinterpret_cast<const char*>(soon0), _MM_HINT_T0);
      if constexpr (tiles == 2) _mm_prefetch(reinterpret_cast<const char*>(soon1), _MM_HINT_T0);
#pragma GCC unroll 2
      for (int t = 0; t < tiles; ++t) {
        const uint32_t* tile = t == 0 ? tile0 : tile1;
        const typename Type::Step b0 = Type::load(tile), b1 = Type::load(tile + 8);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
          const typename Type::Step a = Type::broadcast(panel + r);
          sums[r][2 * t] = Type::dot(sums[r][2 * t], a, b0);
          sums[r][2 * t + 1] = Type::dot(sums[r][2 * t + 1], a, b1);
        }
      }
      tile0 += kTileColumns;
      tile1 += kTileColumns;
      soon0 += kTileColumns;
      soon1 += kTileColumns;
      panel += panel_rows;
    }
    if (s == steps) break;
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
    for (int j = 0; j < 2 * tiles; ++j) store(out + r * 32 + 8 * j, sums[r][j]);
}

template <class Type>
void multiply_group(const uint32_t* panel, const uint32_t* tile0, const uint32_t* tile1, int64_t steps, int rows, float (*sums)[32],
                    const Ahead& ahead) {
  // One or two rows need both tiles to have enough independent sums in flight; three or four fill the 16 registers with one.
  for (int r = 0; r < rows;) {
    const uint32_t* part = panel + r;
    float* out = sums[r];
    const auto both = [&]<int n>() {
      multiply_rows<Type, n, 1>(part, rows, tile0, tile0, steps, out, ahead);
      multiply_rows<Type, n, 1>(part, rows, tile1, tile1, steps, out + 16, Ahead{ahead.near1, ahead.near1, ahead.far1, ahead.far1});
      r += n;
    };
    switch (rows - r) {
      case 1:
        multiply_rows<Type, 1, 2>(part, rows, tile0, tile1, steps, out, ahead);
        r += 1;
        break;
      case 2:
        multiply_rows<Type, 2, 2>(part, rows, tile0, tile1, steps, out, ahead);
        r += 2;
        break;
      case 3:
      case 5:
      case 6: both.template operator()<3>(); break;
      default: both.template operator()<4>(); break;
    }
  }
}

// What sums begin with: y, or zero.
void start_rows(float (*sums)[32], int rows, const float* y, int64_t y_stride, bool continued) {
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < 32; ++c) sums[r][c] = continued ? y[r * y_stride + c] : 0.0f;
}

void store_rows(const float (*sums)[32], int rows, float* y, int64_t y_stride, int columns, bool add) {
  for (int r = 0; r < rows; ++r) {
    float* out = y + r * y_stride;
    int c = 0;
    for (; c + 8 <= columns; c += 8) {
      const __m256 sum = _mm256_load_ps(sums[r] + c);
      _mm256_storeu_ps(out + c, add ? _mm256_add_ps(_mm256_loadu_ps(out + c), sum) : sum);
    }
    for (; c < columns; ++c) out[c] = add ? out[c] + sums[r][c] : sums[r][c];
  }
}

template <class Type>
void multiply(const uint32_t* panel, const uint32_t* tile0, const uint32_t* tile1, int64_t steps, int rows, float* y, int64_t y_stride,
              int columns, Sum sum, const Ahead& ahead) {
  alignas(64) float sums[kStepPanelRows][32];
  start_rows(sums, rows, y, y_stride, sum == Sum::kContinued);
  multiply_group<Type>(panel, tile0, tile1, steps, rows, sums, ahead);
  store_rows(sums, rows, y, y_stride, columns, sum == Sum::kAdded);
}

void multiply_i8(const uint32_t* panel, const uint32_t* tile0, const uint32_t* tile1, int64_t steps, int rows, float* y, int64_t y_stride,
                 int columns, Sum sum, const Ahead& ahead) {
  alignas(64) float sums[kStepPanelRows][32];
  const int64_t dots = steps - kInt8ExtraSteps;
  start_rows(sums, rows, y, y_stride, /*continued=*/false);
  multiply_group<I8>(panel, tile0, tile1, dots, rows, sums, ahead);
  for (int c = 0; c < 32; c += 8) {
    const uint32_t* extra = (c < kTileColumns ? tile0 : tile1) + dots * kTileColumns + c % kTileColumns;
    const __m256i correction = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(extra));
    const __m256 scale = _mm256_loadu_ps(reinterpret_cast<const float*>(extra + kTileColumns));
    for (int r = 0; r < rows; ++r) {
      const __m256i exact = _mm256_add_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(sums[r] + c)), correction);
      const __m256 row_scale = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(panel[dots * rows + r])));
      _mm256_store_ps(sums[r] + c, _mm256_mul_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(exact), scale), row_scale));
    }
  }
  store_rows(sums, rows, y, y_stride, columns, sum == Sum::kAdded);
}

// The BF16 (nearest even) of eight F32, each in the upper half of its lane.
__m256i round_to_bf16(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}

// Sixteen F32, zero behind `count`.
struct Sixteen {
  alignas(32) float v[16];
};

Sixteen load_up_to_16(const float* x, int64_t count) {
  Sixteen out;
  for (int i = 0; i < 16; ++i) out.v[i] = i < count ? x[i] : 0.0f;
  return out;
}

// Eight steps of BF16 pairs from sixteen values.
void pair_up(const float* x, uint32_t* steps) {
  const __m256i low = round_to_bf16(_mm256_loadu_ps(x)), high = round_to_bf16(_mm256_loadu_ps(x + 8));
  const __m256i even = _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high), 0x88));
  const __m256i odd = _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high), 0xdd));
  const __m256i pairs = _mm256_or_si256(_mm256_srli_epi32(even, 16), high_half(odd));
  // shuffle_ps works within 128-bit lanes: its 64-bit quarters come as low0, high0, low1, high1.
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(steps), _mm256_permute4x64_epi64(pairs, 0xd8));
}

void pack_panel_bf16(const float* x, int64_t stride, int rows, int /*room*/, int64_t k, const InputScale&, uint32_t* panel) {
  alignas(32) uint32_t steps[8];
  for (int64_t i = 0; i < k; i += 16) {
    const int count = k - i >= 16 ? 8 : static_cast<int>((k - i + 1) / 2);
    for (int r = 0; r < rows; ++r) {
      const float* from = x + r * stride + i;
      if (k - i >= 16) {
        pair_up(from, steps);
      } else {
        pair_up(load_up_to_16(from, k - i).v, steps);
      }
      uint32_t* to = panel + i / 2 * rows + r;
      for (int s = 0; s < count; ++s) to[s * rows] = steps[s];
    }
  }
}

void gather_panel(const uint32_t* const* row, int rows, int /*room*/, int64_t steps, uint32_t* panel) {
  for (int64_t s = 0; s < steps; ++s)
    for (int r = 0; r < rows; ++r) panel[s * rows + r] = row[r][s];
}

void pack_panel_f32(const float* x, int64_t stride, int rows, int /*room*/, int64_t k, const InputScale&, uint32_t* panel) {
  for (int64_t i = 0; i < k; ++i)
    for (int r = 0; r < rows; ++r) __builtin_memcpy(panel + i * rows + r, x + r * stride + i, sizeof(uint32_t));
}

// The largest |x| of a row; NaN when the row has one: as bits, because a comparison of floats would lose it.
float largest(const float* x, int64_t k) {
  __m256i most = _mm256_setzero_si256();
  for (int64_t i = 0; i < k; i += 16) {
    const Sixteen part = load_up_to_16(x + i, k - i);
    for (int j = 0; j < 16; j += 8) {
      const __m256i bits = _mm256_castps_si256(_mm256_load_ps(part.v + j));
      most = _mm256_max_epi32(most, _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff)));
    }
  }
  alignas(32) int lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), most);
  for (int i = 1; i < 8; ++i) lanes[0] = lanes[i] > lanes[0] ? lanes[i] : lanes[0];
  float value;
  __builtin_memcpy(&value, lanes, sizeof(value));
  return value;
}

// Sixteen x / scale + offset, rounded, as four steps of bytes that are 128 too large.
void quantise_16(const Sixteen& x, __m256 scale, __m256 offset, uint32_t* steps) {
  __m256i half[2];
  for (int i = 0; i < 2; ++i) {
    const __m256 value = _mm256_add_ps(_mm256_div_ps(_mm256_load_ps(x.v + 8 * i), scale), offset);
    const __m256 clamped = _mm256_min_ps(_mm256_max_ps(value, _mm256_set1_ps(-128.0f)), _mm256_set1_ps(127.0f));
    half[i] = _mm256_cvtps_epi32(clamped);
  }
  // packs works within 128-bit lanes: as 64-bit quarters, low0, high0, low1, high1.
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(half[0], half[1]), 0xd8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(steps), _mm_xor_si128(bytes, _mm_set1_epi8(static_cast<char>(0x80))));
}

void pack_panel_i8(const float* x, int64_t stride, int rows, int /*room*/, int64_t k, const InputScale& input, uint32_t* panel) {
  const int64_t steps = (k + 3) / 4;
  for (int r = 0; r < rows; ++r) {
    const float* row = x + r * stride;
    const float most = largest(row, k);
    float scale = input.scale, factor = most - most + 1.0f;  // NaN when the row is not finite
    if (input.scale == 0) {
      scale = most / 127.0f;
      if (scale < __FLT_MIN__) scale = __FLT_MIN__;
      factor = scale;
    }
    for (int64_t i = 0; i < k; i += 16) {
      uint32_t quantised[4];
      quantise_16(load_up_to_16(row + i, k - i), _mm256_set1_ps(scale), _mm256_set1_ps(input.offset), quantised);
      for (int64_t s = i / 4; s < i / 4 + 4 && s < steps; ++s) panel[s * rows + r] = quantised[s - i / 4];
    }
    __builtin_memcpy(panel + steps * rows + r, &factor, sizeof(factor));
    panel[(steps + 1) * rows + r] = 0;
  }
}

void silu_mul(const float* gate, const float* up, int columns, float* out) {
  const Sixteen g = load_up_to_16(gate, columns), u = load_up_to_16(up, columns);
  for (int i = 0; i < 16; i += 8) {
    const __m256 x = _mm256_load_ps(g.v + i);
    _mm256_store_ps(out + i, _mm256_mul_ps(_mm256_mul_ps(x, sigmoid_ps(x)), _mm256_load_ps(u.v + i)));
  }
}

void silu_mul_panel_bf16(const float* gate, const float* up, int64_t stride, int rows, int /*room*/, int64_t column, int64_t width,
                         uint32_t* panel) {
  const int columns = columns_from(column, width);
  panel += column / 2 * rows;
  alignas(32) float values[16];
  alignas(32) uint32_t steps[8];
  for (int r = 0; r < rows; ++r) {
    silu_mul(gate + r * stride, up + r * stride, columns, values);
    pair_up(values, steps);
    for (int s = 0; s < (columns + 1) / 2; ++s) panel[s * rows + r] = steps[s];
  }
}

void silu_mul_panel_f32(const float* gate, const float* up, int64_t stride, int rows, int /*room*/, int64_t column, int64_t width,
                        uint32_t* panel) {
  const int columns = columns_from(column, width);
  panel += column * rows;
  alignas(32) float values[16];
  for (int r = 0; r < rows; ++r) {
    silu_mul(gate + r * stride, up + r * stride, columns, values);
    for (int c = 0; c < columns; ++c) __builtin_memcpy(panel + c * rows + r, values + c, sizeof(uint32_t));
  }
}

void silu_mul_rows(const float* gate, const float* up, int64_t stride, int rows, int columns, float* out, int64_t out_stride) {
  alignas(32) float values[16];
  for (int r = 0; r < rows; ++r) {
    silu_mul(gate + r * stride, up + r * stride, columns, values);
    __builtin_memcpy(out + r * out_stride, values, static_cast<unsigned>(columns) * sizeof(float));
  }
}

void scatter_add(const float* x, int64_t stride, int64_t rows, int columns, const float* factor, const int32_t* token, float* y,
                 int64_t y_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = x + r * stride;
    float* to = y + token[r] * y_stride;
    int c = 0;
    for (; c + 8 <= columns; c += 8)
      _mm256_storeu_ps(to + c, _mm256_fmadd_ps(_mm256_set1_ps(factor[r]), _mm256_loadu_ps(from + c), _mm256_loadu_ps(to + c)));
    for (; c < columns; ++c) to[c] = __builtin_fmaf(factor[r], from[c], to[c]);
  }
}

}  // namespace

const LinearKernels kLinearAvx2 = {
    .panel_rows = kStepPanelRows,
    .panels_are_even = true,
    .panel_align = 1,
    .memory_bound_rows = 8,
    .bf16 = {pack_panel_bf16, gather_panel, multiply_panels<multiply<Bf16>>, silu_mul_panel_bf16},
    .f32 = {pack_panel_f32, gather_panel, multiply_panels<multiply<F32>>, silu_mul_panel_f32},
    .i8 = {pack_panel_i8, gather_panel, multiply_panels<multiply_i8>, nullptr},
    .multiply_coded = multiply_coded<multiply<Bf16>, VectorDecoder>,
    .silu_mul = silu_mul_rows,
    .scatter_add = scatter_add,
};

}  // namespace weir::cpu
