// Byte pair encoding of one piece of text: the pair of neighbours with the lowest rank, the leftmost of equals, is merged until none is
// left.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "weir/text/tokenizer_vocabulary.h"

namespace weir {

class Bpe {
 public:
  static constexpr uint32_t kMaxMerges = (1u << 22) - 1;

  // vocabulary: borrowed, and complete: it has a token for each of the 256 bytes. whole_pieces: a piece that is a token needs no merges
  // ("ignore_merges").
  Bpe(const Vocabulary& vocabulary, bool whole_pieces, size_t num_merges);

  // Merges must be added in their order; of equal pairs the last counts.  REQUIRES: fewer than kMaxMerges so far
  void add_merge(int32_t left, int32_t right, int32_t result);

  // Room for one call of encode() after another on the same thread, so that pieces cost no allocation.
  struct Scratch {
    std::vector<int32_t> ids;
    std::vector<uint32_t> ranks, next, previous;
    std::vector<uint64_t> heap;
  };
  // Appends the tokens of a piece. O(n log n). Any thread, each with its own scratch.
  void encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& out) const;

 private:
  static constexpr uint32_t kNoMerge = kMaxMerges;

  uint32_t rank(int32_t left, int32_t right) const;  // kNoMerge for none
  void merge_short(Scratch& scratch) const;
  void merge_long(Scratch& scratch) const;
  void grow();

  const Vocabulary& vocabulary_;
  bool whole_pieces_;
  std::array<int32_t, 256> byte_ids_;
  std::vector<int32_t> results_;  // by rank
  std::vector<uint64_t> slots_;   // left << 43 | right << 22 | rank, all ones for free; open addressing, the size is a power of two
  size_t num_pairs_ = 0;

  // What encode() has learnt of pieces that are tokens: merging gives that one token, or it does not. Most pieces of a text are such.
  // Each entry is written with the one value it can have, so threads need no order between them.
  enum class Whole : uint8_t { kUnknown, kYes, kNo };
  std::unique_ptr<std::atomic<Whole>[]> whole_;  // by id
};

}  // namespace weir
