#include "weir/kernels/cpu/coded.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>

#include "weir/kernels/cpu/isa.h"

namespace weir::cpu {
namespace {

constexpr size_t kCodes = 16;
constexpr uint8_t kNoCode = 0xff;
constexpr uint32_t kLost = kNoException - 1;  // in place of the first exception

// The weight whose lower byte is byte i of a group: of which step, and of the 32 there. Its code is in the same place of the third line, in
// the low bits if i is in the first one.
int64_t step_of(int64_t i) { return i / 64 * 2 + i % 16 / 8; }
int64_t weight_of(int64_t i) { return i % 64 / 16 * 8 + i % 8; }
int64_t codes_at(int64_t i) { return 128 + i % 64; }
int code_shift(int64_t i) { return i < 64 ? 0 : 4; }

struct Dictionary {
  std::array<uint8_t, kCodes> upper;
  std::array<uint8_t, 256> code;  // of an upper byte
};

Dictionary most_frequent(const uint32_t* plain, int64_t steps) {
  std::array<std::array<uint32_t, 256>, 4> counts{};  // four of each, so that an addition need not wait for the one before
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

// Encodes a tile with one dictionary.
class Encoder {
 public:
  Encoder(const Dictionary& dictionary, const uint32_t* plain, int64_t steps, uint32_t* coded)
      : dictionary_(dictionary),
        plain_(plain),
        steps_(steps),
        coded_(coded),
        exception_(coded + kDictionaryWords),
        full_(exception_ + exception_capacity(steps)) {}

  // False: there are too many exceptions.
  bool run() {
    std::memcpy(coded_, dictionary_.upper.data(), kCodes);
    const bool has_vectors = active_isa() != Isa::kScalar;
    uint32_t* group = coded_ + coded_header_words(steps_);
    for (int64_t s = 0; s < steps_; s += kGroupSteps, group += kGroupWords) {
      const bool is_whole = s + kGroupSteps <= steps_;
      if (is_whole && has_vectors && avx2::encode_group(plain_ + s * kTileColumns, dictionary_.upper.data(), group)) continue;
      if (!encode_group(s, std::min(kGroupSteps, steps_ - s), reinterpret_cast<uint8_t*>(group))) return false;
    }
    std::fill(exception_, full_ + 1, kNoException);
    return true;
  }

 private:
  bool encode_group(int64_t first, int64_t steps, uint8_t* group) {
    std::fill(group, group + kGroupWords * 4, 0);
    for (int64_t i = 0; i < kGroupWeights; ++i) {
      if (step_of(i) >= steps) continue;
      const int64_t w = weight_of(i);
      const uint32_t pair = plain_[(first + step_of(i)) * kTileColumns + w / 2], weight = w % 2 == 0 ? pair & 0xffff : pair >> 16;
      group[i] = static_cast<uint8_t>(weight);
      uint8_t code = dictionary_.code[weight >> 8];
      if (code == kNoCode) {
        if (exception_ == full_) return false;
        *exception_++ = static_cast<uint32_t>(first * 32 + i) << 8 | weight >> 8;
        code = 0;
      }
      group[codes_at(i)] = static_cast<uint8_t>(group[codes_at(i)] | code << code_shift(i));
    }
    return true;
  }

  const Dictionary& dictionary_;
  const uint32_t* const plain_;
  const int64_t steps_;
  uint32_t* const coded_;
  uint32_t *exception_, *const full_;
};

}  // namespace

void encode_tile(const uint32_t* plain, int64_t steps, uint32_t* coded) {
  if (!Encoder(most_frequent(plain, steps), plain, steps, coded).run()) coded[kDictionaryWords] = kLost;
}

void ScalarDecoder::decode(const uint32_t* group, uint32_t* plain) const { decode(group, 0, nullptr, nullptr, plain); }

void ScalarDecoder::decode(const uint32_t* group, uint32_t first, const uint32_t* exception, const uint32_t* last, uint32_t* plain) const {
  const auto *upper = reinterpret_cast<const uint8_t*>(dictionary_), *at = reinterpret_cast<const uint8_t*>(group);
  uint8_t uppers[kGroupWeights];
  for (int64_t i = 0; i < kGroupWeights; ++i) uppers[i] = upper[at[codes_at(i)] >> code_shift(i) & 15];
  for (; exception != last; ++exception) uppers[(*exception >> 8) - first] = static_cast<uint8_t>(*exception);
  std::fill(plain, plain + kGroupSteps * kTileColumns, 0);
  for (int64_t i = 0; i < kGroupWeights; ++i) {
    const uint32_t weight = at[i] | uint32_t{uppers[i]} << 8;
    plain[step_of(i) * kTileColumns + weight_of(i) / 2] |= weight << (weight_of(i) % 2 * 16);
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
    if (exception == full || position < next || position >= coded_groups(steps) * kGroupWeights) return false;
    next = position + 1;
  }
  return true;
}

}  // namespace weir::cpu
