// Who holds which attention pages and delta-net slots: ids only, the bytes live with the ranks.
// A running sequence holds one slot and ceil(tokens / kPageTokens) pages; a waiting one holds nothing. What sequences have computed stays
// known in a PrefixIndex as long as no sequence needs the room: live beats cached.
// Engine thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "weir/cache/prefix_index.h"
#include "weir/cache/slot_pool.h"
#include "weir/cache/tier_index.h"
#include "weir/core/config.h"
#include "weir/core/ids.h"
#include "weir/core/plan.h"

namespace weir {

// What one sequence holds. Filled and emptied by CacheManager; whoever owns it must release it there before it goes away.
struct SeqCache {
  std::vector<PageId> pages;         // page i holds tokens [i kPageTokens, (i + 1) kPageTokens); the first ones may be shared
  std::optional<SlotId> slot;        // its own: the recurrent and conv state after the last computed token
  std::optional<SlotId> start_from;  // until its first row is computed: the snapshot which that row reads, perhaps `slot` itself
  std::vector<Snapshot> snapshots;   // what its next row stores: slots of its own, until they become the index's
  int32_t num_published = 0;         // pages
};

class CacheManager {
 public:
  // Throws Error(kInvalidArgument) when a pool has no entry or a setting is out of range.
  explicit CacheManager(const CacheConfig& config);

  // What is known of the first `limit` tokens of `text`. Good until the next call that is not const.
  PrefixMatch match(std::span<const Token> text, const PageKeys& keys, int32_t limit) const;

  // Whether start would find room for it.
  bool has_room(const PrefixMatch& match, int32_t num_pages) const;

  // Brings back from the second tier what it knows of the first `limit` tokens of `text` beyond `match`, if that is worth it: kFetching
  // until the bytes are near, then kRestored once: the next match has it. The plan must carry take_tier_ops().
  enum class Restore { kNothing, kFetching, kRestored };
  Restore restore(std::span<const Token> text, const PageKeys& keys, int32_t limit, const PrefixMatch& match);

  // Makes the empty `cache` hold what the match found, a slot of its own, and the pages of `num_tokens` tokens; `num_pages` must be there
  // to be had for it, those of the match included. All or nothing, as grow.
  [[nodiscard]] bool start(SeqCache& cache, const PrefixMatch& match, int32_t num_tokens, int32_t num_pages);

  // Makes `cache` hold a slot and the pages of `num_tokens` tokens, keeping what it has. All or nothing: false leaves it unchanged
  // (normal: the caller preempts somebody or waits). Cached pages and snapshots give way.
  [[nodiscard]] bool grow(SeqCache& cache, int32_t num_tokens);

  // Takes slots for snapshots of the next row at these positions, as many as there are, the first positions first.
  void take_snapshots(SeqCache& cache, const std::vector<int32_t>& positions);

  // A row has been computed: the first `num_computed` tokens of `text` lie in the pages of `cache` and its slot, and the snapshots are
  // filled. Makes all of this known.
  void publish(SeqCache& cache, std::span<const Token> text, const PageKeys& keys, int32_t num_computed);

  // The same, and gives everything back: the slot itself becomes a snapshot, without a copy.
  void retire(SeqCache& cache, std::span<const Token> text, const PageKeys& keys, int32_t num_computed);

  // Gives everything back and makes nothing known; `cache` is empty afterwards.
  void release(SeqCache& cache);

  // Forgets what is known, here and in the second tier; sequences keep what they hold.
  void reset_prefixes();

  // The second tier. Entries of an earlier run, before anything else; what the next plan does for the tier, with `are_fetching` sequences
  // waiting for it; what its ranks have said since. move_to_tier forgets all that is known here, for the tier to keep.
  void add_tier_entries(const std::vector<TierEntry>& entries);
  TierOps take_tier_ops(bool are_fetching);
  void apply(const TierEvents& events);
  void move_to_tier();
  int64_t tier_bytes() const { return tier_bytes_; }

  bool prefix_caching() const { return index_.has_value(); }
  bool has_tier() const { return tier_.has_value(); }
  int32_t pages_free() const { return pages_.num_free() + pages_cached(); }  // free, or to be had by forgetting
  int32_t pages_used() const { return pages_.capacity() - pages_free(); }    // held by sequences
  int32_t pages_cached() const { return index_ ? index_->num_idle_pages() : 0; }
  int32_t pages_total() const { return pages_.capacity(); }
  int32_t slots_free() const { return slots_.num_free() + slots_cached(); }
  int32_t slots_used() const { return slots_.capacity() - slots_free(); }
  int32_t slots_cached() const { return index_ ? index_->num_idle_snapshots() : 0; }
  int32_t slots_total() const { return slots_.capacity(); }

  void check_invariants() const;  // aborts the program when one is broken

 private:
  void save_evicted();
  std::optional<PageId> take_page();
  std::optional<SlotId> take_slot();
  void drop(PageId page);
  void drop(SlotId slot);

  SlotPool<PageId> pages_;
  SlotPool<SlotId> slots_;
  std::optional<PrefixIndex> index_;  // borrows the pools; nullopt: prefix caching is off
  std::optional<TierIndex> tier_;     // nullopt: there is none
  std::vector<Evicted> evicted_;      // not yet in tier_ops_
  int64_t tier_bytes_ = 0;
  TierOps tier_ops_;  // of the plan that is being made
};

}  // namespace weir
