#include "weir/cache/policy.h"

#include <gtest/gtest.h>

namespace weir {
namespace {

using Positions = std::vector<int32_t>;

TEST(SnapshotPositions, TheEndOfThePromptIsTheLastPageBoundaryThatLeavesATokenToCompute) {
  for (const auto& [prompt, end] :
       std::vector<std::pair<int32_t, Positions>>{{1, {}}, {16, {}}, {17, {16}}, {32, {16}}, {33, {32}}, {2048, {2032}}})
    EXPECT_EQ(snapshot_positions({.start = 0, .end = prompt, .num_prompt = prompt}), end) << prompt;
}

TEST(SnapshotPositions, OnlyInsideTheRow) {
  const auto at = [](int32_t start, int32_t end) {
    return snapshot_positions({.start = start, .end = end, .num_prompt = 100, .junction = 48});
  };
  EXPECT_EQ(at(0, 100), (Positions{96, 48}));
  EXPECT_EQ(at(0, 64), Positions{48});
  EXPECT_EQ(at(48, 96), Positions{96});
  EXPECT_EQ(at(96, 100), Positions{});
  EXPECT_EQ(at(100, 101), Positions{}) << "decoding takes none";
}

TEST(SnapshotPositions, MultiplesOfTheIntervalComeLast) {
  EXPECT_EQ(snapshot_positions({.start = 64, .end = 400, .num_prompt = 300, .junction = 200, .interval = 64}),
            (Positions{288, 192, 128, 256}));
  EXPECT_EQ(snapshot_positions({.start = 0, .end = 300, .num_prompt = 300, .interval = 100}), (Positions{288, 96, 192})) << "whole pages";
  EXPECT_EQ(snapshot_positions({.start = 0, .end = 300, .num_prompt = 300, .interval = 15}), Positions{288});
}

TEST(KeepScore, GrowsWithWhatIsSavedHitsAndRecentUse) {
  EXPECT_GT(keep_score(200, 0, 0, 10), keep_score(100, 0, 0, 10));
  EXPECT_GT(keep_score(100, 1, 0, 10), keep_score(100, 0, 0, 10));
  EXPECT_DOUBLE_EQ(keep_score(100, 0, 10, 10), keep_score(200, 0, 0, 10)) << "a half-life later, half the tokens are worth as much";
}

TEST(KeepScore, AnOldEntryWithManyHitsGivesWayAtLast) {
  EXPECT_GT(keep_score(1000, 31, 0, 16), keep_score(1000, 0, 16 * 4, 16));
  EXPECT_LT(keep_score(1000, 31, 0, 16), keep_score(1000, 0, 16 * 6, 16));
}

}  // namespace
}  // namespace weir
