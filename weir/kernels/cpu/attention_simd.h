// The vector kernels of attention.h, for the instruction set of the file that includes this one.
#pragma once

#include "weir/kernels/cpu/attention.h"
#include "weir/kernels/cpu/elementwise_lanes.h"

namespace weir::cpu {
namespace {

inline int64_t at_most(int64_t x, int64_t limit) { return x < limit ? x : limit; }

// How one multiply-add step reads the two sides. A word is what a lane holds of the pool, as of the queries and probabilities: an F32 or a
// pair of BF16.
struct StepF32 {
  using Word = float;
  static constexpr int64_t kElements = 1;  // of the summed dimension in a word
  static constexpr int kQueries = 6;       // of a register tile of kQueries x kTileVectors
  struct Side {
    Vec x;
  };
  template <class M>
  static Side lanes(const Word* p, M mask) {
    return {load(p, mask)};
  }
  static Side all(const Word* p) { return {broadcast(*p)}; }
  static Vec step(Side a, Side b, Vec sum) { return fma(a.x, b.x, sum); }
};

#ifdef __AVX512F__

struct StepBF16 {
  using Word = uint32_t;
  static constexpr int64_t kElements = 2;
  static constexpr int kQueries = 6;
  using Side = __m512bh;
  static Side lanes(const Word* p, All) { return reinterpret_cast<__m512bh>(_mm512_loadu_si512(p)); }
  static Side lanes(const Word* p, Mask mask) { return reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi32(mask, p)); }
  static Side all(const Word* p) { return reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(*p))); }
  static Vec step(Side a, Side b, Vec sum) { return _mm512_dpbf16_ps(sum, a, b); }
};

#else

struct StepBF16 {
  using Word = uint32_t;
  static constexpr int64_t kElements = 2;
  static constexpr int kQueries = 4;  // its sides take two registers each
  struct Side {
    Vec first, second;
  };
  static Side widened(__m256i words) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(words, 16)),
            _mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi32(static_cast<int>(0xffff0000u))))};
  }
  static Side lanes(const Word* p, All) { return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static Side lanes(const Word* p, Mask mask) { return widened(_mm256_maskload_epi32(reinterpret_cast<const int*>(p), mask)); }
  static Side all(const Word* p) { return widened(_mm256_set1_epi32(static_cast<int>(*p))); }
  static Vec step(const Side& a, const Side& b, Vec sum) { return fma(a.second, b.second, fma(a.first, b.first, sum)); }
};

#endif

constexpr int kTileVectors = kLanes == 16 ? 4 : 2;
constexpr int64_t kPageVectors = kPageTokens / kLanes;

template <class Step>
inline const typename Step::Word* page_part(const AttentionSegment& s, int64_t at, int64_t part) {
  return static_cast<const typename Step::Word*>(s.pool) + (s.pages[at] * s.page_stride + part) / Step::kElements;
}

// Where a page ends, hardware stops fetching. So whoever reads a line of a page's keys asks for the same line of its values, and whoever
// reads one of its values for the same line of the keys of the page a segment later, if there is one; only the first queries do, behind
// which the segment lies in the cache. Into L2: the few misses that L1 can wait for at a time would be the limit.
template <class Step>
inline const typename Step::Word* after_values(const AttentionSegment& s, int64_t at, const typename Step::Word* none) {
  return at < s.next_pages ? page_part<Step>(s, at + kSegmentTokens / kPageTokens, s.keys) : none;
}

// Scores of kQueries queries from `row` on (q: their words, `words` each) with the keys of kVectors vectors from vector `first` of the
// segment on.
template <class Step, int kQueries, int kVectors>
inline void score_tile(const AttentionSegment& s, const typename Step::Word* q, int64_t row, int64_t words, int64_t first, float* scores) {
  using Word = typename Step::Word;
  const Word *keys[kVectors], *ahead[kVectors];
  Vec sum[kQueries][kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    const int64_t page = (first + v) / kPageVectors, lane = (first + v) % kPageVectors * kLanes;
    const Word* const begin = page_part<Step>(s, page, s.keys);
    keys[v] = begin + lane;
    ahead[v] = (row == 0 ? page_part<Step>(s, page, s.values) : begin) + lane;
#pragma GCC unroll 8
    for (int m = 0; m < kQueries; ++m) sum[m][v] = zero();
  }
  for (int64_t w = 0; w < words; ++w) {
    typename Step::Side right[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      right[v] = Step::lanes(keys[v] + w * kPageTokens, All{});
      fetch(ahead[v] + w * kPageTokens);
    }
#pragma GCC unroll 8
    for (int m = 0; m < kQueries; ++m) {
      const auto left = Step::all(q + m * words + w);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[m][v] = Step::step(left, right[v], sum[m][v]);
    }
  }
  const Vec scale = broadcast(s.scale);
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 8
    for (int m = 0; m < kQueries; ++m) store(scores + m * kSegmentTokens + (first + v) * kLanes, mul(sum[m][v], scale));
  }
}

template <class Step, int kQueries>
void score_rows(const AttentionSegment& s, int64_t row, int64_t words, int64_t vectors) {
  const auto* q = static_cast<const typename Step::Word*>(s.queries) + row * words;
  float* const scores = s.scratch + row * kSegmentTokens;
  int64_t first = 0;
  for (; first + kTileVectors <= vectors; first += kTileVectors) score_tile<Step, kQueries, kTileVectors>(s, q, row, words, first, scores);
  for (; first < vectors; ++first) score_tile<Step, kQueries, 1>(s, q, row, words, first, scores);
}

// Scores of one query, times `factor`, into exp(score - max), zero from its limit on; in place, a BF16 row packed to its front.
template <class Step>
void softmax(const AttentionSegment& s, int64_t row, int64_t vectors, Vec factor) {
  float* const scores = s.scratch + row * kSegmentTokens;
  const int64_t limit = s.limits[row];
  const Vec lowest = broadcast(-__builtin_inff());
  Vec most = lowest;
  for (int64_t v = 0; v < vectors; ++v)
    most = max(most, keep(mul(load(scores + v * kLanes), factor), first_lanes(limit - v * kLanes), lowest));
  s.max[row] = max_of(most);
  const Vec largest = broadcast(s.max[row]);
  Vec sum = zero();
  for (int64_t v = 0; v < vectors; ++v) {
    const Mask seen = first_lanes(limit - v * kLanes);
    Vec p = keep(exp_ps(sub(mul(load(scores + v * kLanes), factor), largest)), seen, zero());
    if constexpr (Step::kElements == 2) {
      p = store_bf16(reinterpret_cast<uint16_t*>(scores) + v * kLanes, p);
    } else {
      store(scores + v * kLanes, p);
    }
    sum = add(sum, p);
  }
  s.sum[row] = sum_of(sum);
}

// out[m, column …] = Σ p v for kQueries queries over `tokens` tokens (a pair counts whole: its second p is zero then).
template <class Step, int kQueries, int kVectors, class M>
inline void value_tile(const AttentionSegment& s, int64_t row, int64_t tokens, int64_t column, M mask) {
  using Word = typename Step::Word;
  constexpr int64_t kPageWords = kPageTokens / Step::kElements;
  const int64_t words = (tokens + Step::kElements - 1) / Step::kElements;
  const auto* p = reinterpret_cast<const typename Step::Word*>(s.scratch + row * kSegmentTokens);
  Vec sum[kQueries][kVectors];
#pragma GCC unroll 8
  for (int m = 0; m < kQueries; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[m][v] = zero();
  for (int64_t w = 0; w < words; w += kPageWords) {
    const int64_t page = w / kPageWords, end = at_most(kPageWords, words - w);
    const Word* values = page_part<Step>(s, page, s.values);
    const Word* ahead = (row == 0 ? after_values<Step>(s, page, values) : values) + column;
    values += column;
    for (int64_t i = 0; i < end; ++i, values += s.dim, ahead += s.dim, ++p) {
      typename Step::Side right[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        right[v] = Step::lanes(values + v * kLanes, mask);
        fetch(ahead + v * kLanes);
      }
#pragma GCC unroll 8
      for (int m = 0; m < kQueries; ++m) {
        const auto left = Step::all(p + m * kSegmentTokens);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) sum[m][v] = Step::step(left, right[v], sum[m][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < kQueries; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) store(s.out + (row + m) * s.dim + column + v * kLanes, sum[m][v], mask);
}

template <class Step, int kQueries>
void value_rows(const AttentionSegment& s, int64_t row, int64_t tokens) {
  int64_t column = 0;
  for (; column + kTileVectors * kLanes <= s.dim; column += kTileVectors * kLanes)
    value_tile<Step, kQueries, kTileVectors>(s, row, tokens, column, All{});
  for (; column < s.dim; column += kLanes) value_tile<Step, kQueries, 1>(s, row, tokens, column, first_lanes(s.dim - column));
}

// kQueries queries together, over the keys that the one seeing most of them sees.
template <class Step, int kQueries>
void attend(const AttentionSegment& s, int64_t row) {
  int64_t tokens = 0;
  for (int64_t m = row; m < row + kQueries; ++m) tokens = s.limits[m] > tokens ? s.limits[m] : tokens;
  const int64_t vectors = (tokens + kPageTokens - 1) / kPageTokens * kPageVectors;
  score_rows<Step, kQueries>(s, row, s.dim / Step::kElements, vectors);
  for (int64_t m = row; m < row + kQueries; ++m) softmax<Step>(s, m, vectors, broadcast(1.0f));
  value_rows<Step, kQueries>(s, row, tokens);
}

// The fewer than kQueries + 1 queries from `row` on.
template <class Step, int kQueries>
void attend_last(const AttentionSegment& s, int64_t row) {
  if (s.num_queries - row == kQueries) return attend<Step, kQueries>(s, row);
  if constexpr (kQueries > 1) attend_last<Step, kQueries - 1>(s, row);
}

template <class Step>
void segment(const AttentionSegment& s) {
  int64_t row = 0;
  for (; row + Step::kQueries <= s.num_queries; row += Step::kQueries) attend<Step, Step::kQueries>(s, row);
  attend_last<Step, Step::kQueries - 1>(s, row);
}

#ifdef __AVX512F__

inline Vec load_bytes(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
// The BF16 of low and high side by side.
inline __m512i paired(Vec low, Vec high) {
  const __m512i a = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(low)));
  const __m512i b = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(high)));
  return _mm512_or_si512(a, _mm512_slli_epi32(b, 16));
}
inline void store_words(uint32_t* p, __m512i v, All) { _mm512_storeu_si512(p, v); }
inline void store_words(uint32_t* p, __m512i v, Mask m) { _mm512_mask_storeu_epi32(p, m, v); }

#else

inline Vec load_bytes(const int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline __m256i paired(Vec low, Vec high) {
  alignas(16) uint16_t unused[8];
  const __m256i a = _mm256_castps_si256(store_bf16(unused, low)), b = _mm256_castps_si256(store_bf16(unused, high));
  return _mm256_or_si256(_mm256_srli_epi32(a, 16), b);
}
inline void store_words(uint32_t* p, __m256i v, All) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
inline void store_words(uint32_t* p, __m256i v, Mask m) { _mm256_maskstore_epi32(reinterpret_cast<int*>(p), m, v); }

#endif

// out[i] := the BF16 of bytes a[i] · a_scale and b[i] · b_scale side by side, i < n; each scale the same for all (stride 0) or of n.
inline void widen_pair(const int8_t* a, const int8_t* b, const float* a_scale, const float* b_scale, bool per_element, int64_t n,
                       uint32_t* out) {
  for_lanes(n, [&](int64_t i, auto mask) {
    const auto scale = [&](const float* p) { return per_element ? load(p + i, mask) : broadcast(*p); };
    // A whole vector of bytes may be read: others of the page follow.
    store_words(out + i, paired(mul(load_bytes(a + i), scale(a_scale)), mul(load_bytes(b + i), scale(b_scale))), mask);
  });
}

// Pages of I8 widened to BF16 behind the scores, of which the first `tokens` tokens will be seen; then attention is that of BF16.
template <void (*segment_bf16)(const AttentionSegment&)>
void segment_i8(const AttentionSegment& s) {
  static constexpr int32_t kPages[kSegmentTokens / kPageTokens] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  static constexpr int8_t kNothing[kMaxAttentionDim + kLanes] = {};
  static constexpr float kNoScale = 0;
  int64_t tokens = 0;
  for (int64_t m = 0; m < s.num_queries; ++m) tokens = s.limits[m] > tokens ? s.limits[m] : tokens;
  auto* const widened = reinterpret_cast<uint32_t*>(s.scratch + s.num_queries * kSegmentTokens);
  const int64_t part = kPageTokens * s.dim;  // elements of a page's keys, or values
  for (int64_t page = 0; page * kPageTokens < tokens; ++page) {
    const auto* bytes = static_cast<const int8_t*>(s.pool) + s.pages[page] * s.page_stride;
    const int8_t *keys = bytes + s.keys, *values = bytes + s.values;
    const auto *key_scales = reinterpret_cast<const float*>(keys + part), *value_scales = reinterpret_cast<const float*>(values + part);
    if ((page + 1) * kPageTokens < tokens || s.next_pages > 0) {
      const auto* next = static_cast<const int8_t*>(s.pool) + s.pages[page + 1] * s.page_stride;
      for (int64_t i = 0; i < part + 64; i += 64) fetch(next + s.keys + i), fetch(next + s.values + i);
    }
    uint32_t* out = widened + page * part;
    for (int64_t d = 0; d < s.dim; d += 2, out += kPageTokens)
      widen_pair(keys + d * kPageTokens, keys + (d + 1) * kPageTokens, key_scales, key_scales, true, kPageTokens, out);
    for (int64_t t = 0; t < kPageTokens; t += 2, out += s.dim) {  // what lies behind the last token must not meet p = 0: it may be NaN
      const bool first = page * kPageTokens + t < tokens, second = page * kPageTokens + t + 1 < tokens;
      widen_pair(first ? values + t * s.dim : kNothing, second ? values + (t + 1) * s.dim : kNothing, first ? value_scales + t : &kNoScale,
                 second ? value_scales + t + 1 : &kNoScale, false, s.dim, out);
    }
  }
  AttentionSegment as_bf16 = s;
  as_bf16.pool = widened, as_bf16.pages = kPages, as_bf16.next_pages = 0;
  as_bf16.page_stride = 2 * part, as_bf16.keys = 0, as_bf16.values = part;
  segment_bf16(as_bf16);
}

void merge(float* max_io, float* sum, float* out, float segment_max, float segment_sum, const float* segment_out, int64_t dim) {
  const float joined = segment_max > *max_io ? segment_max : *max_io;
  float scales[kLanes];
  const float shifts[2] = {*max_io - joined, segment_max - joined};
  store(scales, exp_ps(load(shifts, first_lanes(2))));
  *max_io = joined;
  *sum = *sum * scales[0] + segment_sum * scales[1];
  const Vec before = broadcast(scales[0]), after = broadcast(scales[1]);
  for_lanes(dim,
            [&](int64_t d, auto mask) { store(out + d, fma(load(out + d, mask), before, mul(load(segment_out + d, mask), after)), mask); });
}

}  // namespace
}  // namespace weir::cpu
