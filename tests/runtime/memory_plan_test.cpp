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
    EXPECT_EQ(plan.num_slots, plan.max_num_seqs + plan.num_snapshots);
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

TEST(MemoryPlan, SnapshotsGetAQuarterOfTheRoomOrWhatIsAskedFor) {
  MemoryRequest r = request(int64_t{4000} << 20);
  r.cache_bytes = int64_t{400} << 20;
  r.max_num_seqs = 4;
  MemoryPlan plan = plan_memory(tiny(), r);
  EXPECT_EQ(plan.num_snapshots, 0);
  EXPECT_EQ(plan.num_slots, 4);
  r.num_snapshots = std::nullopt;
  plan = plan_memory(tiny(), r);
  EXPECT_GT(plan.num_snapshots, 4);
  EXPECT_EQ(plan.num_slots, 4 + plan.num_snapshots);
  EXPECT_LE(plan.num_snapshots * plan.slot_bytes, r.cache_bytes / 4);
  EXPECT_LE(plan.pages + plan.slots, r.cache_bytes);
  r.num_snapshots = 10;
  EXPECT_EQ(plan_memory(tiny(), r).num_snapshots, 10);
  EXPECT_NE(plan_memory(tiny(), r).str().find("4 sequences and 10 snapshots"), std::string::npos);
  r.num_snapshots = 1'000'000;
  plan = plan_memory(tiny(), r);
  EXPECT_LE(plan.slots, r.cache_bytes / 4 * 3);
  EXPECT_NE(plan.notice.find("--num-state-snapshots lowered from 1000000"), std::string::npos);
  r.num_snapshots = std::nullopt;
  r.cache_bytes = int64_t{100} << 30;
  r.budget = int64_t{200} << 30;
  EXPECT_EQ(plan_memory(tiny(), r).num_snapshots, 4096);
}

TEST(MemoryPlan, ALengthThatIsAskedForGoesBeforeSnapshotsThatAreNot) {
  MemoryRequest r = request(int64_t{1} << 30);
  r.max_num_seqs = 1;
  r.max_model_len = 32768;
  const MemoryPlan alone = plan_memory(tiny(), r);
  r.cache_bytes = alone.slot_bytes + 32768 / 16 * alone.page_bytes;
  r.num_snapshots = std::nullopt;
  EXPECT_EQ(plan_memory(tiny(), r).num_snapshots, 0);
  r.max_model_len = 0;
  EXPECT_GT(plan_memory(tiny(), r).num_snapshots, 0);
}

TEST(MemoryPlan, CountsTheDraftHead) {
  MemoryRequest r = request(int64_t{4} << 30);
  const MemoryPlan without = plan_memory(tiny(), r);
  r.with_mtp = true;
  const MemoryPlan with = plan_memory(tiny(), r);
  EXPECT_GT(with.weights, without.weights);
  EXPECT_GT(with.activations, without.activations);
  const ModelConfig config = tiny();
  EXPECT_EQ(with.page_bytes - without.page_bytes, 16 * 2 * config.kv_heads * config.head_dim * 2) << "one layer of BF16 keys and values";
  EXPECT_EQ(with.slot_bytes, without.slot_bytes);
}

TEST(MemoryPlan, RefusesWhatCannotFitAtAll) { EXPECT_THROW(plan_memory(tiny(), request(1 << 20)), Error); }

TEST(MemoryPlan, SeesSomeMemoryHere) { EXPECT_GT(available_memory(), int64_t{64} << 20); }

}  // namespace
}  // namespace weir
