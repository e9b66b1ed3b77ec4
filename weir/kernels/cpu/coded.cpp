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

// Bytes of a group: where weight w of step s has its lower one, and the two codes of which one is its own.
int64_t lower_at(int64_t s, int64_t w) { return s / 2 * 64 + w / 8 * 16 + s % 2 * 8 + w % 8; }
int64_t codes_at(int64_t lower) { return 128 + lower % 64; }
int code_shift(int64_t s) { return s < 2 ? 0 : 4; }

struct Dictionary {
  std::array<uint8_t, kCodes> upper;
  std::array<uint8_t, 256> code;  // of an upper byte
};

// The most frequent upper bytes of every `stride`-th step.
Dictionary most_frequent(const uint32_t* plain, int64_t steps, int64_t stride) {
  std::array<std::array<uint32_t, 256>, 2> counts{};  // two of each, so that an addition need not wait for the one before
  for (int64_t s = 0; s < steps; s += stride)
    for (int64_t i = s * kTileColumns; i < (s + 1) * kTileColumns; ++i) ++counts[0][plain[i] >> 8 & 0xff], ++counts[1][plain[i] >> 24];
  std::array<uint64_t, 256> order;  // count and, where those are equal, the smaller byte first
  for (size_t byte = 0; byte < order.size(); ++byte) order[byte] = uint64_t{counts[0][byte] + counts[1][byte]} << 8 | (255 - byte);
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
    for (int64_t s = 0; s < steps; ++s)
      for (int64_t w = 0; w < 32; ++w) {
        const uint32_t pair = plain_[(first + s) * kTileColumns + w / 2], weight = w % 2 == 0 ? pair & 0xffff : pair >> 16;
        const int64_t lower = lower_at(s, w);
        group[lower] = static_cast<uint8_t>(weight);
        uint8_t code = dictionary_.code[weight >> 8];
        if (code == kNoCode) {
          if (exception_ == full_) return false;
          *exception_++ = static_cast<uint32_t>((first + s) * 32 + w) << 8 | weight >> 8;
          code = 0;
        }
        group[codes_at(lower)] = static_cast<uint8_t>(group[codes_at(lower)] | code << code_shift(s));
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

// A sample of steps tells the frequent bytes from the rare ones, at a fraction of the time; where it does not, all do.
void encode_tile(const uint32_t* plain, int64_t steps, uint32_t* coded) {
  constexpr int64_t kSample = 128;
  for (const int64_t stride : {std::max<int64_t>(1, steps / kSample), int64_t{1}})
    if (Encoder(most_frequent(plain, steps, stride), plain, steps, coded).run()) return;
  coded[kDictionaryWords] = kLost;
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
