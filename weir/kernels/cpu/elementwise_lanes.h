// One vector of F32 lanes under the same names for AVX2 and AVX-512, so that a kernel that does not depend on the width is written once
// (*_simd.h) and compiled twice. Same rules as vec.h: everything is static.
//
// Partial vectors are masked, never handled by other code: an element's bits must not depend on where in a row it lies.
#pragma once

#include "weir/kernels/cpu/vec.h"

namespace weir::cpu {
namespace {

struct All {};  // the mask of a full vector

#ifdef __AVX512F__

using Vec = __m512;
using Mask = __mmask16;
constexpr int64_t kLanes = 16;

inline Mask first_lanes(int64_t n) { return n >= kLanes ? Mask{0xffff} : n <= 0 ? Mask{0} : static_cast<Mask>((1u << n) - 1); }
inline Vec zero() { return _mm512_setzero_ps(); }
inline Vec broadcast(float x) { return _mm512_set1_ps(x); }
inline Vec load(const float* p, All = {}) { return _mm512_loadu_ps(p); }
inline Vec load(const float* p, Mask m) { return _mm512_maskz_loadu_ps(m, p); }
inline void store(float* p, Vec v, All = {}) { _mm512_storeu_ps(p, v); }
inline void store(float* p, Vec v, Mask m) { _mm512_mask_storeu_ps(p, m, v); }
inline Vec keep(Vec v, Mask m, Vec otherwise) { return _mm512_mask_blend_ps(m, otherwise, v); }
inline Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline Vec div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
inline Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }    // a b + c
inline Vec fnma(Vec a, Vec b, Vec c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a b
inline Vec fms(Vec a, Vec b, Vec c) { return _mm512_fmsub_ps(a, b, c); }    // a b - c
inline Vec abs(Vec a) { return _mm512_abs_ps(a); }
inline __m256 halves_added(Vec v) { return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)); }
inline bool any_nan(Vec a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q) != 0; }
inline __m256 halves_max(Vec v) { return _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)); }

// Stores the lanes of v as BF16, nearest even, and returns what was stored.
inline Vec store_bf16(uint16_t* p, Vec v) {
  const __m256i rounded = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), rounded);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded), 16));
}

#else

using Vec = __m256;
using Mask = __m256i;
constexpr int64_t kLanes = 8;

inline Mask first_lanes(int64_t n) {
  const auto count = static_cast<int>(n > kLanes ? kLanes : n < 0 ? 0 : n);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Vec zero() { return _mm256_setzero_ps(); }
inline Vec broadcast(float x) { return _mm256_set1_ps(x); }
inline Vec load(const float* p, All = {}) { return _mm256_loadu_ps(p); }
inline Vec load(const float* p, Mask m) { return _mm256_maskload_ps(p, m); }
inline void store(float* p, Vec v, All = {}) { _mm256_storeu_ps(p, v); }
inline void store(float* p, Vec v, Mask m) { _mm256_maskstore_ps(p, m, v); }
inline Vec keep(Vec v, Mask m, Vec otherwise) { return _mm256_blendv_ps(otherwise, v, _mm256_castsi256_ps(m)); }
inline Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
inline Vec div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
inline Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec fnma(Vec a, Vec b, Vec c) { return _mm256_fnmadd_ps(a, b, c); }
inline Vec fms(Vec a, Vec b, Vec c) { return _mm256_fmsub_ps(a, b, c); }
inline Vec abs(Vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
inline __m256 halves_added(Vec v) { return v; }
inline bool any_nan(Vec a) { return _mm256_movemask_ps(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)) != 0; }
inline __m256 halves_max(Vec v) { return v; }

inline Vec store_bf16(uint16_t* p, Vec v) {
  const __m256i bits = _mm256_castps_si256(v), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i high = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7fff)), 16);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(high, 16));
}

#endif

inline Vec keep(Vec v, All, Vec) { return v; }

inline __m128 quarters_added(Vec v) {
  const __m256 h = halves_added(v);
  return _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}

// The sums of the lanes of four vectors. Each is added up by the tree of sum_of().
inline __m128 sums_of(Vec a, Vec b, Vec c, Vec d) {
  const __m128 p = quarters_added(a), q = quarters_added(b), r = quarters_added(c), s = quarters_added(d);
  const __m128 pq_low = _mm_unpacklo_ps(p, q), pq_high = _mm_unpackhi_ps(p, q);  // p0 q0 p1 q1, p2 q2 p3 q3
  const __m128 rs_low = _mm_unpacklo_ps(r, s), rs_high = _mm_unpackhi_ps(r, s);
  const __m128 pq = _mm_add_ps(pq_low, pq_high), rs = _mm_add_ps(rs_low, rs_high);  // p0+p2 q0+q2 p1+p3 q1+q3
  return _mm_add_ps(_mm_movelh_ps(pq, rs), _mm_movehl_ps(rs, pq));
}

inline float sum_of(Vec v) {
  const __m128 q = quarters_added(v), pairs = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(pairs, _mm_shuffle_ps(pairs, pairs, 1)));
}

inline float max_of(Vec v) {
  const __m256 h = halves_max(v);
  const __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1)), pairs = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(pairs, _mm_shuffle_ps(pairs, pairs, 1)));
}

// Asks for a line that is wanted soon, in L2: what L1 waits for would keep its few misses busy. Any address will do. (g++ 12 takes a lambda
// that holds nothing but _mm_prefetch for one without effect.)
inline void fetch(const void* p) { asm volatile("prefetcht1 (%0)" : : "r"(p)); }

// body(i, mask) for every vector of n elements; mask is All but for a partial one at the end.
template <class Body>
inline void for_lanes(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, All{});
  if (i < n) body(i, first_lanes(n - i));
}

}  // namespace
}  // namespace weir::cpu
