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

PageKeys keys_of(const std::vector<Token>& text) {
  PageKeys keys;
  keys.extend(text);
  return keys;
}

// A sequence that computes `text` and ends.
void live(CacheManager& cache, const std::vector<Token>& text) {
  const PageKeys keys = keys_of(text);
  SeqCache seq;
  ASSERT_TRUE(cache.start(seq, cache.match(text, keys, static_cast<int32_t>(text.size()) - 1), static_cast<int32_t>(text.size()), 0));
  cache.publish(seq, text, keys, static_cast<int32_t>(text.size()));
  cache.retire(seq, text, keys, static_cast<int32_t>(text.size()));
  EXPECT_TRUE(seq.pages.empty() && !seq.slot);
  cache.check_invariants();
}

TEST(CacheManager, WhatASequenceComputedIsFreeForOthersAndStillKnown) {
  CacheManager cache({.num_pages = 6, .num_slots = 2});
  const std::vector<Token> text(40, 7);
  live(cache, text);
  EXPECT_EQ(cache.pages_used() + cache.slots_used(), 0);
  EXPECT_EQ(cache.pages_cached(), 2);
  EXPECT_EQ(cache.slots_cached(), 1);
  EXPECT_EQ(cache.match(text, keys_of(text), 39).num_tokens, 32) << "its own slot, though it has seen 40 tokens";
  SeqCache other;
  ASSERT_TRUE(cache.grow(other, 96));
  EXPECT_EQ(cache.pages_free(), 0);
  EXPECT_EQ(cache.match(text, keys_of(text), 39).num_known, 0) << "live beats cached";
  cache.release(other);
}

TEST(CacheManager, ASequenceTakesOverTheSnapshotThatHasTheLastSlot) {
  CacheManager cache({.num_pages = 6, .num_slots = 1});
  const std::vector<Token> text(40, 7);
  live(cache, text);
  SeqCache seq;
  ASSERT_TRUE(cache.start(seq, cache.match(text, keys_of(text), 39), 40, 3));
  EXPECT_EQ(seq.start_from, seq.slot);
  EXPECT_EQ(cache.slots_used(), 1);
  cache.check_invariants();
  cache.release(seq);
  EXPECT_EQ(cache.slots_used(), 0);
}

TEST(CacheManager, TwoSequencesBeginAtOneSnapshotWhichStaysUntilTheyHaveReadIt) {
  CacheManager cache({.num_pages = 12, .num_slots = 3});
  const std::vector<Token> text(40, 7);
  live(cache, text);
  SeqCache a, b, c;
  ASSERT_TRUE(cache.start(a, cache.match(text, keys_of(text), 39), 40, 3));
  ASSERT_TRUE(cache.start(b, cache.match(text, keys_of(text), 39), 40, 3));
  EXPECT_EQ(a.start_from, b.start_from);
  EXPECT_NE(a.slot, b.slot);
  EXPECT_EQ(a.pages[0], b.pages[0]);
  EXPECT_NE(a.pages[2], b.pages[2]);
  EXPECT_FALSE(cache.start(c, cache.match(text, keys_of(text), 39), 40, 3)) << "the third slot is being read";
  EXPECT_TRUE(c.pages.empty() && !c.slot);
  cache.check_invariants();
  cache.publish(a, text, keys_of(text), 40);
  cache.publish(b, text, keys_of(text), 40);
  ASSERT_TRUE(cache.start(c, cache.match(text, keys_of(text), 39), 40, 3));
  EXPECT_EQ(c.start_from, c.slot) << "taken over";
  for (SeqCache* seq : {&a, &b, &c}) cache.release(*seq);
  EXPECT_EQ(cache.pages_used() + cache.slots_used(), 0);
}

TEST(CacheManager, WithoutPrefixCachingNothingIsRemembered) {
  CacheManager cache({.num_pages = 6, .num_slots = 2, .prefix_caching = false});
  const std::vector<Token> text(40, 7);
  live(cache, text);
  EXPECT_EQ(cache.pages_cached() + cache.slots_cached(), 0);
  EXPECT_EQ(cache.match(text, keys_of(text), 39).num_known, 0);
}

}  // namespace
}  // namespace weir
