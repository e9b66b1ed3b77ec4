#include "weir/cache/tier_index.h"

#include <gtest/gtest.h>

namespace weir {
namespace {

using Kind = TierLabel::Kind;

TierLabel label(Kind kind, uint64_t key, std::optional<uint64_t> before = std::nullopt) {
  TierLabel out{kind, {key, key}, {}, std::nullopt};
  out.tokens.fill(static_cast<Token>(key));
  if (before) out.before = PageKey{*before, *before};
  return out;
}

TEST(TierIndex, FindsPagesByNameAndTokens) {
  TierIndex index;
  const TierEntry page = index.add(label(Kind::kPage, 7));
  ASSERT_NE(index.find_page({7, 7}, page.label.tokens), nullptr);
  EXPECT_EQ(index.find_page({7, 7}, label(Kind::kPage, 8).tokens), nullptr) << "a collision of hashes is a miss";
  EXPECT_EQ(index.find(Kind::kState, {7, 7}), nullptr);
  index.remove(page.id);
  EXPECT_FALSE(index.has(page.label));
  EXPECT_EQ(index.num_entries(), 0);
}

TEST(TierIndex, AStateIsFoundAPageEarlierToo) {
  TierIndex index;
  const TierEntry early = index.add(label(Kind::kState, 1));
  const TierEntry late = index.add(label(Kind::kState, 3, 2));
  EXPECT_EQ(index.find(Kind::kState, {2, 2})->id, late.id);
  const TierEntry later = index.add(label(Kind::kState, 2, 1));
  EXPECT_EQ(index.find(Kind::kState, {2, 2})->id, later.id) << "one that ends there is better";
  EXPECT_EQ(index.find(Kind::kState, {1, 1})->id, early.id);
  index.remove(later.id);
  EXPECT_EQ(index.find(Kind::kState, {1, 1})->id, early.id);
  index.remove(late.id);
  EXPECT_EQ(index.find(Kind::kState, {3, 3}), nullptr);
}

TEST(TierIndex, CountsWhatIsNear) {
  TierIndex index(100);
  const TierEntry a = index.add(label(Kind::kPage, 1)), b = index.add(label(Kind::kPage, 2));
  EXPECT_EQ(a.id, TierId{100});
  index.set_nearness(a.id, Nearness::kHere);
  index.set_nearness(b.id, Nearness::kFetching);
  index.set_nearness(TierId{5}, Nearness::kHere);  // long gone
  EXPECT_EQ(index.num_here(), 1);
  index.set_all_here_far();
  EXPECT_EQ(index.nearness(a.id), Nearness::kFar);
  EXPECT_EQ(index.nearness(b.id), Nearness::kFetching);
  index.set_nearness(b.id, Nearness::kHere);
  index.remove(b.id);
  EXPECT_EQ(index.num_here(), 0);
}

}  // namespace
}  // namespace weir
