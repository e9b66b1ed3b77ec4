#include "weir/cache/cache_manager.h"

#include "weir/base/error.h"

namespace weir {
namespace {

int32_t at_least_one(const char* what, int32_t count) {
  if (count < 1) fail(ErrorCode::kInvalidArgument, "the cache needs at least one ", what, ", got ", count);
  return count;
}

}  // namespace

CacheManager::CacheManager(const CacheConfig& config)
    : pages_(at_least_one("page (--kv-cache-memory-bytes)", config.num_pages)),
      slots_(at_least_one("state slot (--max-num-seqs)", config.num_slots)) {}

bool CacheManager::grow(SeqCache& cache, int32_t num_tokens) {
  const int32_t missing = pages_for(num_tokens) - static_cast<int32_t>(cache.pages.size());
  if (missing > pages_.num_free()) return false;
  if (!cache.slot) {
    cache.slot = slots_.take();
    if (!cache.slot) return false;
  }
  for (int32_t i = 0; i < missing; ++i) cache.pages.push_back(*pages_.take());
  return true;
}

void CacheManager::release(SeqCache& cache) {
  // Last page first: the pool hands out the page freed last, so a sequence that returns tends to get its pages in the old order.
  for (auto page = cache.pages.rbegin(); page != cache.pages.rend(); ++page) pages_.release(*page);
  if (cache.slot) slots_.release(*cache.slot);
  cache.pages.clear();
  cache.slot.reset();
}

}  // namespace weir
