#include "weir/cache/cache_manager.h"

#include <algorithm>
#include <utility>

#include "weir/base/error.h"

namespace weir {
namespace {

static_assert(kSlotHistory >= kPageTokens + kMaxDrafts && kSlotBlock % kPageTokens == 0, "a slot is readable at the last page boundary");

constexpr int32_t kWorthFetching = 64;  // tokens: fewer are computed sooner than they are fetched

int32_t at_least_one(const char* what, int32_t count) {
  if (count < 1) fail(ErrorCode::kInvalidArgument, "the cache needs at least one ", what, ", got ", count);
  return count;
}

}  // namespace

CacheManager::CacheManager(const CacheConfig& config)
    : pages_(at_least_one("page (--kv-cache-memory-bytes)", config.num_pages)),
      slots_(at_least_one("state slot (--max-num-seqs)", config.num_slots)) {
  if (config.snapshot_interval < 0)
    fail(ErrorCode::kInvalidArgument, "--prefix-cache-retention-interval must be at least 0, got ", config.snapshot_interval);
  if (config.prefix_caching) index_.emplace(pages_, slots_);
  if (config.prefix_caching && config.has_tier) {
    tier_.emplace();
    index_->record_evictions(&evicted_);
  }
}

PrefixMatch CacheManager::match(std::span<const Token> text, const PageKeys& keys, int32_t limit) const {
  return index_ ? index_->match(text, keys, limit) : PrefixMatch{};
}

bool CacheManager::has_room(const PrefixMatch& match, int32_t num_pages) const {
  // Pages of the match that are idle now will not be there to be evicted.
  const auto idle =
      static_cast<int32_t>(std::count_if(match.pages.begin(), match.pages.end(), [&](PageId page) { return index_->is_idle(page); }));
  return pages_free() - idle >= num_pages - static_cast<int32_t>(match.pages.size());
}

bool CacheManager::start(SeqCache& cache, const PrefixMatch& match, int32_t num_tokens, int32_t num_pages) {
  WEIR_CHECK(cache.pages.empty() && !cache.slot, "a sequence that has begun cannot start again");
  if (!has_room(match, num_pages)) return false;

  // The snapshot is kept from eviction first. If it has the only slot left, the sequence takes it over and computes in place.
  if (match.slot) index_->retain(*match.slot);
  cache.slot = take_slot();
  if (match.slot && !cache.slot) {
    index_->release(*match.slot);
    if (slots_.num_owners(*match.slot) > 1) return false;  // somebody begins there in the same step
    index_->count_hit(match);
    index_->hand_out(*match.slot);
    cache.slot = match.slot;
  } else if (!cache.slot) {
    return false;
  } else if (match.slot) {
    index_->count_hit(match);
  }
  cache.start_from = match.slot;
  for (const PageId page : match.pages) index_->retain(page);
  cache.pages = match.pages;
  cache.num_published = static_cast<int32_t>(match.pages.size());
  const bool has_pages = grow(cache, num_tokens);
  WEIR_CHECK(has_pages, pages_free(), " pages free");
  return true;
}

bool CacheManager::grow(SeqCache& cache, int32_t num_tokens) {
  const int32_t missing = pages_for(num_tokens) - static_cast<int32_t>(cache.pages.size());
  if (missing > pages_free()) return false;
  if (!cache.slot) {
    cache.slot = take_slot();
    if (!cache.slot) return false;
  }
  for (int32_t i = 0; i < missing; ++i) {
    const auto page = take_page();
    WEIR_CHECK(page, pages_cached(), " pages cached, none could be evicted");
    cache.pages.push_back(*page);
  }
  return true;
}

void CacheManager::take_snapshots(SeqCache& cache, const std::vector<int32_t>& positions) {
  if (!index_) return;
  for (const int32_t position : positions) {
    const auto slot = take_slot();
    if (!slot) break;
    cache.snapshots.push_back({position, *slot});
  }
}

void CacheManager::publish(SeqCache& cache, std::span<const Token> text, const PageKeys& keys, int32_t num_computed) {
  if (cache.start_from && cache.start_from != cache.slot) drop(*cache.start_from);
  cache.start_from.reset();
  if (!index_) return;
  for (const int32_t full = num_computed / kPageTokens; cache.num_published < full; ++cache.num_published) {
    const int32_t i = cache.num_published;
    PageId& page = cache.pages[static_cast<size_t>(i)];
    const auto before = i > 0 ? std::optional(cache.pages[static_cast<size_t>(i - 1)]) : std::nullopt;
    const PageId known = index_->publish(text, keys, i, before, page);
    if (known == page) continue;
    // Somebody else has computed the same page: the same bits, whoever computes them. One of the two is enough.
    index_->retain(known);
    drop(std::exchange(page, known));
  }
  for (const Snapshot& snapshot : std::exchange(cache.snapshots, {})) {
    const auto page = cache.pages[static_cast<size_t>(snapshot.position / kPageTokens - 1)];
    index_->add_snapshot(page, /*reaches_back=*/true, snapshot.slot);
  }
}

void CacheManager::retire(SeqCache& cache, std::span<const Token> text, const PageKeys& keys, int32_t num_computed) {
  if (index_ && cache.slot && num_computed > 0) {
    publish(cache, text, keys, num_computed);
    // The slot has seen a few tokens more than the last full page has, and is readable at that page's end all the same.
    if (const int32_t full = num_computed / kPageTokens; full > 0)
      index_->add_snapshot(cache.pages[static_cast<size_t>(full - 1)], /*reaches_back=*/num_computed % kPageTokens == 0,
                           *std::exchange(cache.slot, {}));
  }
  release(cache);
}

void CacheManager::release(SeqCache& cache) {
  // Last page first: the pool hands out the page freed last, so a sequence that returns tends to get its pages in the old order.
  for (auto page = cache.pages.rbegin(); page != cache.pages.rend(); ++page) drop(*page);
  if (cache.start_from && cache.start_from != cache.slot) drop(*cache.start_from);
  if (cache.slot) drop(*cache.slot);
  for (const Snapshot& snapshot : cache.snapshots) drop(snapshot.slot);
  cache = SeqCache{};
}

void CacheManager::reset_prefixes() {
  if (!index_) return;
  index_->clear();
  if (!tier_) return;
  evicted_.clear();
  tier_->clear();
  tier_ops_ = {};
  tier_ops_.forget_all = true;
}

CacheManager::Restore CacheManager::restore(std::span<const Token> text, const PageKeys& keys, int32_t limit, const PrefixMatch& match) {
  if (!tier_) return Restore::kNothing;
  // The longest prefix all of whose pages are here or there, with a state at its end that is there.
  const std::vector<PageId> known = index_->known_pages(text, keys, limit);
  std::vector<TierEntry> pages;  // behind those known here
  int32_t end = 0;               // pages of that prefix
  const TierEntry* state = nullptr;
  for (int32_t number = 0; number < std::min(keys.size(), limit / kPageTokens); ++number) {
    if (number >= static_cast<int32_t>(known.size())) {
      const auto* page = tier_->find_page(keys[number], text.subspan(static_cast<size_t>(number) * kPageTokens, kPageTokens));
      if (!page) break;
      pages.push_back(*page);
    }
    if (const TierEntry* found = tier_->find(TierLabel::Kind::kState, keys[number])) state = found, end = number + 1;
  }
  if (!state || end * kPageTokens < match.num_tokens + kWorthFetching) return Restore::kNothing;
  const auto here = std::min(static_cast<int32_t>(known.size()), end);
  pages.resize(static_cast<size_t>(end - here));

  std::vector<TierEntry> wanted = pages;
  wanted.push_back(*state);
  bool are_here = true;
  for (const TierEntry& entry : wanted) {
    are_here &= tier_->nearness(entry.id) == Nearness::kHere;
    if (tier_->nearness(entry.id) != Nearness::kFar) continue;
    tier_->set_nearness(entry.id, Nearness::kFetching);
    tier_ops_.fetches.push_back(entry.id);
  }
  if (!are_here) return Restore::kFetching;

  // Kept from eviction while room is made for what lies behind them.
  std::vector<PageId> held(known.begin(), known.begin() + here);
  for (const PageId page : held) index_->retain(page);
  const auto slot = end - here <= pages_free() ? take_slot() : std::nullopt;
  for (int32_t i = 0; slot && i < end - here; ++i) {
    const auto page = take_page();
    WEIR_CHECK(page, pages_cached(), " pages cached, none could be evicted");
    const auto before = held.empty() ? std::nullopt : std::optional(held.back());
    const PageId published = index_->publish(text, keys, here + i, before, *page);
    WEIR_CHECK(published == *page, "page ", here + i, " was known");
    tier_ops_.loads.push_back({pages[static_cast<size_t>(i)], index(*page)});
    held.push_back(*page);
  }
  if (slot) {
    tier_ops_.loads.push_back({*state, index(*slot)});
    index_->add_snapshot(held.back(), /*reaches_back=*/state->label.before && state->label.key == keys[end - 1], *slot);
    for (const TierEntry& entry : wanted) tier_->set_nearness(entry.id, Nearness::kFar);
  }
  for (auto page = held.rbegin(); page != held.rend(); ++page) drop(*page);
  return slot ? Restore::kRestored : Restore::kNothing;
}

void CacheManager::add_tier_entries(const std::vector<TierEntry>& entries) {
  if (!tier_) return;
  uint64_t next_id = 0;
  for (const TierEntry& entry : entries) next_id = std::max(next_id, index(entry.id) + 1);
  tier_.emplace(next_id);
  for (const TierEntry& entry : entries) tier_->add(entry);
}

TierOps CacheManager::take_tier_ops(bool are_fetching) {
  if (!tier_) return {};
  save_evicted();
  if (!are_fetching && tier_->num_here() > 0) {
    tier_->set_all_here_far();
    tier_ops_.drop_fetched = true;
  }
  return std::exchange(tier_ops_, {});
}

void CacheManager::move_to_tier() {
  if (tier_) index_->clear();
}

void CacheManager::apply(const TierEvents& events) {
  if (!tier_) return;
  tier_bytes_ = events.bytes_used;
  for (const TierId id : events.fetched) tier_->set_nearness(id, Nearness::kHere);
  for (const TierId id : events.lost) tier_->remove(id);
}

// What is there already is the same, bit for bit.
void CacheManager::save_evicted() {
  for (const Evicted& evicted : std::exchange(evicted_, {}))
    if (!tier_->has(evicted.label)) tier_ops_.saves.push_back({tier_->add(evicted.label), evicted.from});
}

void CacheManager::check_invariants() const {
  if (index_) index_->check_invariants();
}

std::optional<PageId> CacheManager::take_page() {
  if (pages_.num_free() == 0 && index_) index_->evict_page();
  return pages_.take();
}

std::optional<SlotId> CacheManager::take_slot() {
  if (slots_.num_free() == 0 && index_) index_->evict_snapshot();
  return slots_.take();
}

void CacheManager::drop(PageId page) {
  if (index_)
    index_->release(page);
  else
    pages_.release(page);
}

void CacheManager::drop(SlotId slot) {
  if (index_)
    index_->release(slot);
  else
    slots_.release(slot);
}

}  // namespace weir
