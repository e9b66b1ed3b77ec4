// The vector kernels of elementwise.h, for the instruction set of the file that includes this one.
#pragma once

#include "weir/kernels/cpu/elementwise.h"
#include "weir/kernels/cpu/elementwise_lanes.h"

namespace weir::cpu {
namespace {

inline Vec silu(Vec x) { return mul(x, sigmoid_ps(x)); }

inline float sum_of_squares(const float* x, int64_t n) {
  Vec sums[4] = {zero(), zero(), zero(), zero()};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes)
    for (int64_t j = 0; j < 4; ++j) {
      const Vec v = load(x + i + j * kLanes);
      sums[j] = fma(v, v, sums[j]);
    }
  for_lanes(n - i, [&](int64_t j, auto mask) {
    const Vec v = load(x + i + j, mask);
    sums[0] = fma(v, v, sums[0]);
  });
  return sum_of(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

inline float inverse_rms(const float* x, int64_t n, float eps) {
  return 1.0f / __builtin_sqrtf(sum_of_squares(x, n) / static_cast<float>(n) + eps);
}

void rms_norm(const float* x, const float* w, float* y, int64_t n, float eps) {
  const Vec inverse = broadcast(inverse_rms(x, n, eps));
  for_lanes(n, [&](int64_t i, auto mask) { store(y + i, mul(mul(load(x + i, mask), inverse), load(w + i, mask)), mask); });
}

void norm_rope(const float* x, const float* w, const float* cos, const float* sin, float* y, int64_t n, int64_t half, float eps) {
  rms_norm(x, w, y, n, eps);
  for_lanes(half, [&](int64_t i, auto mask) {
    const Vec low = load(y + i, mask), high = load(y + half + i, mask), c = load(cos + i, mask), s = load(sin + i, mask);
    store(y + i, fnma(high, s, mul(low, c)), mask);
    store(y + half + i, fma(low, s, mul(high, c)), mask);
  });
}

void rms_norm_gated(const float* o, const float* w, const float* z, float* y, int64_t n, float eps) {
  const Vec inverse = broadcast(inverse_rms(o, n, eps));
  for_lanes(n, [&](int64_t i, auto mask) {
    store(y + i, mul(mul(mul(load(o + i, mask), inverse), load(w + i, mask)), silu(load(z + i, mask))), mask);
  });
}

void l2_normalise(const float* x, float* y, int64_t n, float scale) {
  const Vec inverse = broadcast(scale / __builtin_sqrtf(sum_of_squares(x, n) + 1e-6f));
  for_lanes(n, [&](int64_t i, auto mask) { store(y + i, mul(load(x + i, mask), inverse), mask); });
}

void gate(float* o, const float* gate, int64_t n) {
  for_lanes(n, [&](int64_t i, auto mask) { store(o + i, mul(load(o + i, mask), sigmoid_ps(load(gate + i, mask))), mask); });
}

void silu_mul(const float* gate, const float* up, float* y, int64_t n) {
  for_lanes(n, [&](int64_t i, auto mask) { store(y + i, mul(silu(load(gate + i, mask)), load(up + i, mask)), mask); });
}

// One vector of channels of all tokens: a token's input is loaded once and stays for the three that follow it.
template <class M>
inline void conv_four(const ConvSilu& c, int64_t i, M mask) {
  const auto weight = [&](int64_t j) { return load(c.w + j * c.w_stride + i, mask); };
  const auto input = [&](int64_t t) { return load(c.inputs[t] + i, mask); };
  const Vec w0 = weight(0), w1 = weight(1), w2 = weight(2), w3 = weight(3);
  Vec x0 = input(0), x1 = input(1), x2 = input(2);
  const float* next = c.next + i;
  for (int64_t t = 0; t < c.tokens; ++t, next += c.next_stride) {
    if (c.next != nullptr) fetch(next);
    const Vec x3 = input(t + 3);
    store(c.y + t * c.n + i, silu(fma(w3, x3, fma(w2, x2, fma(w1, x1, mul(w0, x0))))), mask);
    x0 = x1, x1 = x2, x2 = x3;
  }
}

void conv_silu(const ConvSilu& c) {
  for_lanes(c.n, [&](int64_t i, auto mask) {
    if (c.kernel == 4) return conv_four(c, i, mask);
    for (int64_t t = 0; t < c.tokens; ++t) {
      Vec sum = zero();
      for (int64_t j = 0; j < c.kernel; ++j) sum = fma(load(c.w + j * c.w_stride + i, mask), load(c.inputs[t + j] + i, mask), sum);
      store(c.y + t * c.n + i, silu(sum), mask);
    }
  });
}

// log(1 + e) for e in [0, 1]: 2 atanh(s) = 2 (s + s³/3 + s⁵/5 + …) with s = e / (2 + e) <= 1/3; the first term left out is below 2e-8 s.
inline Vec log1p_unit(Vec e) {
  const Vec s = div(e, add(e, broadcast(2.0f))), square = mul(s, s);
  Vec sum = broadcast(2.0f / 13);
  sum = fma(sum, square, broadcast(2.0f / 11));
  sum = fma(sum, square, broadcast(2.0f / 9));
  sum = fma(sum, square, broadcast(2.0f / 7));
  sum = fma(sum, square, broadcast(2.0f / 5));
  sum = fma(sum, square, broadcast(2.0f / 3));
  sum = fma(sum, square, broadcast(2.0f));
  return mul(sum, s);
}

void delta_gates(const float* b, const float* a, const float* a_log, const float* dt_bias, float* g, float* beta, int64_t n) {
  for_lanes(n, [&](int64_t i, auto mask) {
    const Vec x = add(load(a + i, mask), load(dt_bias + i, mask));
    const Vec softplus = add(max(x, zero()), log1p_unit(exp_ps(sub(zero(), abs(x)))));
    store(g + i, sub(zero(), mul(exp_ps(load(a_log + i, mask)), softplus)), mask);
    store(beta + i, sigmoid_ps(load(b + i, mask)), mask);
  });
}

inline void widen(const uint16_t* x, float* y) {
#ifdef __AVX512F__
  store(y, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x))), 16)));
#else
  store(y, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x))), 16)));
#endif
}

float largest(const float* x, int64_t n) {
  const Vec least = broadcast(-__builtin_inff());
  Vec most = least;
  bool has_nan = false;
  for_lanes(n, [&](int64_t i, auto mask) {
    const Vec v = keep(load(x + i, mask), mask, least);
    has_nan |= any_nan(v);
    most = max(most, v);
  });
  return has_nan ? __builtin_nanf("") : max_of(most);
}

float weights(const float* x, float largest, float scale, float* y, int64_t n) {
  const Vec most = broadcast(largest), factor = broadcast(scale);
  Vec sum = zero();
  for_lanes(n, [&](int64_t i, auto mask) {
    const Vec w = keep(exp_ps(mul(sub(load(x + i, mask), most), factor)), mask, zero());
    store(y + i, w, mask);
    sum = add(sum, w);
  });
  return sum_of(sum);
}

void widen_bf16(const uint16_t* x, float* y, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) widen(x + i, y + i);
  for (; i < n; ++i) {  // exact either way
    const uint32_t bits = static_cast<uint32_t>(x[i]) << 16;
    __builtin_memcpy(y + i, &bits, sizeof bits);
  }
}

void round_bf16(const float* x, uint16_t* y, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_bf16(y + i, load(x + i));
  if (i == n) return;
  uint16_t last[kLanes];
  store_bf16(last, load(x + i, first_lanes(n - i)));
  __builtin_memcpy(y + i, last, static_cast<unsigned long>(n - i) * sizeof(uint16_t));
}

}  // namespace
}  // namespace weir::cpu
