#include "weir/kernels/cpu/coded.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>

namespace weir::cpu {
namespace {

constexpr size_t kCodes = 16;
constexpr uint8_t kNoCode = 0xff;
constexpr uint32_t kLost = kNoException - 1;  // in place of the first exception

// Bytes of a group: where weight w of step s has its lower one, and the two codes of which one is its own.
int64_t lower_at(int64_t s, int64_t w) { return s / 2 * 64 + w / 8 * 16 + s % 2 * 8 + w % 8; }
int64_t codes_at(int64_t lower) { return 128 + lower % 64; }
int code_shift(int64_t s) { return s < 2 ? 0 : 4; }

struct Dictionary {
  std::array<uint8_t, kCodes> upper;
  std::array<uint8_t, 256> code;  // of an upper byte
};

Dictionary most_frequent(const uint32_t* plain, int64_t steps) {
  // Four counts of each, so that an addition need not wait for the one before.
  std::array<std::array<uint32_t, 256>, 4> counts{};
  for (int64_t i = 0; i < steps * kTileColumns; i += 2) {
    ++counts[0][plain[i] >> 8 & 0xff], ++counts[1][plain[i] >> 24];
    ++counts[2][plain[i + 1] >> 8 & 0xff], ++counts[3][plain[i + 1] >> 24];
  }
  std::array<uint64_t, 256> order;  // count and, where those are equal, the smaller byte first
  for (size_t byte = 0; byte < order.size(); ++byte)
    order[byte] = uint64_t{counts[0][byte] + counts[1][byte] + counts[2][byte] + counts[3][byte]} << 8 | (255 - byte);
  std::partial_sort(order.begin(), order.begin() + kCodes, order.end(), std::greater<>());
  Dictionary out;
  out.code.fill(kNoCode);
  for (size_t c = 0; c < kCodes; ++c) {
    out.upper[c] = static_cast<uint8_t>(255 - (order[c] & 0xff));
    out.code[out.upper[c]] = static_cast<uint8_t>(c);
  }
  return out;
}

}  // namespace

void encode_tile(const uint32_t* plain, int64_t steps, uint32_t* coded) {
  const Dictionary dictionary = most_frequent(plain, steps);
  std::fill(coded, coded + coded_words(steps), 0);
  std::memcpy(coded, dictionary.upper.data(), kCodes);
  uint32_t *exception = coded + kDictionaryWords, *const full = exception + exception_capacity(steps);
  auto* group = reinterpret_cast<uint8_t*>(coded + coded_header_words(steps));
  for (int64_t s = 0; s < steps; ++s) {
    uint8_t* const at = group + s / kGroupSteps * kGroupWords * 4;
    const int64_t in_group = s % kGroupSteps;
    for (int64_t w = 0; w < 32; ++w) {
      const uint32_t pair = plain[s * kTileColumns + w / 2], weight = w % 2 == 0 ? pair & 0xffff : pair >> 16;
      const int64_t lower = lower_at(in_group, w);
      at[lower] = static_cast<uint8_t>(weight);
      uint8_t code = dictionary.code[weight >> 8];
      if (code == kNoCode) {
        if (exception == full) {
          coded[kDictionaryWords] = kLost;
          return;
        }
        *exception++ = static_cast<uint32_t>(s * 32 + w) << 8 | weight >> 8;
        code = 0;
      }
      at[codes_at(lower)] = static_cast<uint8_t>(at[codes_at(lower)] | code << code_shift(in_group));
    }
  }
  *exception = kNoException;
}

void ScalarDecoder::decode(const uint32_t* group, uint32_t* plain) const {
  const auto *upper = reinterpret_cast<const uint8_t*>(dictionary_), *at = reinterpret_cast<const uint8_t*>(group);
  for (int64_t s = 0; s < kGroupSteps; ++s) {
    const auto weight = [&](int64_t w) -> uint32_t {
      const int64_t lower = lower_at(s, w);
      return at[lower] | static_cast<uint32_t>(upper[at[codes_at(lower)] >> code_shift(s) & 15]) << 8;
    };
    for (int64_t w = 0; w < 32; w += 2) plain[s * kTileColumns + w / 2] = weight(w) | weight(w + 1) << 16;
  }
}

void decode_tile(const uint32_t* coded, int64_t steps, uint32_t* plain) {
  CodedTile<ScalarDecoder> tile(coded, steps);
  const int64_t whole = steps / kGroupSteps, rest = steps % kGroupSteps;
  tile.decode(0, whole, plain);
  if (rest == 0) return;
  uint32_t last[kGroupSteps * kTileColumns];
  tile.decode(whole * kGroupSteps, 1, last);
  std::copy_n(last, rest * kTileColumns, plain + whole * kGroupSteps * kTileColumns);
}

bool is_lost_tile(const uint32_t* coded) { return coded[kDictionaryWords] == kLost; }

bool is_valid_tile(const uint32_t* coded, int64_t steps) {
  const uint32_t *exception = coded + kDictionaryWords, *const full = exception + exception_capacity(steps);
  for (int64_t next = 0; *exception != kNoException; ++exception) {
    const int64_t position = *exception >> 8;
    if (exception == full || position < next || position >= steps * 32) return false;
    next = position + 1;
  }
  return true;
}

}  // namespace weir::cpu
