#include "weir/kernels/cpu/coded.h"
#include "weir/kernels/cpu/vec.h"

namespace weir::cpu::avx2 {
namespace {

__m256i load(const uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
void store(uint32_t* p, __m256i value) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), value); }

// Codes of 32 upper bytes; those without one are zero in `known`.
__m256i codes_of(__m256i upper, const __m256i (&dictionary)[16], __m256i& known) {
  __m256i codes = _mm256_setzero_si256(), found = codes;
  for (int c = 0; c < 16; ++c) {
    const __m256i equal = _mm256_cmpeq_epi8(upper, dictionary[c]);
    found = _mm256_or_si256(found, equal);
    codes = _mm256_or_si256(codes, _mm256_and_si256(equal, _mm256_set1_epi8(static_cast<char>(c))));
  }
  known = _mm256_and_si256(known, found);
  return codes;
}

}  // namespace

bool encode_group(const uint32_t* plain, const uint8_t* dictionary, uint32_t* group) {
  __m256i uppers[16], known = _mm256_set1_epi8(-1);
  for (int c = 0; c < 16; ++c) uppers[c] = _mm256_set1_epi8(static_cast<char>(dictionary[c]));
  const __m256i low = _mm256_set1_epi16(0xff);
  for (int half = 0; half < 16; half += 8) {  // of the 16 columns
    __m256i codes[2];
    for (int pair = 0; pair < 2; ++pair) {  // of steps
      const __m256i first = load(plain + 32 * pair + half), second = load(plain + 32 * pair + 16 + half);
      store(group + 16 * pair + half, _mm256_packus_epi16(_mm256_and_si256(first, low), _mm256_and_si256(second, low)));
      codes[pair] = codes_of(_mm256_packus_epi16(_mm256_srli_epi16(first, 8), _mm256_srli_epi16(second, 8)), uppers, known);
    }
    store(group + 32 + half, _mm256_or_si256(codes[0], _mm256_slli_epi16(codes[1], 4)));
  }
  return _mm256_movemask_epi8(known) == -1;
}

}  // namespace weir::cpu::avx2
