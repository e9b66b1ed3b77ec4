// Which memory is resident before anybody has written it: the next ids, and not the whole pool.
#include "weir/runtime/touch_ahead.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace weir {
namespace {

constexpr int64_t kSlots = 16, kPages = 400, kSmallPage = 4096;

// In small pages, whatever the system prefers, so that touching a row brings no other.
Tensor pool_of(int64_t rows, int64_t bytes) {
  const auto all = static_cast<size_t>(rows * bytes);
  void* data = ::mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT_NE(data, MAP_FAILED);
  ::madvise(data, all, MADV_NOHUGEPAGE);
  return Tensor(data, Shape{rows, bytes}, DType::kU8, std::shared_ptr<void>(data, [all](void* p) { ::munmap(p, all); }));
}

bool is_resident(const Tensor& pool, int64_t row) {
  Tensor bytes = pool.rows(row, row + 1);
  std::vector<unsigned char> pages(static_cast<size_t>(bytes.nbytes() / kSmallPage));
  EXPECT_EQ(::mincore(bytes.raw(), static_cast<size_t>(bytes.nbytes()), pages.data()), 0);
  return std::all_of(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; });
}

// How many rows from `first` on are resident, and none behind them is.
int64_t num_resident(const Tensor& pool, int64_t first = 0) {
  int64_t end = first;
  while (end < pool.dim(0) && is_resident(pool, end)) ++end;
  for (int64_t row = end; row < pool.dim(0); ++row) EXPECT_FALSE(is_resident(pool, row)) << "row " << row << " behind " << end;
  return end - first;
}

SeqStep row_of(int32_t slot, int32_t start, std::vector<int32_t> pages, std::vector<int32_t> snapshots = {}) {
  SeqStep row{.start = start, .state_write = SlotId{slot}};
  for (const int32_t page : pages) row.pages.push_back(PageId{page});
  for (const int32_t snapshot : snapshots) row.snapshots.push_back({start, SlotId{snapshot}});
  return row;
}

class TouchAheadTest : public testing::Test {
 protected:
  void touch_all() {
    while (ahead_.touch_piece()) {
    }
  }

  // Pieces of one slot, and of all pages at once.
  const std::vector<Tensor> slots_ = {pool_of(kSlots, 300 * kSmallPage), pool_of(kSlots, kSmallPage)};
  const std::vector<Tensor> pages_ = {pool_of(kPages, kSmallPage), pool_of(kPages, 2 * kSmallPage)};
  const Tensor activations_ = pool_of(3, 512 * kSmallPage);
  TouchAhead ahead_{slots_, pages_, activations_};
};

TEST_F(TouchAheadTest, BeforeTheFirstStepTwoRequestsFindMemoryAndMostOfThePoolIsNotThere) {
  EXPECT_TRUE(ahead_.is_short());
  touch_all();
  EXPECT_FALSE(ahead_.is_short());
  for (const Tensor& pool : slots_) EXPECT_EQ(num_resident(pool), 4);
  for (const Tensor& pool : pages_) EXPECT_EQ(num_resident(pool), 128);
  EXPECT_EQ(num_resident(activations_), 3);
}

TEST_F(TouchAheadTest, FollowsTheHighestIdsInUse) {
  touch_all();
  ahead_.note({.rows = {row_of(0, 0, {0, 1}, {1})}});
  touch_all();
  EXPECT_EQ(num_resident(slots_[0]), 2 + 4);
  EXPECT_EQ(num_resident(pages_[0]), 2 + 128);
  ahead_.note({.rows = {row_of(0, 20, {0, 1})}});
  EXPECT_FALSE(ahead_.touch_piece()) << "nothing new is in use";
  ahead_.note({.rows = {row_of(0, 32, {0, 1, 7})}});
  touch_all();
  EXPECT_EQ(num_resident(slots_[0]), 2 + 4);
  EXPECT_EQ(num_resident(pages_[0]), 8 + 128);
}

TEST_F(TouchAheadTest, WhatIsInUseAlreadyIsLeftToItsUsers) {
  ahead_.note({.rows = {row_of(5, 0, {130})}});
  touch_all();
  EXPECT_FALSE(is_resident(slots_[0], 5));
  EXPECT_EQ(num_resident(slots_[0], 6), 4);
  EXPECT_EQ(num_resident(pages_[0], 131), 128);
}

TEST_F(TouchAheadTest, IsShortWhenLessThanOneRequestsSlotsOrHalfAStepsPagesAreLeft) {
  touch_all();
  ahead_.note({.rows = {row_of(0, 0, {0}, {1})}});
  EXPECT_FALSE(ahead_.is_short()) << "two more slots";
  ahead_.note({.rows = {row_of(2, 0, {1})}});
  EXPECT_TRUE(ahead_.is_short());
  for (int piece = 0; piece < 2; ++piece) {
    EXPECT_TRUE(ahead_.is_short()) << "a slot is ready when all its tensors are";
    ahead_.touch_piece();
  }
  EXPECT_FALSE(ahead_.is_short());
  ahead_.note({.rows = {row_of(2, 0, {64})}});
  EXPECT_TRUE(ahead_.is_short());
  touch_all();
  EXPECT_FALSE(ahead_.is_short());
}

TEST_F(TouchAheadTest, EndsWithThePools) {
  touch_all();
  ahead_.note({.rows = {row_of(kSlots - 1, 0, {kPages - 3})}});
  touch_all();
  EXPECT_EQ(num_resident(pages_[0], kPages - 2), 2);
  ahead_.note({.rows = {row_of(3, 0, {kPages - 1})}});
  EXPECT_FALSE(ahead_.is_short());
  EXPECT_FALSE(ahead_.touch_piece());
}

TEST_F(TouchAheadTest, ContentsStay) {
  const auto fill = [](const Tensor& pool) { std::memset(const_cast<void*>(pool.raw()), 7, static_cast<size_t>(pool.nbytes())); };
  fill(slots_[0]), fill(pages_[1]), fill(activations_);
  touch_all();
  for (const Tensor& pool : {slots_[0], pages_[1], activations_}) {
    const auto* const bytes = pool.data<uint8_t>();
    EXPECT_TRUE(std::all_of(bytes, bytes + pool.nbytes(), [](uint8_t byte) { return byte == 7; }));
  }
}

TEST(TouchAhead, AModelMayHaveNoSlotsOrNoPages) {
  TouchAhead ahead({}, {}, Tensor::zeros(Shape{0, 64}, DType::kU8));
  ahead.note({.rows = {row_of(0, 0, {0})}});
  EXPECT_FALSE(ahead.is_short());
  EXPECT_FALSE(ahead.touch_piece());
}

}  // namespace
}  // namespace weir
