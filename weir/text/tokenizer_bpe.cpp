#include "weir/text/tokenizer_bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "weir/base/check.h"

namespace weir {
namespace {

constexpr int kRankBits = 22;
constexpr uint64_t kRankMask = (1u << kRankBits) - 1;
constexpr uint64_t kFree = ~uint64_t{0};
constexpr uint32_t kEnd = ~uint32_t{0};
// Below this many bytes a scan for the lowest rank beats a heap.
constexpr size_t kShortPiece = 64;

uint64_t pair_key(int32_t left, int32_t right) { return static_cast<uint64_t>(left) << 21 | static_cast<uint64_t>(right); }

size_t home(uint64_t key, size_t num_slots) {
  key *= 0x9E3779B97F4A7C15;
  key ^= key >> 32;
  return key * 0xD6E8FEB86659FD93 >> (64 - std::countr_zero(num_slots));
}

}  // namespace

Bpe::Bpe(const Vocabulary& vocabulary, bool whole_pieces, size_t num_merges)
    : vocabulary_(vocabulary),
      whole_pieces_(whole_pieces),
      slots_(std::bit_ceil(std::max<size_t>(num_merges * 2, 16)), kFree),
      whole_(std::make_unique<std::atomic<Whole>[]>(static_cast<size_t>(vocabulary.size()))) {
  results_.reserve(num_merges);
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    const auto id = vocabulary.find({&byte, 1});
    WEIR_CHECK(id, "no token for byte ", b);
    byte_ids_[static_cast<size_t>(b)] = *id;
  }
}

void Bpe::add_merge(int32_t left, int32_t right, int32_t result) {
  const auto rank = static_cast<uint64_t>(results_.size());
  WEIR_CHECK(rank < kMaxMerges);
  results_.push_back(result);
  if ((num_pairs_ + 1) * 2 > slots_.size()) grow();
  const uint64_t key = pair_key(left, right);
  size_t slot = home(key, slots_.size());
  while (slots_[slot] != kFree && slots_[slot] >> kRankBits != key) slot = (slot + 1) & (slots_.size() - 1);
  num_pairs_ += slots_[slot] == kFree;
  slots_[slot] = key << kRankBits | rank;
}

void Bpe::grow() {
  std::vector<uint64_t> old(slots_.size() * 2, kFree);
  old.swap(slots_);
  for (const uint64_t entry : old) {
    if (entry == kFree) continue;
    size_t slot = home(entry >> kRankBits, slots_.size());
    while (slots_[slot] != kFree) slot = (slot + 1) & (slots_.size() - 1);
    slots_[slot] = entry;
  }
}

uint32_t Bpe::rank(int32_t left, int32_t right) const {
  const uint64_t key = pair_key(left, right);
  for (size_t slot = home(key, slots_.size()); slots_[slot] != kFree; slot = (slot + 1) & (slots_.size() - 1))
    if (slots_[slot] >> kRankBits == key) return static_cast<uint32_t>(slots_[slot] & kRankMask);
  return kNoMerge;
}

void Bpe::encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& out) const {
  if (piece.size() == 1) return out.push_back(byte_ids_[static_cast<uint8_t>(piece[0])]);
  const auto token = vocabulary_.find(piece);
  std::atomic<Whole>* whole = token ? &whole_[static_cast<size_t>(*token)] : nullptr;
  if (token && (whole_pieces_ || whole->load(std::memory_order_relaxed) == Whole::kYes)) return out.push_back(*token);

  auto& ids = scratch.ids;
  ids.clear();
  for (const char c : piece) ids.push_back(byte_ids_[static_cast<uint8_t>(c)]);
  if (piece.size() < kShortPiece) {
    merge_short(scratch);
  } else {
    merge_long(scratch);
  }
  if (whole) whole->store(ids.size() == 1 && ids[0] == *token ? Whole::kYes : Whole::kNo, std::memory_order_relaxed);
  out.insert(out.end(), ids.begin(), ids.end());
}

// ranks[i] belongs to the pair (ids[i], ids[i + 1]).
void Bpe::merge_short(Scratch& scratch) const {
  auto& [ids, ranks, next, previous, heap] = scratch;
  ranks.clear();
  for (size_t i = 0; i + 1 < ids.size(); ++i) ranks.push_back(rank(ids[i], ids[i + 1]));
  while (!ranks.empty()) {
    const auto lowest = std::min_element(ranks.begin(), ranks.end());
    if (*lowest == kNoMerge) return;
    const auto i = lowest - ranks.begin();
    ids[static_cast<size_t>(i)] = results_[*lowest];
    ids.erase(ids.begin() + i + 1);
    ranks.erase(lowest);
    const auto at = static_cast<size_t>(i);
    if (at > 0) ranks[at - 1] = rank(ids[at - 1], ids[at]);
    if (at < ranks.size()) ranks[at] = rank(ids[at], ids[at + 1]);
  }
}

// A linked list of symbols and a heap of (rank, position). Entries of pairs that have changed since stay in the heap and are skipped:
// a pair only ever grows, so a position never has the same rank twice for different pairs.
void Bpe::merge_long(Scratch& scratch) const {
  auto& [ids, ranks, next, previous, heap] = scratch;
  const size_t n = ids.size();
  ranks.assign(n, kNoMerge);
  next.resize(n);
  previous.resize(n);
  heap.clear();
  for (uint32_t i = 0; i < n; ++i) {
    next[i] = i + 1 < n ? i + 1 : kEnd;
    previous[i] = i > 0 ? i - 1 : kEnd;
    if (i + 1 < n) ranks[i] = rank(ids[i], ids[i + 1]);
    if (ranks[i] != kNoMerge) heap.push_back(uint64_t{ranks[i]} << 32 | i);
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto update = [&](uint32_t i) {
    ranks[i] = next[i] == kEnd ? kNoMerge : rank(ids[i], ids[next[i]]);
    if (ranks[i] == kNoMerge) return;
    heap.push_back(uint64_t{ranks[i]} << 32 | i);
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto i = static_cast<uint32_t>(heap.back());
    const auto lowest = static_cast<uint32_t>(heap.back() >> 32);
    heap.pop_back();
    if (ranks[i] != lowest) continue;
    const uint32_t gone = next[i];
    ids[i] = results_[lowest];
    ranks[gone] = kNoMerge;
    next[i] = next[gone];
    if (next[i] != kEnd) previous[next[i]] = i;
    update(i);
    if (previous[i] != kEnd) update(previous[i]);
  }
  size_t kept = 0;
  for (uint32_t i = 0; i != kEnd; i = next[i]) ids[kept++] = ids[i];
  ids.resize(kept);
}

}  // namespace weir
