#include <cstdint>

#include "weir/kernels/cpu/linear.h"
#include "weir/kernels/cpu/vec.h"

namespace weir::cpu {
namespace {

__m256i high_half(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi32(static_cast<int>(0xffff0000u))); }

struct Bf16 {
  // A BF16 is the upper half of the F32 of the same value: the pair (k, k + 1) becomes two F32 products, added in that order.
  struct Step {
    __m256 first, second;
  };
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
  static Step load(const uint32_t* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
  static Step broadcast(const uint32_t* p) { return _mm256_broadcast_ss(reinterpret_cast<const float*>(p)); }
  static __m256 dot(__m256 sum, Step a, Step b) { return _mm256_fmadd_ps(a, b, sum); }
};

// `rows` rows of a panel of `panel_rows`, against `tiles` tiles. The sums go to out[r][32].
template <class Type, int rows, int tiles>
void multiply_rows(const uint32_t* panel, int panel_rows, const uint32_t* tile0, const uint32_t* tile1, int64_t steps, float* out,
                   const Ahead& ahead) {
  __m256 sums[rows][2 * tiles];
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
    for (int j = 0; j < 2 * tiles; ++j) sums[r][j] = _mm256_setzero_ps();
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
    for (int j = 0; j < 2 * tiles; ++j) _mm256_storeu_ps(out + r * 32 + 8 * j, sums[r][j]);
}

template <class Type>
void multiply(const uint32_t* panel, const uint32_t* tile0, const uint32_t* tile1, int64_t steps, int rows, float* y, int64_t y_stride,
              int columns, bool add, const Ahead& ahead) {
  alignas(64) float sums[kGroupRows][32];
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

void pack_panel_bf16(const float* x, int64_t stride, int rows, int64_t k, uint32_t* panel) {
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

void gather_panel(const uint32_t* const* row, int rows, int64_t steps, uint32_t* panel) {
  for (int64_t s = 0; s < steps; ++s)
    for (int r = 0; r < rows; ++r) panel[s * rows + r] = row[r][s];
}

void pack_panel_f32(const float* x, int64_t stride, int rows, int64_t k, uint32_t* panel) {
  for (int64_t i = 0; i < k; ++i)
    for (int r = 0; r < rows; ++r) __builtin_memcpy(panel + i * rows + r, x + r * stride + i, sizeof(uint32_t));
}

void silu_mul(const float* gate, const float* up, int columns, float* out) {
  const Sixteen g = load_up_to_16(gate, columns), u = load_up_to_16(up, columns);
  for (int i = 0; i < 16; i += 8) {
    const __m256 x = _mm256_load_ps(g.v + i);
    _mm256_store_ps(out + i, _mm256_mul_ps(_mm256_mul_ps(x, sigmoid_ps(x)), _mm256_load_ps(u.v + i)));
  }
}

void silu_mul_panel_bf16(const float* gate, const float* up, int64_t stride, int rows, int columns, uint32_t* panel) {
  alignas(32) float values[16];
  alignas(32) uint32_t steps[8];
  for (int r = 0; r < rows; ++r) {
    silu_mul(gate + r * stride, up + r * stride, columns, values);
    pair_up(values, steps);
    for (int s = 0; s < (columns + 1) / 2; ++s) panel[s * rows + r] = steps[s];
  }
}

void silu_mul_panel_f32(const float* gate, const float* up, int64_t stride, int rows, int columns, uint32_t* panel) {
  alignas(32) float values[16];
  for (int r = 0; r < rows; ++r) {
    silu_mul(gate + r * stride, up + r * stride, columns, values);
    for (int c = 0; c < columns; ++c) __builtin_memcpy(panel + c * rows + r, values + c, sizeof(uint32_t));
  }
}

void add_weighted(const float* const* row, const float* weight, int64_t count, int64_t columns, float* y) {
  int64_t c = 0;
  for (; c + 8 <= columns; c += 8) {
    __m256 sum = _mm256_setzero_ps();
    for (int64_t i = 0; i < count; ++i) sum = _mm256_fmadd_ps(_mm256_set1_ps(weight[i]), _mm256_loadu_ps(row[i] + c), sum);
    _mm256_storeu_ps(y + c, _mm256_add_ps(_mm256_loadu_ps(y + c), sum));
  }
  for (; c < columns; ++c) {
    float sum = 0.0f;
    for (int64_t i = 0; i < count; ++i) sum = __builtin_fmaf(weight[i], row[i][c], sum);
    y[c] += sum;
  }
}

}  // namespace

const LinearKernels kLinearAvx2 = {
    {pack_panel_bf16, multiply<Bf16>, silu_mul_panel_bf16},
    {pack_panel_f32, multiply<F32>, silu_mul_panel_f32},
    gather_panel,
    add_weighted,
};

}  // namespace weir::cpu
