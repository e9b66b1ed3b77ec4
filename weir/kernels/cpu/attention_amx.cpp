// BF16 attention on the tile registers of AMX: 16 queries at a time. The keys of a page are tiles of weights as they lie there, 32 elements
// by 16 tokens; its values are tiles of 16 tokens by 16 elements. The softmax between the two products is that of AVX-512.
#include "weir/kernels/cpu/attention_simd.h"
#include "weir/kernels/cpu/tiles_amx.h"

namespace weir::cpu::amx {
namespace {

constexpr int64_t kKeyElements = 32;    // of a tile of keys
constexpr int64_t kValueElements = 16;  // of a tile of values
constexpr int64_t kMostDim = 256;
constexpr int64_t kTileQueries = 16, kTileWords = 256;
constexpr int64_t kScoreBytes = kSegmentTokens * sizeof(float);  // of a query's row

// Lines of a tile, into L2 (see attention_simd.h).
inline void fetch_tile(const uint32_t* tile, int64_t rows, int64_t row_words) {
  for (int64_t r = 0; r < rows; ++r) fetch(tile + r * row_words);
}

// Scores of the queries from `row` on with `pages` pages from `page` on.
template <int pages>
void score_pages(const AttentionSegment& s, int64_t row, int64_t page) {
  const auto* q = static_cast<const uint16_t*>(s.queries) + row * s.dim;
  const int64_t q_bytes = s.dim * static_cast<int64_t>(sizeof(uint16_t));
  const uint32_t *keys[pages], *values[pages];
  for (int i = 0; i < pages; ++i) {
    keys[i] = page_part<StepBF16>(s, page + i, s.keys);
    values[i] = page_part<StepBF16>(s, page + i, s.values);
  }
  zero_tile<0>();
  if constexpr (pages == 4) zero_tile<1>(), zero_tile<2>(), zero_tile<3>();
  for (int64_t d = 0; d < s.dim; d += kKeyElements) {
    const int64_t at = d / kKeyElements * kTileWords;
    if (row == 0)
      for (int i = 0; i < pages; ++i) fetch_tile(values[i] + at, 16, 16);
    load_tile<4>(q + d, q_bytes);
    load_tile<6>(keys[0] + at, 64);
    dot_bf16<0, 4, 6>();
    if constexpr (pages == 4) {
      load_tile<6>(keys[1] + at, 64);
      dot_bf16<1, 4, 6>();
      load_tile<6>(keys[2] + at, 64);
      dot_bf16<2, 4, 6>();
      load_tile<6>(keys[3] + at, 64);
      dot_bf16<3, 4, 6>();
    }
  }
  float* scores = s.scratch + row * kSegmentTokens + page * kPageTokens;
  store_tile<0>(scores, kScoreBytes);
  if constexpr (pages == 4) {
    store_tile<1>(scores + kPageTokens, kScoreBytes);
    store_tile<2>(scores + 2 * kPageTokens, kScoreBytes);
    store_tile<3>(scores + 3 * kPageTokens, kScoreBytes);
  }
}

// out[., column …] of the queries from `row` on := Σ p v over the pages; `last`: the values of the last page, zero behind the last token.
template <int tiles>
void value_columns(const AttentionSegment& s, int64_t row, int64_t pages, const uint32_t* last, int64_t column) {
  const auto* p = reinterpret_cast<const uint16_t*>(s.scratch + row * kSegmentTokens);
  const int64_t row_bytes = s.dim * static_cast<int64_t>(sizeof(uint32_t));
  zero_tile<0>();
  if constexpr (tiles == 4) zero_tile<1>(), zero_tile<2>(), zero_tile<3>();
  for (int64_t page = 0; page < pages; ++page) {
    const uint32_t* begin = page_part<StepBF16>(s, page, s.values);
    const uint32_t* values = (page == pages - 1 ? last : begin) + column;
    if (row == 0) {
      const uint32_t* next = after_values<StepBF16>(s, page, begin) + column;
      for (int i = 0; i < tiles; ++i) fetch_tile(next + i * kValueElements, 8, s.dim);
    }
    load_tile<5>(p + page * kPageTokens, kScoreBytes);
    load_tile<7>(values, row_bytes);
    dot_bf16<0, 5, 7>();
    if constexpr (tiles == 4) {
      load_tile<7>(values + kValueElements, row_bytes);
      dot_bf16<1, 5, 7>();
      load_tile<7>(values + 2 * kValueElements, row_bytes);
      dot_bf16<2, 5, 7>();
      load_tile<7>(values + 3 * kValueElements, row_bytes);
      dot_bf16<3, 5, 7>();
    }
  }
  float* out = s.out + row * s.dim + column;
  store_tile<0>(out, row_bytes);
  if constexpr (tiles == 4) {
    store_tile<1>(out + kValueElements, row_bytes);
    store_tile<2>(out + 2 * kValueElements, row_bytes);
    store_tile<3>(out + 3 * kValueElements, row_bytes);
  }
}

// At most 16 queries, over the keys that the one seeing most of them sees.
void attend(const AttentionSegment& s, int64_t row, int64_t queries) {
  int64_t tokens = 0;
  for (int64_t m = row; m < row + queries; ++m) tokens = s.limits[m] > tokens ? s.limits[m] : tokens;
  const int64_t pages = (tokens + kPageTokens - 1) / kPageTokens;
  configure_tiles(TileUse::kAttention, static_cast<int>(queries));
  int64_t page = 0;
  for (; page + 4 <= pages; page += 4) score_pages<4>(s, row, page);
  for (; page < pages; ++page) score_pages<1>(s, row, page);

  for (int64_t m = row; m < row + queries; ++m) softmax<StepBF16>(s, m, pages * kPageVectors, broadcast(s.scale));

  // What a page holds behind the last token must not meet p = 0: it may be NaN.
  alignas(64) uint32_t last[kPageTokens / 2 * kMostDim];
  const uint32_t* last_values = pages == 0 ? nullptr : page_part<StepBF16>(s, pages - 1, s.values);
  if (const int64_t pairs = (tokens + 1) / 2 % (kPageTokens / 2); pairs != 0) {
    const auto words = static_cast<unsigned long>(pairs * s.dim), all = static_cast<unsigned long>(kPageTokens / 2 * s.dim);
    __builtin_memcpy(last, last_values, words * sizeof(uint32_t));
    __builtin_memset(last + words, 0, (all - words) * sizeof(uint32_t));
    last_values = last;
  }
  int64_t column = 0;
  for (; column + 4 * kValueElements <= s.dim; column += 4 * kValueElements) value_columns<4>(s, row, pages, last_values, column);
  for (; column < s.dim; column += kValueElements) value_columns<1>(s, row, pages, last_values, column);
}

void segment_bf16(const AttentionSegment& s) {
  if (s.dim % kKeyElements != 0 || s.dim > kMostDim) return avx512::kAttention.segment_bf16(s);
  for (int64_t row = 0; row < s.num_queries; row += kTileQueries) attend(s, row, at_most(kTileQueries, s.num_queries - row));
}

void segment_f32(const AttentionSegment& s) { avx512::kAttention.segment_f32(s); }

}  // namespace

const AttentionKernels kAttention = {segment_bf16, segment_f32, segment_i8<segment_bf16>, merge};

}  // namespace weir::cpu::amx
