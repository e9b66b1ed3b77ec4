#include "weir/engine/policy.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/engine/requests.h"
#include "weir/base/error.h"
#include "weir/engine/activity_log.h"

namespace weir {
namespace {

using namespace std::chrono_literals;
using testing::make_request;
using testing::tokens_exactly;

Sequence sequence(uint64_t id, int32_t priority, int32_t num_tokens, int32_t num_computed) {
  Sequence seq;
  seq.id = SeqId{id};
  seq.request.priority = priority;
  seq.tokens.resize(static_cast<size_t>(num_tokens));
  seq.num_prompt = num_tokens;
  seq.num_computed = num_computed;
  return seq;
}

EngineConfig config_of(int32_t pages, int32_t max_model_len) {
  EngineConfig config;
  config.cache = {.num_pages = pages, .num_slots = 8};
  config.scheduler.max_model_len = max_model_len;
  config.eos_token_ids = {1, 2};
  return config;
}

std::string refusal(const Request& request, const EngineConfig& config) {
  try {
    check_request(request, config);
  } catch (const Error& e) {
    EXPECT_EQ(e.code, ErrorCode::kInvalidArgument);
    return e.what();
  }
  return "";
}

TEST(RunsBefore, PriorityDecidesThenArrival) {
  const Sequence urgent_late = sequence(9, -1, 1, 0), early = sequence(1, 0, 1, 0), late = sequence(2, 0, 1, 0);
  const RunsBefore before;
  EXPECT_TRUE(before(&urgent_late, &early));
  EXPECT_TRUE(before(&early, &late));
  EXPECT_FALSE(before(&late, &early));
  EXPECT_FALSE(before(&early, &early));
}

TEST(ChunkTokens, GivesAllThatIsWantedWhenTheBudgetAllows) {
  const SchedulerConfig config;
  EXPECT_EQ(chunk_tokens(sequence(0, 0, 100, 0), 100, false, config), 100);
  EXPECT_EQ(chunk_tokens(sequence(0, 0, 100, 99), 1, false, config), 1);
}

TEST(ChunkTokens, AnUnfinishedChunkEndsAtAWholeBlock) {
  const SchedulerConfig config;
  EXPECT_EQ(chunk_tokens(sequence(0, 0, 1000, 0), 200, true, config), 192);
  EXPECT_EQ(chunk_tokens(sequence(0, 0, 1000, 192), 64, true, config), 64);
  EXPECT_EQ(chunk_tokens(sequence(0, 0, 1000, 70), 64, true, config), 58) << "back to whole blocks";
}

TEST(ChunkTokens, OnlyOneThatMaySplitABlockTakesLess) {
  const SchedulerConfig config;
  EXPECT_EQ(chunk_tokens(sequence(0, 0, 1000, 0), 63, false, config), 0);
  EXPECT_EQ(chunk_tokens(sequence(0, 0, 1000, 0), 63, true, config), 63);
  EXPECT_EQ(chunk_tokens(sequence(0, 0, 1000, 0), 0, true, config), 0);
}

TEST(ChunkTokens, TheThresholdBoundsAChunkButNeverBelowABlock) {
  SchedulerConfig config;
  config.long_prefill_token_threshold = 200;
  EXPECT_EQ(chunk_tokens(sequence(0, 0, 1000, 0), 2048, true, config), 192);
  EXPECT_EQ(chunk_tokens(sequence(0, 0, 150, 0), 2048, true, config), 150);
  config.long_prefill_token_threshold = 10;
  EXPECT_EQ(chunk_tokens(sequence(0, 0, 1000, 0), 2048, false, config), 64);
}

TEST(PagesToAdmit, LeavesOnePageForEachRunningSequence) {
  EXPECT_EQ(pages_to_admit(sequence(0, 0, 32, 0), 0), 2) << "alone it needs no reserve";
  EXPECT_EQ(pages_to_admit(sequence(0, 0, 32, 0), 5), 3 + 5);
}

TEST(MostRunning, IsBoundedBySeqsSlotsAndBudget) {
  EngineConfig config = config_of(10, 100);
  EXPECT_EQ(most_running(config), 8);
  config.scheduler.max_num_batched_tokens = 5;
  EXPECT_EQ(most_running(config), 5);
  config.scheduler.max_num_seqs = 3;
  EXPECT_EQ(most_running(config), 3);
}

TEST(FinishAfterToken, EitherEosOrAStopTokenEndsAndIsNamed) {
  const EngineConfig config = config_of(10, 100);
  Sequence seq = sequence(0, 0, 5, 0);
  SamplingParams params;
  params.stop_token_ids = {7};
  seq.request = make_request(0, {}, params);
  for (const Token stop : {1, 2, 7}) {
    seq.tokens.push_back(stop);
    const auto finish = finish_after_token(seq, config);
    ASSERT_TRUE(finish);
    EXPECT_EQ(finish->reason, FinishReason::kStop);
    EXPECT_EQ(finish->stop_token, stop);
    seq.tokens.pop_back();
  }
  seq.tokens.push_back(3);
  EXPECT_FALSE(finish_after_token(seq, config));
}

TEST(FinishAfterToken, IgnoreEosKeepsTheRequestsOwnStopTokens) {
  const EngineConfig config = config_of(10, 100);
  Sequence seq = sequence(0, 0, 5, 0);
  SamplingParams params;
  params.ignore_eos = true;
  params.stop_token_ids = {2};
  seq.request = make_request(0, {}, params);
  seq.tokens.push_back(1);
  EXPECT_FALSE(finish_after_token(seq, config));
  seq.tokens.back() = 2;
  EXPECT_TRUE(finish_after_token(seq, config));
}

TEST(FinishAfterToken, NothingStopsBeforeMinTokens) {
  const EngineConfig config = config_of(10, 100);
  Sequence seq = sequence(0, 0, 5, 0);
  SamplingParams params;
  params.min_tokens = 2;
  seq.request = make_request(0, {}, params);
  seq.tokens.push_back(1);
  EXPECT_FALSE(finish_after_token(seq, config));
  seq.tokens.push_back(1);
  EXPECT_TRUE(finish_after_token(seq, config));
}

TEST(FinishAfterToken, LengthIsMaxTokensOrTheContext) {
  const EngineConfig config = config_of(10, 8);
  Sequence seq = sequence(0, 0, 5, 0);
  seq.request = make_request(0, {}, tokens_exactly(2));
  seq.tokens.push_back(9);
  EXPECT_FALSE(finish_after_token(seq, config));
  seq.tokens.push_back(9);
  EXPECT_EQ(finish_after_token(seq, config)->reason, FinishReason::kLength);
  seq.request = make_request(0, {}, tokens_exactly(50));
  EXPECT_FALSE(finish_after_token(seq, config));
  seq.tokens.push_back(9);
  EXPECT_EQ(finish_after_token(seq, config)->reason, FinishReason::kLength) << "8 tokens fill the context";
}

TEST(CheckRequest, APromptLongerThanTheContextIsRefusedWithBothLengths) {
  const EngineConfig config = config_of(100, 64);
  const auto with_prompt = [](size_t length) { return make_request(0, std::vector<Token>(length), tokens_exactly(5)); };
  EXPECT_EQ(refusal(with_prompt(63), config), "");
  const std::string message = refusal(with_prompt(64), config);
  EXPECT_NE(message.find("64 tokens"), std::string::npos) << message;
  EXPECT_NE(message.find("--max-model-len"), std::string::npos) << message;
  Request prompt_only = with_prompt(64);
  prompt_only.prompt_only = true;
  EXPECT_EQ(refusal(prompt_only, config), "") << "it needs no room for an output token";
  prompt_only.prompt.push_back(0);
  EXPECT_NE(refusal(prompt_only, config), "");
}

TEST(CheckRequest, ARequestThatCannotFitThePagesIsRefusedWithBothCounts) {
  const EngineConfig config = config_of(4, 1000);
  EXPECT_EQ(refusal(make_request(0, std::vector<Token>(60), tokens_exactly(5)), config), "") << "64 computed tokens, 4 pages";
  const std::string message = refusal(make_request(0, std::vector<Token>(60), tokens_exactly(6)), config);
  EXPECT_NE(message.find("5 cache pages"), std::string::npos) << message;
  EXPECT_NE(message.find("the cache has 4"), std::string::npos) << message;
  EXPECT_NE(refusal(make_request(0, {1}, tokens_exactly(INT32_MAX)), config), "");
  EXPECT_EQ(refusal(make_request(0, {1}, tokens_exactly(INT32_MAX)), config_of(63, 1000)), "") << "the context bounds max_tokens";
}

TEST(CheckRequest, AnEmptyPromptAndMissingParametersAreRefused) {
  const EngineConfig config = config_of(4, 100);
  EXPECT_NE(refusal(make_request(0, {}, tokens_exactly(1)), config), "");
  EXPECT_NE(refusal(make_request(0, {1}, tokens_exactly(0)), config), "");
  Request bare;
  bare.prompt = {1};
  EXPECT_NE(refusal(bare, config), "");
}

TEST(CheckConfig, NamesTheFlagAndTheValue) {
  const auto message = [](auto change) -> std::string {
    EngineConfig config = config_of(4, 100);
    change(config.scheduler);
    try {
      check_config(config);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(message([](SchedulerConfig&) {}), "");
  EXPECT_EQ(message([](SchedulerConfig& c) { c.max_num_seqs = 0; }), "--max-num-seqs must be at least 1, got 0");
  EXPECT_EQ(message([](SchedulerConfig& c) { c.max_num_batched_tokens = -5; }), "--max-num-batched-tokens must be at least 1, got -5");
  EXPECT_EQ(message([](SchedulerConfig& c) { c.max_model_len = 0; }), "--max-model-len must be at least 1, got 0");
}

TEST(ActivityLog, SaysOneLinePerIntervalWithAveragesSinceTheLast) {
  const ActivityLog::Time t0{};
  ActivityLog log(t0);
  EngineStatus status;
  status.pages_total = 200, status.slots_total = 8;
  EXPECT_EQ(log.line(t0 + 30s, status), std::nullopt) << "nothing ran";
  EXPECT_EQ(log.due_in(t0 + 30s, status), std::nullopt);

  log.resume(t0 + 30s, status);
  status.steps = 4, status.prompt_tokens = 1000, status.generation_tokens = 55;
  status.num_running = 2, status.num_waiting = 1, status.pages_used = 3, status.slots_used = 2;
  EXPECT_EQ(log.line(t0 + 39s, status), std::nullopt);
  EXPECT_EQ(log.due_in(t0 + 39s, status), 1s);
  EXPECT_EQ(log.line(t0 + 40s, status),
            "Engine 000: Avg prompt throughput: 100.0 tokens/s, Avg generation throughput: 5.5 tokens/s, Running: 2 reqs, "
            "Waiting: 1 reqs, KV cache usage: 1.5%, State slots: 2/8");
  EXPECT_EQ(log.line(t0 + 60s, status), std::nullopt) << "all has been told";

  log.resume(t0 + 100s, status);
  status.steps = 5, status.generation_tokens = 75, status.prefix_queries = 40, status.prefix_hits = 30;
  log.resume(t0 + 105s, status);  // in the middle of a burst: not a new beginning
  const auto line = log.line(t0 + 110s, status);
  ASSERT_TRUE(line);
  EXPECT_NE(line->find("generation throughput: 2.0 tokens/s"), std::string::npos) << *line;
  EXPECT_NE(line->find(", Prefix cache hit rate: 75.0%"), std::string::npos) << *line;

  status.steps = 6, status.speculation = {.drafts = 8, .draft_tokens = 24, .accepted_tokens = 18, .accepted_at = {8, 6, 4}};
  const auto drafting = log.line(t0 + 120s, status);
  ASSERT_TRUE(drafting);
  EXPECT_NE(drafting->find(", Mean acceptance length: 3.25, Avg Draft acceptance rate: 75.0%"), std::string::npos) << *drafting;
}

}  // namespace
}  // namespace weir
