// Who holds which attention pages and delta-net slots: ids only, the bytes live with the ranks.
// A running sequence holds one slot and ceil(tokens / kPageTokens) pages; a waiting one holds nothing.
// Engine thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "weir/cache/slot_pool.h"
#include "weir/core/config.h"
#include "weir/core/ids.h"

namespace weir {

// What one sequence holds. Filled and emptied by CacheManager; whoever owns it must release it there before it goes away.
struct SeqCache {
  std::vector<PageId> pages;   // page i holds tokens [i kPageTokens, (i + 1) kPageTokens)
  std::optional<SlotId> slot;  // the recurrent and conv state after the last computed token
};

class CacheManager {
 public:
  // Throws Error(kInvalidArgument) when a pool has no entry.
  explicit CacheManager(const CacheConfig& config);

  // Makes `cache` hold a slot and the pages of `num_tokens` tokens, keeping what it has. All or nothing: false leaves it unchanged
  // (normal: the caller preempts somebody or waits).
  [[nodiscard]] bool grow(SeqCache& cache, int32_t num_tokens);

  // Gives everything back; `cache` is empty afterwards.
  void release(SeqCache& cache);

  int32_t pages_free() const { return pages_.num_free(); }
  int32_t pages_used() const { return pages_.num_used(); }
  int32_t pages_total() const { return pages_.capacity(); }
  int32_t slots_free() const { return slots_.num_free(); }
  int32_t slots_used() const { return slots_.num_used(); }
  int32_t slots_total() const { return slots_.capacity(); }

 private:
  SlotPool<PageId> pages_;
  SlotPool<SlotId> slots_;
};

// Pages that hold num_tokens tokens.
constexpr int32_t pages_for(int64_t num_tokens) { return static_cast<int32_t>((num_tokens + kPageTokens - 1) / kPageTokens); }

}  // namespace weir
