#include <cstdint>

#include "weir/kernels/cpu/ceiling.h"
#include "weir/kernels/cpu/vec.h"

namespace weir::cpu {
namespace {

uint64_t read(const void* data, int64_t bytes) {
  const auto* p = static_cast<const __m256i*>(data);
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  for (int64_t i = 0; i < bytes / 32; i += 4) {
    a = _mm256_add_epi64(a, _mm256_loadu_si256(p + i));
    b = _mm256_add_epi64(b, _mm256_loadu_si256(p + i + 1));
    c = _mm256_add_epi64(c, _mm256_loadu_si256(p + i + 2));
    d = _mm256_add_epi64(d, _mm256_loadu_si256(p + i + 3));
  }
  alignas(32) uint64_t sums[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(sums), _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d)));
  return sums[0] + sums[1] + sums[2] + sums[3];
}

// BF16 pairs are widened and multiplied as F32 here, so F32 is the ceiling of both.
double multiply_add(int64_t rounds) {
  constexpr int kSums = 12;
  __m256 sums[kSums];
  const __m256 x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(1e-3f);
#pragma GCC unroll 12
  for (int i = 0; i < kSums; ++i) sums[i] = _mm256_set1_ps(static_cast<float>(i));
  for (int64_t n = 0; n < rounds; ++n) {
#pragma GCC unroll 12
    for (int i = 0; i < kSums; ++i) sums[i] = _mm256_fmadd_ps(sums[i], x, y);
  }
  alignas(32) float out[8];
  __m256 total = _mm256_setzero_ps();
#pragma GCC unroll 12
  for (int i = 0; i < kSums; ++i) total = _mm256_add_ps(total, sums[i]);
  _mm256_store_ps(out, total);
  return static_cast<double>(rounds) * kSums * 8 * 2 + (out[0] == 12345.0f ? 1 : 0);
}

// Four bytes are two products of 16-bit pairs, each added to the sum: what is exact without VNNI.
double bytes(int64_t rounds) {
  constexpr int kSums = 12;
  __m256i sums[kSums];
  __m256i x = _mm256_set1_epi16(3), y = _mm256_set1_epi16(5);
#pragma GCC unroll 12
  for (int i = 0; i < kSums; ++i) sums[i] = _mm256_set1_epi32(i);
  for (int64_t n = 0; n < rounds; ++n) {
    asm volatile("" : "+x"(x), "+x"(y));  // else the products would be made once, before the loop
#pragma GCC unroll 12
    for (int i = 0; i < kSums; ++i) sums[i] = _mm256_add_epi32(_mm256_add_epi32(sums[i], _mm256_madd_epi16(x, y)), _mm256_madd_epi16(y, x));
  }
  __m256i total = _mm256_setzero_si256();
#pragma GCC unroll 12
  for (int i = 0; i < kSums; ++i) total = _mm256_add_epi32(total, sums[i]);
  return static_cast<double>(rounds) * kSums * 8 * 8 + (_mm256_extract_epi32(total, 0) == 12345 ? 1 : 0);
}

}  // namespace

const CoreCeilings kCeilingsAvx2 = {read, multiply_add, multiply_add, bytes};

}  // namespace weir::cpu
