#include "weir/base/small_vector.h"

#include <gtest/gtest.h>

#include <random>

namespace weir {
namespace {

using Few = SmallVector<int, 3>;

TEST(SmallVector, AgreesWithAVector) {
  std::mt19937 rng(2);
  for (int round = 0; round < 200; ++round) {
    Few few;
    std::vector<int> model;
    for (int step = 0; step < 30; ++step) {
      const int value = static_cast<int>(rng() % 100);
      switch (rng() % 6) {
        case 0:
          few.resize(static_cast<size_t>(value % 8));
          model.resize(static_cast<size_t>(value % 8));
          break;
        case 1:
          few.append(std::vector<int>{value, value + 1});
          model.insert(model.end(), {value, value + 1});
          break;
        case 2: {
          Few copy = few, taken = std::move(few);
          ASSERT_EQ(copy, taken);
          few = value % 2 == 0 ? std::move(taken) : copy;
          break;
        }
        case 3:
          if (value < 10) few.clear(), model.clear();
          break;
        default: few.push_back(value); model.push_back(value);
      }
      ASSERT_EQ(few, model);
      ASSERT_EQ(few.size(), model.size());
      if (!model.empty()) {
        ASSERT_EQ(few.back(), model.back());
      }
    }
  }
}

TEST(SmallVector, IsMadeFromListsAndVectors) {
  EXPECT_EQ(Few({1, 2}), (std::vector<int>{1, 2}));
  EXPECT_EQ(Few(std::vector<int>{1, 2, 3, 4}), (std::vector<int>{1, 2, 3, 4}));
  Few moved_from({1, 2, 3, 4});
  const Few other = std::move(moved_from);
  EXPECT_EQ(other.size(), 4u);
  EXPECT_TRUE(moved_from.empty()) << "as a vector's, in practice";  // NOLINT(bugprone-use-after-move)
}

}  // namespace
}  // namespace weir
