#include "weir/cache/prefix_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>

namespace weir {
namespace {

using Text = std::vector<Token>;

PageKeys keys_of(const Text& text, std::string_view salt = {}) {
  PageKeys keys(salt);
  keys.extend(text);
  return keys;
}

Text counting(int32_t length, Token first = 0) {
  Text text;
  for (int32_t i = 0; i < length; ++i) text.push_back(first + i);
  return text;
}

// An index with the pools it shares, and a sequence that publishes whole texts.
struct Fixture {
  explicit Fixture(int32_t num_pages = 64, int32_t num_slots = 8) : pages(num_pages), slots(num_slots), index(pages, slots) {}

  // As a sequence that computes `text` and ends.
  void publish(const Text& text, std::string_view salt = {}) {
    const PageKeys keys = keys_of(text, salt);
    std::vector<PageId> held;
    for (int32_t i = 0; i < keys.size(); ++i) {
      held.push_back(pages.take().value());
      const PageId known =
          index.publish(text, keys, i, i > 0 ? std::optional(held[static_cast<size_t>(i - 1)]) : std::nullopt, held.back());
      if (known == held.back()) continue;
      index.retain(known);
      index.release(std::exchange(held.back(), known));
    }
    for (const PageId page : held) index.release(page);
  }
  PrefixMatch match(const Text& text, std::string_view salt = {}) const {
    return index.match(text, keys_of(text, salt), static_cast<int32_t>(text.size()) - 1);
  }
  std::optional<SlotId> snapshot(const Text& text, int32_t position, bool reaches_back = false, std::string_view salt = {}) {
    const PageKeys keys = keys_of(text, salt);
    const PrefixMatch found = index.match(text, keys, position);
    if (found.num_known != position) return std::nullopt;
    const auto slot = slots.take();
    if (slot) index.add_snapshot(page_at(text, position, salt), reaches_back, *slot);
    return slot;
  }
  PageId page_at(const Text& text, int32_t position, std::string_view salt) {
    // Publishing a page that is known answers with the known one.
    const PageKeys keys = keys_of(text, salt);
    std::optional<PageId> before;
    for (int32_t i = 0; i < position / kPageTokens; ++i) {
      const PageId scratch = pages.take().value();
      before = index.publish(text, keys, i, before, scratch);
      EXPECT_NE(*before, scratch);
      pages.release(scratch);
    }
    return before.value();
  }

  SlotPool<PageId> pages;
  SlotPool<SlotId> slots;
  PrefixIndex index;
};

TEST(PageKeys, NameThePrefixAndTheSalt) {
  const PageKeys keys = keys_of(counting(50));
  EXPECT_EQ(keys.size(), 3);
  EXPECT_EQ(keys[2], keys_of(counting(48))[2]);
  Text other = counting(50);
  other[0] = 99;
  EXPECT_NE(keys_of(other)[2], keys[2]);
  EXPECT_NE(keys_of(counting(50), "salt")[2], keys[2]);
  EXPECT_NE(keys_of(counting(50), "salt").root(), keys_of(counting(50), "salu").root());
  PageKeys grown;
  const Text text = counting(50);
  for (size_t n = 0; n <= text.size(); ++n) grown.extend(std::span(text).first(n));
  EXPECT_EQ(grown[2], keys[2]);
}

TEST(PrefixIndex, MatchStopsAtTheDeepestSnapshot) {
  Fixture f;
  const Text text = counting(100);
  f.publish(text);
  EXPECT_EQ(f.match(text).num_tokens, 0) << "pages alone are nothing to begin with";
  EXPECT_EQ(f.match(text).num_known, 96);
  const auto slot = f.snapshot(text, 48);
  PrefixMatch match = f.match(text);
  EXPECT_EQ(match.num_tokens, 48);
  EXPECT_EQ(match.pages.size(), 3u);
  EXPECT_EQ(match.slot, slot);
  f.snapshot(text, 80);
  EXPECT_EQ(f.match(text).num_tokens, 80);
  EXPECT_EQ(f.match(counting(80)).num_tokens, 48) << "at most all but one token";
  EXPECT_EQ(f.match(counting(81)).num_tokens, 80);
  Text other = text;
  other[60] = 7;
  EXPECT_EQ(f.match(other).num_tokens, 48);
  EXPECT_EQ(f.match(other).num_known, 48);
  EXPECT_EQ(f.match(text, "salt").num_known, 0);
  f.index.check_invariants();
}

TEST(PrefixIndex, ASnapshotMayServeThePageBoundaryBeforeItToo) {
  Fixture f;
  const Text text = counting(100);
  f.publish(text);
  const auto slot = f.snapshot(text, 64, /*reaches_back=*/true);
  EXPECT_EQ(f.match(text).num_tokens, 64);
  Text other = text;
  other[62] = 7;
  EXPECT_EQ(f.match(other).num_tokens, 48);
  EXPECT_EQ(f.match(other).slot, slot);
  EXPECT_EQ(f.index.num_snapshots(), 1);
  while (f.index.num_pages() > 3) ASSERT_TRUE(f.index.evict_page());
  EXPECT_EQ(f.match(text).num_tokens, 48) << "of its pages, the last is gone";
  f.index.check_invariants();
  ASSERT_TRUE(f.index.evict_page());
  EXPECT_EQ(f.slots.num_used(), 0);
}

TEST(PrefixIndex, TheSamePageOfTwoSequencesIsKeptOnce) {
  Fixture f;
  f.publish(counting(64));
  f.publish(counting(70));
  EXPECT_EQ(f.pages.num_used(), 4);
  EXPECT_EQ(f.index.num_idle_pages(), 4);
}

TEST(PrefixIndex, EvictsTheSnapshotThatSavesLeastAndKeepsItsPages) {
  Fixture f(64, 3);
  const Text text = counting(200), other = counting(200, 1000);
  f.publish(text);
  f.publish(other);
  f.snapshot(text, 160);
  f.snapshot(text, 176);  // saves 16 tokens beyond the one before
  f.snapshot(other, 160);
  ASSERT_TRUE(f.index.evict_snapshot());
  EXPECT_EQ(f.match(text).num_tokens, 160);
  EXPECT_EQ(f.match(text).num_known, 192);
  f.index.count_hit(f.match(text));
  ASSERT_TRUE(f.index.evict_snapshot());
  EXPECT_EQ(f.match(other).num_tokens, 0);
  EXPECT_EQ(f.match(text).num_tokens, 160) << "was hit";
  f.index.check_invariants();
}

TEST(PrefixIndex, ASnapshotIsWorthMoreOnceTheOneBeforeItIsGone) {
  Fixture f(64, 3);
  const Text text = counting(200), other = counting(200, 1000);
  f.publish(text);
  f.publish(other);
  f.snapshot(text, 80);
  f.snapshot(text, 160);
  f.snapshot(other, 96);
  ASSERT_TRUE(f.index.evict_snapshot());  // text at 80 or at 160: they save as much, 80 is older
  EXPECT_EQ(f.match(text).num_tokens, 160);
  ASSERT_TRUE(f.index.evict_snapshot());
  EXPECT_EQ(f.match(text).num_tokens, 160) << "it saves all 160 tokens now";
}

TEST(PrefixIndex, NeitherPageNorSnapshotThatASequenceHoldsIsEvicted) {
  Fixture f(64, 3);
  const Text text = counting(64);
  f.publish(text);
  const SlotId slot = f.snapshot(text, 48).value();
  const PrefixMatch match = f.match(text);
  for (const PageId page : match.pages) f.index.retain(page);
  f.index.retain(slot);
  EXPECT_EQ(f.index.num_idle_pages(), 1);
  EXPECT_TRUE(f.index.evict_page());
  EXPECT_FALSE(f.index.evict_page());
  EXPECT_FALSE(f.index.evict_snapshot());
  f.index.clear();
  EXPECT_EQ(f.pages.num_used(), 3);
  EXPECT_EQ(f.slots.num_used(), 1);
  for (const PageId page : match.pages) f.index.release(page);
  f.index.release(slot);
  EXPECT_EQ(f.pages.num_used() + f.slots.num_used(), 0);
}

// The model is a map of whole prefixes, searched without any cleverness.
TEST(PrefixIndex, AgreesWithANaiveModelOverRandomOperations) {
  struct Held {
    Text text;
    std::vector<PageId> pages;
  };
  for (uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 rng(seed);
    Fixture f(40, 6);
    std::map<Text, PageId> pages;      // prefix -> page of its last 16 tokens
    std::map<Text, SlotId> snapshots;  // prefix -> slot; one slot may serve two
    std::vector<Held> held;
    const auto random_text = [&] {
      Text text;
      for (int page = 0; page < 6; ++page) text.insert(text.end(), kPageTokens, static_cast<Token>(rng() % 3));  // few kinds of pages
      text.resize(1 + rng() % text.size());
      return text;
    };
    const auto prefix = [](const Text& text, int32_t tokens) { return Text(text.begin(), text.begin() + tokens); };
    const auto forget_gone = [&] {  // what the index evicted is read off its own answers, and must be consistent with the rules
      for (auto it = snapshots.begin(); it != snapshots.end();) {
        const auto match = f.index.match(it->first, keys_of(it->first), static_cast<int32_t>(it->first.size()));
        const bool there = match.num_tokens == static_cast<int32_t>(it->first.size()) && match.slot == it->second;
        it = there ? std::next(it) : snapshots.erase(it);
      }
      for (auto it = pages.begin(); it != pages.end();) {
        const auto match = f.index.match(it->first, keys_of(it->first), static_cast<int32_t>(it->first.size()));
        it = match.num_known == static_cast<int32_t>(it->first.size()) ? std::next(it) : pages.erase(it);
      }
    };
    for (int step = 0; step < 2'000; ++step) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << " step " << step);
      const Text text = random_text();
      const PageKeys keys = keys_of(text);
      switch (rng() % 8) {
        case 0:
        case 1: {  // a sequence publishes a text and keeps its pages
          Held seq{text, {}};
          for (int32_t i = 0; i < keys.size(); ++i) {
            if (f.pages.num_free() == 0) f.index.evict_page();
            const auto page = f.pages.take();
            if (!page) break;
            forget_gone();
            const auto before = i > 0 ? std::optional(seq.pages.back()) : std::nullopt;
            const PageId known = f.index.publish(text, keys, i, before, *page);
            const auto [entry, is_new] = pages.emplace(prefix(text, (i + 1) * kPageTokens), *page);
            ASSERT_EQ(known, entry->second);
            ASSERT_EQ(known == *page, is_new);
            if (!is_new) f.index.retain(known), f.index.release(*page);
            seq.pages.push_back(known);
          }
          held.push_back(std::move(seq));
          break;
        }
        case 2:
        case 3: {  // and ends
          if (held.empty()) break;
          const size_t i = rng() % held.size();
          for (const PageId page : held[i].pages) f.index.release(page);
          held.erase(held.begin() + static_cast<std::ptrdiff_t>(i));
          break;
        }
        case 4: {  // a snapshot of what a sequence holds
          if (held.empty()) break;
          const Held& seq = held[rng() % held.size()];
          if (seq.pages.empty()) break;
          const size_t number = rng() % seq.pages.size();
          if (f.slots.num_free() == 0) f.index.evict_snapshot();
          forget_gone();
          const auto slot = f.slots.take();
          if (!slot) break;
          const bool back = rng() % 2;
          f.index.add_snapshot(seq.pages[number], back, *slot);
          const auto end = static_cast<int32_t>(number + 1) * kPageTokens;
          if (!pages.contains(prefix(seq.text, end))) break;  // cleared in between: given back
          if (snapshots.emplace(prefix(seq.text, end), *slot).second && back && end > kPageTokens)
            snapshots.emplace(prefix(seq.text, end - kPageTokens), *slot);
          break;
        }
        case 5: {
          const int32_t idle = f.index.num_idle_pages();
          ASSERT_EQ(f.index.evict_page(), idle > 0);
          ASSERT_EQ(f.index.num_idle_pages(), std::max(0, idle - 1));
          break;
        }
        case 6: {
          const int32_t snaps = f.index.num_snapshots();
          ASSERT_EQ(f.index.evict_snapshot(), snaps > 0);
          ASSERT_EQ(f.index.num_snapshots(), std::max(0, snaps - 1));
          break;
        }
        default:
          if (rng() % 50 == 0) f.index.clear();
      }
      forget_gone();
      const int32_t limit = static_cast<int32_t>(rng() % (text.size() + 1));
      const PrefixMatch match = f.index.match(text, keys, limit);
      int32_t known = 0, tokens = 0;
      for (int32_t end = kPageTokens; end <= limit && pages.contains(prefix(text, end)); end += kPageTokens) {
        known = end;
        if (snapshots.contains(prefix(text, end))) tokens = end;
      }
      ASSERT_EQ(match.num_known, known);
      ASSERT_EQ(match.num_tokens, tokens);
      ASSERT_EQ(match.pages.size(), static_cast<size_t>(tokens / kPageTokens));
      for (int32_t i = 0; i < tokens / kPageTokens; ++i)
        ASSERT_EQ(match.pages[static_cast<size_t>(i)], pages.at(prefix(text, (i + 1) * kPageTokens)));
      ASSERT_EQ(match.slot, tokens > 0 ? std::optional(snapshots.at(prefix(text, tokens))) : std::nullopt);
      if (match.slot && rng() % 2) f.index.count_hit(match);
      ASSERT_EQ(f.index.num_pages(), static_cast<int32_t>(pages.size()));
      f.index.check_invariants();
      for (const auto& [text_held, page] : pages) ASSERT_GE(f.pages.num_owners(page), 1);
    }
    for (const Held& seq : held)
      for (const PageId page : seq.pages) f.index.release(page);
    f.index.clear();
    EXPECT_EQ(f.pages.num_used() + f.slots.num_used(), 0) << "seed " << seed;
  }
}

}  // namespace
}  // namespace weir
