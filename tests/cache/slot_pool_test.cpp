#include "weir/cache/slot_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <random>
#include <utility>
#include <vector>

namespace weir {
namespace {

TEST(SlotPool, AgreesWithACountingModel) {
  std::mt19937 rng(1);
  SlotPool<SlotId> pool(8);
  std::map<SlotId, int> model;  // id -> owners
  for (int step = 0; step < 10'000; ++step) {
    const auto any = [&] { return std::next(model.begin(), static_cast<int>(rng() % model.size())); };
    if (model.empty() || rng() % 3 == 0) {
      const auto id = pool.take();
      ASSERT_EQ(id.has_value(), model.size() < 8) << "step " << step;
      ASSERT_TRUE(!id || model.emplace(*id, 1).second) << "handed out twice, step " << step;
    } else if (const auto it = any(); rng() % 2) {
      pool.retain(it->first), ++it->second;
    } else if (pool.release(it->first); --it->second == 0) {
      model.erase(it);
    }
    ASSERT_EQ(pool.num_free(), 8 - static_cast<int32_t>(model.size()));
    ASSERT_EQ(pool.num_free() + pool.num_used(), pool.capacity());
    for (int32_t i = 0; i < 8; ++i) ASSERT_EQ(pool.num_owners(SlotId{i}), model.contains(SlotId{i}) ? model[SlotId{i}] : 0);
  }
}

TEST(SlotPool, HandsOutTheFirstIdsFirst) {
  SlotPool<PageId> pool(3);
  for (int32_t i = 0; i < 3; ++i) EXPECT_EQ(pool.take(), PageId{i});
  EXPECT_EQ(pool.take(), std::nullopt);
}

// Whoever makes an id's memory ready before it is taken relies on it (runtime/touch_ahead.h).
TEST(SlotPool, IdsNeverUsedComeLastAndInOrder) {
  std::mt19937 rng(2);
  SlotPool<SlotId> pool(40);
  std::vector<SlotId> taken;
  int32_t ever = 0;  // ids that have been taken at some time: 0, 1, …
  for (int step = 0; step < 300; ++step) {
    if (taken.empty() || rng() % 9 < 5) {
      const auto id = pool.take();
      if (!id) continue;
      ASSERT_LE(index(*id), ever) << "step " << step;
      ASSERT_EQ(index(*id) == ever, static_cast<int32_t>(taken.size()) == ever) << "a new one only when all others are in use";
      ever = std::max(ever, index(*id) + 1);
      taken.push_back(*id);
    } else {
      std::swap(taken[rng() % taken.size()], taken.back());
      pool.release(taken.back());
      taken.pop_back();
    }
  }
  EXPECT_GT(ever, 10);
}

TEST(SlotPoolDeathTest, AnIdNobodyHoldsCannotBeReleasedOrRetained) {
  SlotPool<PageId> pool(2);
  EXPECT_DEATH(pool.release(PageId{1}), "id 1 is not taken");
  EXPECT_DEATH(pool.retain(PageId{0}), "id 0 is not taken");
  EXPECT_DEATH(pool.release(PageId{2}), "id 2 of 2");
  EXPECT_DEATH(pool.release(PageId{-1}), "id -1 of 2");
}

}  // namespace
}  // namespace weir
