#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "weir/kernels/cpu/attention.h"

namespace weir::cpu::scalar {
namespace {

float widened(uint16_t x) { return std::bit_cast<float>(static_cast<uint32_t>(x) << 16); }

uint16_t rounded(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

struct F32 {
  using Element = float;
  using Query = float;
  static float query(float x) { return x; }
  static float read(const float* rows, int64_t at, int64_t, int64_t) { return rows[at]; }
  static float probability(float p) { return p; }
  static int64_t key(int64_t d, int64_t t) { return d * kPageTokens + t; }
  static int64_t value(int64_t d, int64_t t, int64_t dim) { return t * dim + d; }
};

struct BF16 {
  using Element = uint16_t;
  using Query = uint16_t;
  static float query(uint16_t x) { return widened(x); }
  static float read(const uint16_t* rows, int64_t at, int64_t, int64_t) { return widened(rows[at]); }
  static float probability(float p) { return widened(rounded(p)); }
  static int64_t key(int64_t d, int64_t t) { return (d / 2 * kPageTokens + t) * 2 + d % 2; }
  static int64_t value(int64_t d, int64_t t, int64_t dim) { return (t / 2 * dim + d) * 2 + t % 2; }
};

struct I8 : F32 {
  using Element = int8_t;
  using Query = uint16_t;
  static float query(uint16_t x) { return widened(x); }
  static float probability(float p) { return BF16::probability(p); }
  static float read(const int8_t* rows, int64_t at, int64_t t, int64_t dim) {
    float scale;
    std::memcpy(&scale, rows + kPageTokens * dim + t * static_cast<int64_t>(sizeof(scale)), sizeof(scale));
    return widened(rounded(static_cast<float>(rows[at]) * scale));
  }
};

template <class Type>
void segment(const AttentionSegment& s) {
  const auto* queries = static_cast<const typename Type::Query*>(s.queries);
  const auto* pool = static_cast<const typename Type::Element*>(s.pool);
  for (int64_t m = 0; m < s.num_queries; ++m) {
    const auto* q = queries + m * s.dim;
    float* p = s.scratch;
    float* out = s.out + m * s.dim;
    float max = -std::numeric_limits<float>::infinity();
    for (int64_t j = 0; j < s.limits[m]; ++j) {
      const auto* keys = pool + s.pages[j / kPageTokens] * s.page_stride + s.keys;
      float score = 0.0f;
      for (int64_t d = 0; d < s.dim; ++d)
        score += Type::query(q[d]) * Type::read(keys, Type::key(d, j % kPageTokens), j % kPageTokens, s.dim);
      p[j] = score * s.scale;
      max = p[j] > max ? p[j] : max;
    }
    float sum = 0.0f;
    for (int64_t d = 0; d < s.dim; ++d) out[d] = 0.0f;
    for (int64_t j = 0; j < s.limits[m]; ++j) {
      const auto* values = pool + s.pages[j / kPageTokens] * s.page_stride + s.values;
      const float weight = Type::probability(std::exp(p[j] - max));
      sum += weight;
      for (int64_t d = 0; d < s.dim; ++d)
        out[d] += weight * Type::read(values, Type::value(d, j % kPageTokens, s.dim), j % kPageTokens, s.dim);
    }
    s.max[m] = max;
    s.sum[m] = sum;
  }
}

void merge(float* max, float* sum, float* out, float segment_max, float segment_sum, const float* segment_out, int64_t dim) {
  const float joined = segment_max > *max ? segment_max : *max;
  const float before = std::exp(*max - joined), after = std::exp(segment_max - joined);
  *max = joined;
  *sum = *sum * before + segment_sum * after;
  for (int64_t d = 0; d < dim; ++d) out[d] = out[d] * before + segment_out[d] * after;
}

}  // namespace

const AttentionKernels kAttention = {segment<BF16>, segment<F32>, segment<I8>, merge};

}  // namespace weir::cpu::scalar
