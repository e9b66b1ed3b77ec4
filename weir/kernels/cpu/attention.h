// Attention of queries that share a kv head over one segment of at most 256 keys, and the layout of keys and values inside a page.
//
// A page holds kPageTokens keys, then as many values, per kv head as F32, BF16 or I8:
//   F32   keys [dim][16 tokens]                 values [16 tokens][dim]
//   BF16  keys [dim / 2][16 tokens][2 of dim]   values [8 pairs of tokens][dim][2 tokens]
//   I8    as F32, each followed by the F32 scales [16 tokens] of its rows: x = scale · byte, scale = max|x| / 127; computed with as BF16
// so that lanes are tokens in q·k (no horizontal sums) and elements in p·v, and two BF16 factors lie side by side for the dot-product
// instruction. The layout is the same for every instruction set.
//
// A segment's result is computed from zero and merged into the running one in the order of segments; inside it the sums run over
// elements (q·k) and over tokens or pairs of tokens (p·v) one after the other. So a query's bits depend on how many keys it sees only.
#pragma once

#include <cstdint>

namespace weir::cpu {

enum class Isa : uint8_t;  // isa.h, not included: files built for one instruction set see no library header

constexpr int64_t kPageTokens = 16;
constexpr int64_t kSegmentTokens = 256;

struct AttentionSegment {
  int64_t num_queries, dim;
  const void* queries;    // [num_queries, dim] of the pool's type; BF16 when that is I8
  const int32_t* limits;  // [num_queries] query m sees the first limits[m] keys of the segment, 0 … kSegmentTokens
  const void* pool;
  const int32_t* pages;  // page ids of the segment
  int64_t next_pages;    // how many of the next segment follow them, which will be wanted soon (0: none); only a hint
  int64_t page_stride;   // elements from page to page; of I8: bytes
  int64_t keys, values;  // elements from a page's start to the kv head's keys and values
  float scale;
  float* max;      // [num_queries] largest score, -infinity for limit 0
  float* sum;      // [num_queries] Σ exp(score - max)
  float* out;      // [num_queries, dim] Σ exp(score - max) v
  float* scratch;  // attention_scratch_floats(), 64-byte aligned
};

constexpr int64_t kMaxAttentionDim = 512;  // of pages of I8
constexpr int64_t attention_scratch_floats(int64_t num_queries, int64_t dim, bool is_i8) {
  return num_queries * kSegmentTokens + (is_i8 ? kSegmentTokens * dim : 0);
}

struct AttentionKernels {
  // The BF16 kernel rounds exp(score - max) to BF16, in the sum too.
  void (*segment_bf16)(const AttentionSegment&);
  void (*segment_f32)(const AttentionSegment&);
  void (*segment_i8)(const AttentionSegment&);

  // (max, sum, out) of one query := the running (max, sum, out) joined with a later segment's. The first one joins max = -infinity, sum =
  // 0, out = 0.
  void (*merge)(float* max, float* sum, float* out, float segment_max, float segment_sum, const float* segment_out, int64_t dim);
};

// Puts k and v [count, dim] (rows k_stride and v_stride apart) at tokens [slot, slot + count) of a page's kv head. A BF16 pair whose second
// token is not there yet gets a zero in its place: values of a freed page must not meet p = 0 as NaN.
void store_kv_bf16(const float* k, int64_t k_stride, const float* v, int64_t v_stride, int64_t slot, int64_t count, int64_t dim,
                   uint16_t* keys, uint16_t* values);
void store_kv_f32(const float* k, int64_t k_stride, const float* v, int64_t v_stride, int64_t slot, int64_t count, int64_t dim, float* keys,
                  float* values);
// A row with NaN or infinity becomes zeros with a scale of NaN.
void store_kv_i8(const float* k, int64_t k_stride, const float* v, int64_t v_stride, int64_t slot, int64_t count, int64_t dim, int8_t* keys,
                 int8_t* values);

const AttentionKernels& attention_kernels(Isa isa);

namespace scalar {
extern const AttentionKernels kAttention;
}
namespace avx2 {
extern const AttentionKernels kAttention;
}
namespace avx512 {
extern const AttentionKernels kAttention;
}
namespace amx {
extern const AttentionKernels kAttention;
}

}  // namespace weir::cpu
