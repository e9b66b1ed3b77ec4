#include "weir/runtime/memory_plan.h"

#include <gtest/gtest.h>

#include "weir/base/error.h"

namespace weir {
namespace {

ModelConfig tiny() { return read_model_config(std::string(WEIR_SOURCE_DIR) + "/models/weir-tiny"); }

MemoryRequest request(int64_t budget) {
  return {.max_num_seqs = 64, .max_num_batched_tokens = 512, .max_model_len = 4096, .threads = 2, .budget = budget};
}

TEST(MemoryPlan, StaysInsideTheBudget) {
  for (const int64_t megabytes : {140, 160, 400, 4000}) {
    const MemoryPlan plan = plan_memory(tiny(), request(megabytes << 20));
    EXPECT_LE(plan.total(), megabytes << 20);
    EXPECT_GE(plan.num_pages * 16, 4096);
    EXPECT_EQ(plan.num_slots, plan.max_num_seqs);
  }
}

TEST(MemoryPlan, TakesNoMorePagesThanSequencesCanFill) {
  const MemoryPlan plan = plan_memory(tiny(), request(int64_t{100} << 30));
  EXPECT_EQ(plan.num_pages, 64 * 4096 / 16);
}

TEST(MemoryPlan, NamesTheLengthThatFits) {
  MemoryRequest r = request(int64_t{1} << 30);
  r.cache_bytes = int64_t{3} << 20;
  r.max_num_seqs = 1;
  r.max_model_len = 32768;
  try {
    plan_memory(tiny(), r);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code, ErrorCode::kResourceExhausted);
    EXPECT_NE(std::string(error.what()).find("--max-model-len 32768 needs"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find(" fits"), std::string::npos) << error.what();
  }
}

TEST(MemoryPlan, LowersTheModelsOwnLengthWithANotice) {
  MemoryRequest r = request(int64_t{1} << 30);
  r.cache_bytes = int64_t{3} << 20;
  r.max_num_seqs = 1;
  r.max_model_len = 0;
  const MemoryPlan plan = plan_memory(tiny(), r);
  EXPECT_LT(plan.max_model_len, 32768);
  EXPECT_NE(plan.notice.find("--max-model-len"), std::string::npos);
}

TEST(MemoryPlan, RefusesWhatCannotFitAtAll) { EXPECT_THROW(plan_memory(tiny(), request(1 << 20)), Error); }

TEST(MemoryPlan, SeesSomeMemoryHere) { EXPECT_GT(available_memory(), int64_t{64} << 20); }

}  // namespace
}  // namespace weir
