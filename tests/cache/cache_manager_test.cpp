#include "weir/cache/cache_manager.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "weir/base/error.h"

namespace weir {
namespace {

TEST(CacheManager, AnEmptyPoolIsRefusedWithTheFlag) {
  const auto message = [](CacheConfig config) -> std::string {
    try {
      CacheManager cache(config);
    } catch (const Error& e) {
      EXPECT_EQ(e.code, ErrorCode::kInvalidArgument);
      return e.what();
    }
    return "";
  };
  EXPECT_NE(message({.num_pages = 0, .num_slots = 1}).find("--kv-cache-memory-bytes"), std::string::npos);
  EXPECT_NE(message({.num_pages = 1, .num_slots = -1}).find("got -1"), std::string::npos);
}

TEST(CacheManager, PagesCoverTokens) {
  EXPECT_EQ(pages_for(0), 0);
  EXPECT_EQ(pages_for(1), 1);
  EXPECT_EQ(pages_for(16), 1);
  EXPECT_EQ(pages_for(17), 2);
}

TEST(CacheManager, GrowKeepsWhatASequenceHasAndReleaseGivesAllBack) {
  CacheManager cache({.num_pages = 4, .num_slots = 2});
  SeqCache seq;
  ASSERT_TRUE(cache.grow(seq, 17));
  const SeqCache before = seq;
  ASSERT_EQ(before.pages.size(), 2u);
  ASSERT_TRUE(cache.grow(seq, 32));
  EXPECT_EQ(seq.pages, before.pages);
  ASSERT_TRUE(cache.grow(seq, 33));
  EXPECT_EQ(seq.pages.size(), 3u);
  EXPECT_EQ(seq.slot, before.slot);
  ASSERT_TRUE(cache.grow(seq, 1)) << "holding more than asked for is fine";
  EXPECT_EQ(cache.pages_used(), 3);
  cache.release(seq);
  EXPECT_EQ(cache.pages_used(), 0);
  EXPECT_EQ(cache.slots_used(), 0);
  EXPECT_FALSE(seq.slot);
  cache.release(seq);  // nothing held: nothing happens
}

TEST(CacheManager, AShortageChangesNothing) {
  CacheManager cache({.num_pages = 3, .num_slots = 2});
  SeqCache a, b, c;
  ASSERT_TRUE(cache.grow(a, 20));
  EXPECT_FALSE(cache.grow(b, 20)) << "one page is left";
  EXPECT_FALSE(b.slot);
  EXPECT_TRUE(b.pages.empty());
  ASSERT_TRUE(cache.grow(b, 0)) << "a slot alone";
  EXPECT_FALSE(cache.grow(c, 1)) << "no slot is left";
  EXPECT_TRUE(c.pages.empty());
  EXPECT_EQ(cache.pages_free(), 1);
}

TEST(CacheManager, NothingIsHandedOutTwiceOverRandomLives) {
  std::mt19937 rng(3);
  CacheManager cache({.num_pages = 20, .num_slots = 5});
  std::vector<SeqCache> seqs(8);
  for (int step = 0; step < 5'000; ++step) {
    SeqCache& seq = seqs[rng() % seqs.size()];
    if (rng() % 4 == 0) {
      cache.release(seq);
    } else {
      const SeqCache before = seq;
      if (!cache.grow(seq, static_cast<int32_t>(rng() % 120))) {
        ASSERT_EQ(seq.pages, before.pages);
        ASSERT_EQ(seq.slot, before.slot);
      }
    }
    std::set<PageId> pages;
    std::set<SlotId> slots;
    size_t num_pages = 0, num_slots = 0;
    for (const SeqCache& held : seqs) {
      pages.insert(held.pages.begin(), held.pages.end());
      num_pages += held.pages.size();
      if (held.slot) slots.insert(*held.slot), ++num_slots;
    }
    ASSERT_EQ(pages.size(), num_pages) << "step " << step;
    ASSERT_EQ(slots.size(), num_slots) << "step " << step;
    ASSERT_EQ(cache.pages_used(), static_cast<int32_t>(num_pages));
    ASSERT_EQ(cache.slots_used(), static_cast<int32_t>(num_slots));
  }
}

}  // namespace
}  // namespace weir
