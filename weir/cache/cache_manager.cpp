#include "weir/cache/cache_manager.h"

#include <algorithm>
#include <utility>

#include "weir/base/error.h"

namespace weir {
namespace {

static_assert(kSlotHistory >= kPageTokens + kMaxDrafts && kSlotBlock % kPageTokens == 0, "a slot is readable at the last page boundary");

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
}

PrefixMatch CacheManager::match(std::span<const Token> text, const PageKeys& keys, int32_t limit) const {
  return index_ ? index_->match(text, keys, limit) : PrefixMatch{};
}

bool CacheManager::start(SeqCache& cache, const PrefixMatch& match, int32_t num_tokens, int32_t num_pages) {
  WEIR_CHECK(cache.pages.empty() && !cache.slot, "a sequence that has begun cannot start again");
  // Pages of the match that are idle now will not be there to be evicted.
  const auto matched = static_cast<int32_t>(match.pages.size());
  const auto idle =
      static_cast<int32_t>(std::count_if(match.pages.begin(), match.pages.end(), [&](PageId page) { return index_->is_idle(page); }));
  if (pages_free() - idle < num_pages - matched) return false;

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
  cache.num_published = matched;
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
  if (index_) index_->clear();
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
