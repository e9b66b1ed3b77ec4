// BF16 weights in 12 bits each, without loss. The upper bytes of a tile's weights, sign and all but the last bit of the exponent, take few
// values: 16 of them, eight powers of four of either sign, cover all but some weights in ten thousand. So a coded tile is
//
//   [16] bytes        the dictionary of upper bytes
//   [capacity + 1]    exceptions by rising position, `position << 8 | upper byte`; the rest is kNoException, at least one
//   (together whole lines of 64 bytes)
//   [groups] x 192 B  four steps each: [2][64] lower bytes of two steps, then [64] bytes of two codes
//
// A line of lower bytes, interleaved within its 16-byte lanes with the upper bytes that one nibble of each code byte stands for (the low
// one for the first line), is two plain steps: the lower halves of the lanes the first, the upper halves the second. A position counts the
// lower bytes of the tile. Steps behind the last one are zero or, where the dictionary has no zero, small.
#pragma once

#include <cstdint>

#include "weir/kernels/cpu/linear.h"

namespace weir::cpu {

// A tile with more exceptions than there is room for is lost.
void encode_tile(const uint32_t* plain, int64_t steps, uint32_t* coded);
void decode_tile(const uint32_t* coded, int64_t steps, uint32_t* plain);  // a valid one
bool is_valid_tile(const uint32_t* coded, int64_t steps);                 // zeros are none
bool is_lost_tile(const uint32_t* coded);

namespace avx2 {
// Encodes four steps, unless one of the weights has no code: false, and `group` is left with something.
bool encode_group(const uint32_t* plain, const uint8_t* dictionary, uint32_t* group);
}  // namespace avx2

// Decodes groups. (coded_simd.h has the same for vectors.)
class ScalarDecoder {
 public:
  explicit ScalarDecoder(const uint32_t* dictionary) : dictionary_(dictionary) {}
  void decode(const uint32_t* group, uint32_t* plain) const;
  // The same with exceptions, `last` behind them, where the group's first weight has position `first`.
  void decode(const uint32_t* group, uint32_t first, const uint32_t* exception, const uint32_t* last, uint32_t* plain) const;

 private:
  const uint32_t* dictionary_;
};

namespace {

constexpr int64_t kGroupSteps = 4;
constexpr int64_t kGroupWords = 48;
constexpr int64_t kDictionaryWords = 4;
constexpr uint32_t kNoException = 0xffffffffu;
constexpr int64_t kGroupWeights = 128;
constexpr int64_t kMaxCodedSteps = (int64_t{1} << 24) / 32 - kGroupSteps;  // whose positions are below that of kNoException

inline int64_t coded_groups(int64_t steps) { return (steps + kGroupSteps - 1) / kGroupSteps; }
inline int64_t coded_header_words(int64_t steps) { return 16 * (1 + steps / 256); }
inline int64_t coded_words(int64_t steps) { return coded_header_words(steps) + coded_groups(steps) * kGroupWords; }
inline int64_t exception_capacity(int64_t steps) { return coded_header_words(steps) - kDictionaryWords - 1; }

// A valid tile, read from its beginning to its end, and again.
template <class Decoder>
class CodedTile {
 public:
  CodedTile(const uint32_t* coded, int64_t steps)
      : decoder_(coded), groups_(coded + coded_header_words(steps)), exceptions_(coded + kDictionaryWords), exception_(exceptions_) {}

  const uint32_t* at(int64_t step) const { return groups_ + step / kGroupSteps * kGroupWords; }

  // Groups from that of step `first` on; those before have been decoded.
  void decode(int64_t first, int64_t groups, uint32_t* plain) {
    if (first == 0) exception_ = exceptions_;
    const auto position = static_cast<uint32_t>(first * 32), end = position + static_cast<uint32_t>(groups * kGroupWeights);
    if (*exception_ >> 8 < end) return decode_all(at(first), position, end, plain);
#pragma GCC unroll 4
    for (int64_t g = 0; g < groups; ++g) decoder_.decode(at(first) + g * kGroupWords, plain + g * kGroupSteps * kTileColumns);
  }

 private:
  // A byte stored into steps from which a tile is loaded soon keeps that waiting for half a microsecond: so the decoder has to know
  // exceptions.
  __attribute__((noinline)) void decode_all(const uint32_t* group, uint32_t position, uint32_t end, uint32_t* plain) {
    for (; position < end; position += kGroupWeights, group += kGroupWords, plain += kGroupSteps * kTileColumns) {
      const uint32_t* const begin = exception_;
      while (*exception_ >> 8 < position + kGroupWeights) ++exception_;
      decoder_.decode(group, position, begin, exception_, plain);
    }
  }

  const Decoder decoder_;
  const uint32_t *const groups_, *const exceptions_, *exception_;
};

}  // namespace
}  // namespace weir::cpu
