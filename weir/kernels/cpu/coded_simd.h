// Decodes groups of coded tiles (coded.h) with the instruction set of the file that includes this one.
#pragma once

#include "weir/kernels/cpu/coded.h"
#include "weir/kernels/cpu/vec.h"

namespace weir::cpu {
namespace {

#ifdef __AVX512F__

class VectorDecoder {
 public:
  explicit VectorDecoder(const uint32_t* dictionary)
      : dictionary_(_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(dictionary)))) {}

  void decode(const uint32_t* group, uint32_t* plain) const {
    const __m512i nibble = _mm512_set1_epi8(15), codes = _mm512_loadu_si512(group + 32);
    interleave(group, _mm512_and_si512(codes, nibble), plain);
    interleave(group + 16, _mm512_and_si512(_mm512_srli_epi16(codes, 4), nibble), plain + 32);
  }

 private:
  void interleave(const uint32_t* lower, __m512i codes, uint32_t* plain) const {
    const __m512i low = _mm512_loadu_si512(lower), high = _mm512_shuffle_epi8(dictionary_, codes);
    _mm512_storeu_si512(plain, _mm512_unpacklo_epi8(low, high));
    _mm512_storeu_si512(plain + 16, _mm512_unpackhi_epi8(low, high));
  }

  const __m512i dictionary_;
};

#else

class VectorDecoder {
 public:
  explicit VectorDecoder(const uint32_t* dictionary)
      : dictionary_(_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(dictionary)))) {}

  void decode(const uint32_t* group, uint32_t* plain) const {
    const __m256i nibble = _mm256_set1_epi8(15);
    for (int half = 0; half < 16; half += 8) {
      const __m256i codes = load(group + 32 + half);
      interleave(group + half, _mm256_and_si256(codes, nibble), plain + half);
      interleave(group + 16 + half, _mm256_and_si256(_mm256_srli_epi16(codes, 4), nibble), plain + 32 + half);
    }
  }

 private:
  static __m256i load(const uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static void store(uint32_t* p, __m256i value) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), value); }

  void interleave(const uint32_t* lower, __m256i codes, uint32_t* plain) const {
    const __m256i low = load(lower), high = _mm256_shuffle_epi8(dictionary_, codes);
    store(plain, _mm256_unpacklo_epi8(low, high));
    store(plain + 16, _mm256_unpackhi_epi8(low, high));
  }

  const __m256i dictionary_;
};

#endif

}  // namespace
}  // namespace weir::cpu
