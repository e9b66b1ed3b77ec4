#include <cstdint>

#include "weir/kernels/cpu/ceiling.h"
#include "weir/kernels/cpu/vec.h"

namespace weir::cpu {
namespace {

uint64_t read(const void* data, int64_t bytes) {
  const auto* p = static_cast<const __m512i*>(data);
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  for (int64_t i = 0; i < bytes / 64; i += 4) {
    a = _mm512_add_epi64(a, _mm512_loadu_si512(p + i));
    b = _mm512_add_epi64(b, _mm512_loadu_si512(p + i + 1));
    c = _mm512_add_epi64(c, _mm512_loadu_si512(p + i + 2));
    d = _mm512_add_epi64(d, _mm512_loadu_si512(p + i + 3));
  }
  alignas(64) uint64_t sums[8];
  _mm512_store_si512(sums, _mm512_add_epi64(_mm512_add_epi64(a, b), _mm512_add_epi64(c, d)));
  uint64_t sum = 0;
  for (int i = 0; i < 8; ++i) sum += sums[i];
  return sum;
}

constexpr int kSums = 24;

double finish(const __m512 (&sums)[kSums], int64_t rounds, int per_lane) {
  __m512 total = _mm512_setzero_ps();
#pragma GCC unroll 24
  for (int i = 0; i < kSums; ++i) total = _mm512_add_ps(total, sums[i]);
  alignas(64) float out[16];
  _mm512_store_ps(out, total);
  return static_cast<double>(rounds) * kSums * 16 * per_lane + (out[0] == 12345.0f ? 1 : 0);
}

double bf16(int64_t rounds) {
  __m512 sums[kSums];
#pragma GCC unroll 24
  for (int i = 0; i < kSums; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x38803880)), y = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x38813881));
  for (int64_t n = 0; n < rounds; ++n) {
#pragma GCC unroll 24
    for (int i = 0; i < kSums; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], x, y);
  }
  return finish(sums, rounds, 4);
}

double f32(int64_t rounds) {
  __m512 sums[kSums];
#pragma GCC unroll 24
  for (int i = 0; i < kSums; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512 x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(1e-3f);
  for (int64_t n = 0; n < rounds; ++n) {
#pragma GCC unroll 24
    for (int i = 0; i < kSums; ++i) sums[i] = _mm512_fmadd_ps(sums[i], x, y);
  }
  return finish(sums, rounds, 2);
}

// Sums as vectors of int, as in the product kernels: kept in __m512i, g++ 12 copies or spills every accumulator of the loop.
double i8(int64_t rounds) {
  using Int16 = int __attribute__((vector_size(64)));
  Int16 sums[kSums];
#pragma GCC unroll 24
  for (int i = 0; i < kSums; ++i) sums[i] = reinterpret_cast<Int16>(_mm512_set1_epi32(i));
  const __m512i x = _mm512_set1_epi8(3), y = _mm512_set1_epi8(5);
  for (int64_t n = 0; n < rounds; ++n) {
#pragma GCC unroll 24
    for (int i = 0; i < kSums; ++i) sums[i] = reinterpret_cast<Int16>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sums[i]), x, y));
  }
  Int16 total = {};
#pragma GCC unroll 24
  for (int i = 0; i < kSums; ++i) total += sums[i];
  return static_cast<double>(rounds) * kSums * 16 * 8 + (total[0] == 12345 ? 1 : 0);
}

}  // namespace

const CoreCeilings kCeilingsAvx512 = {read, bf16, f32, i8};

}  // namespace weir::cpu
