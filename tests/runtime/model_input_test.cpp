#include "weir/runtime/model_input.h"

#include <gtest/gtest.h>

#include "weir/base/error.h"

namespace weir {
namespace {

Arena& arena() {
  static Arena arena(1 << 20);
  arena.reset();
  return arena;
}

SeqStep row(int32_t start, std::vector<Token> tokens, int32_t slot = 1) {
  SeqStep step;
  step.start = start;
  step.tokens = std::move(tokens);
  const auto end = static_cast<size_t>(start) + step.tokens.size();
  for (size_t i = 0; i * 16 < end; ++i) step.pages.push_back(PageId(static_cast<int32_t>(i)));
  if (start > 0) step.state_read = SlotId(slot);
  step.state_write = SlotId(slot);
  return step;
}

std::vector<int32_t> list(const Tensor& t) { return {t.data<int32_t>(), t.data<int32_t>() + t.numel()}; }

TEST(ModelInput, LaysRowsOneAfterAnother) {
  StepPlan plan;
  plan.rows = {row(0, {5, 6, 7}, 0), row(20, {9})};
  const ModelInput in = build_input(plan, 8, 4, 100, arena());
  EXPECT_EQ(list(in.ids), (std::vector<int32_t>{5, 6, 7, 9}));
  EXPECT_EQ(list(in.positions), (std::vector<int32_t>{0, 1, 2, 20, 0, 1, 2, 20, 0, 1, 2, 20}));
  EXPECT_EQ(list(in.rows.row_starts), (std::vector<int32_t>{0, 3, 4}));
  EXPECT_EQ(list(in.rows.state_read), (std::vector<int32_t>{-1, 1}));
  EXPECT_EQ(list(in.rows.page_table), (std::vector<int32_t>{0, 0, 0, 1}));
}

TEST(ModelInput, AnEmptyPlanIsAnEmptyInput) {
  const ModelInput in = build_input({}, 8, 4, 100, arena());
  EXPECT_EQ(in.ids.dim(0), 0);
  EXPECT_EQ(in.rows.num_rows(), 0);
}

TEST(ModelInput, RefusesAPlanThatContradictsItself) {
  const auto refused = [](auto change) {
    StepPlan plan;
    plan.rows = {row(20, {1, 2})};
    change(plan.rows[0]);
    EXPECT_THROW(build_input(plan, 8, 4, 100, arena()), Error);
  };
  refused([](SeqStep& r) { r.tokens = {}; });
  refused([](SeqStep& r) { r.tokens = {100}; });
  refused([](SeqStep& r) { r.tokens = {-1}; });
  refused([](SeqStep& r) { r.pages.pop_back(); });
  refused([](SeqStep& r) { r.pages[0] = PageId(8); });
  refused([](SeqStep& r) { r.state_read.reset(); });
  refused([](SeqStep& r) { r.state_write = SlotId(4); });
  refused([](SeqStep& r) { r.snapshots = {{.position = 20, .slot = SlotId(0)}}; });
  refused([](SeqStep& r) { r.snapshots = {{.position = 23, .slot = SlotId(0)}}; });
  refused([](SeqStep& r) { r.start = -1; });
  refused([](SeqStep& r) { r.num_drafts = 1; });                         // nothing would verify it
  refused([](SeqStep& r) { r.sample = Sampling{}, r.num_drafts = 2; });  // no token of its own
  refused([](SeqStep& r) { r.want_drafts = 1; });
  refused([](SeqStep& r) { r.next = 100; });
  refused([](SeqStep& r) { r.prompt_next = {-1}; });
  refused([](SeqStep& r) { r.snapshots = {{.position = 22, .slot = r.state_write}}; });
}

TEST(ModelInput, RefusesASlotThatTwoRowsUseAndOneWrites) {
  StepPlan plan;
  plan.rows = {row(20, {1, 2}, 0), row(20, {1, 2}, 1)};
  EXPECT_NO_THROW(build_input(plan, 8, 4, 100, arena()));
  plan.rows[1].state_read = SlotId(3);
  plan.rows[0].state_read = SlotId(3);
  EXPECT_NO_THROW(build_input(plan, 8, 4, 100, arena())) << "two may read one snapshot";
  plan.rows[1].state_read = SlotId(0);
  EXPECT_THROW(build_input(plan, 8, 4, 100, arena()), Error);
  plan.rows[1] = row(20, {1, 2}, 0);
  EXPECT_THROW(build_input(plan, 8, 4, 100, arena()), Error);
}

}  // namespace
}  // namespace weir
