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
    interleave(group, first_upper(group), plain);
    interleave(group + 16, second_upper(group), plain + 32);
  }

  void decode(const uint32_t* group, uint32_t first, const uint32_t* exception, const uint32_t* last, uint32_t* plain) const {
    __m512i upper[2] = {first_upper(group), second_upper(group)};
    for (; exception != last; ++exception) {
      const uint32_t i = (*exception >> 8) - first;
      upper[i / 64] = _mm512_mask_set1_epi8(upper[i / 64], uint64_t{1} << i % 64, static_cast<char>(*exception));
    }
    interleave(group, upper[0], plain);
    interleave(group + 16, upper[1], plain + 32);
  }

 private:
  __m512i first_upper(const uint32_t* group) const {
    return _mm512_shuffle_epi8(dictionary_, _mm512_and_si512(_mm512_loadu_si512(group + 32), _mm512_set1_epi8(15)));
  }
  __m512i second_upper(const uint32_t* group) const {
    const __m512i codes = _mm512_srli_epi16(_mm512_loadu_si512(group + 32), 4);
    return _mm512_shuffle_epi8(dictionary_, _mm512_and_si512(codes, _mm512_set1_epi8(15)));
  }
  static void interleave(const uint32_t* lower, __m512i upper, uint32_t* plain) {
    const __m512i low = _mm512_loadu_si512(lower);
    _mm512_storeu_si512(plain, _mm512_unpacklo_epi8(low, upper));
    _mm512_storeu_si512(plain + 16, _mm512_unpackhi_epi8(low, upper));
  }

  const __m512i dictionary_;
};

#else

class VectorDecoder {
 public:
  explicit VectorDecoder(const uint32_t* dictionary)
      : dictionary_(_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(dictionary)))) {}

  void decode(const uint32_t* group, uint32_t* plain) const { decode(group, 0, nullptr, nullptr, plain); }

  void decode(const uint32_t* group, uint32_t first, const uint32_t* exception, const uint32_t* last, uint32_t* plain) const {
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i upper[4];  // by line and half
    for (int half = 0; half < 2; ++half) {
      const __m256i codes = load(group + 32 + 8 * half);
      upper[half] = _mm256_shuffle_epi8(dictionary_, _mm256_and_si256(codes, nibble));
      upper[2 + half] = _mm256_shuffle_epi8(dictionary_, _mm256_and_si256(_mm256_srli_epi16(codes, 4), nibble));
    }
    for (; exception != last; ++exception) {
      const uint32_t i = (*exception >> 8) - first;
      const __m256i here = _mm256_cmpeq_epi8(numbers(), _mm256_set1_epi8(static_cast<char>(i % 32)));
      upper[i / 32] = _mm256_blendv_epi8(upper[i / 32], _mm256_set1_epi8(static_cast<char>(*exception)), here);
    }
    for (int i = 0; i < 4; ++i) {
      const __m256i lower = load(group + 8 * i);
      uint32_t* const to = plain + i / 2 * 32 + i % 2 * 8;
      store(to, _mm256_unpacklo_epi8(lower, upper[i]));
      store(to + 16, _mm256_unpackhi_epi8(lower, upper[i]));
    }
  }

 private:
  static __m256i load(const uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static void store(uint32_t* p, __m256i value) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), value); }
  static __m256i numbers() {
    return _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,
                            30, 31);
  }

  const __m256i dictionary_;
};

#endif

}  // namespace
}  // namespace weir::cpu
