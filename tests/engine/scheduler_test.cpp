#include "weir/engine/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "tests/engine/loop.h"
#include "tests/engine/random_cases.h"
#include "tests/engine/requests.h"
#include "weir/base/error.h"

namespace weir {
namespace {

using testing::Answer;
using testing::expect_answer;
using testing::Loop;
using testing::make_request;
using testing::random_prompt;
using testing::random_request;
using testing::run_scheduler_case;
using testing::tokens_exactly;

EngineConfig config_of(int32_t pages, int32_t seqs, int32_t budget) {
  EngineConfig config;
  config.cache = {.num_pages = pages, .num_slots = seqs};
  config.scheduler.max_num_seqs = seqs;
  config.scheduler.max_num_batched_tokens = budget;
  config.scheduler.max_model_len = 400;
  config.eos_token_ids = {3, 4};
  return config;
}

std::vector<SeqId> seqs_of(const StepPlan& plan) {
  std::vector<SeqId> seqs;
  for (const SeqStep& row : plan.rows) seqs.push_back(row.seq);
  return seqs;
}

TEST(Scheduler, AnswersAreTheSameWhateverTheChunkingBatchSizeAndPageShortage) {
  std::mt19937 rng(11);
  std::vector<Request> requests;
  for (uint64_t id = 0; id < 17; ++id) requests.push_back(random_request(rng, id, 150, 250));
  int64_t preemptions = 0;
  for (const int32_t budget : {1, 7, 63, 64, 100, 128, 2048}) {
    for (const int32_t seqs : {1, 3, 17}) {
      for (const int32_t pages : {25, 40, 1000}) {
        SCOPED_TRACE(::testing::Message() << "budget " << budget << ", seqs " << seqs << ", pages " << pages);
        Loop loop(config_of(pages, seqs, budget));
        for (const Request& request : requests) loop.add(request);
        loop.run();
        for (const Request& request : requests) expect_answer(loop.answers[request.id], request, loop.config);
        preemptions += loop.scheduler.counters().preemptions;
      }
    }
  }
  EXPECT_GT(preemptions, 20) << "the small pools must be small enough to matter";
}

TEST(Scheduler, RandomArrivalsAbortsFailuresAndPrioritiesInTinyPools) {
  int64_t preemptions = 0, prefix_hits = 0, tier_hits = 0, accepted_drafts = 0;
  for (uint32_t seed = 0; seed < 300; ++seed) {
    const testing::CaseCounts counts = run_scheduler_case(seed);
    preemptions += counts.preemptions, prefix_hits += counts.prefix_hits, tier_hits += counts.tier_hits,
        accepted_drafts += counts.accepted_drafts;
  }
  EXPECT_GT(preemptions, 200);
  EXPECT_GT(prefix_hits, 10'000);
  EXPECT_GT(tier_hits, 1000);
  EXPECT_GT(accepted_drafts, 10'000);
}

TEST(Scheduler, TheOldestRequestIsInEveryPlanHoweverShortThePages) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    // Each of them alone nearly fills the pool, so that somebody is preempted all the time.
    Loop loop(config_of(10, 6, 20 + static_cast<int32_t>(rng() % 100)));
    int64_t work = 0;
    for (uint64_t id = 0; id < 8; ++id) {
      const auto prompt = 1 + static_cast<int32_t>(rng() % 40);
      loop.add(make_request(id, random_prompt(rng, prompt), tokens_exactly(120)));
      work += prompt + 120;
    }
    int64_t steps = 0;
    for (uint64_t oldest = 0; oldest < 8; ++steps) {
      const auto seqs = seqs_of(loop.step());
      ASSERT_NE(std::find(seqs.begin(), seqs.end(), SeqId{oldest}), seqs.end()) << "step " << steps;
      while (oldest < 8 && loop.finished(oldest)) ++oldest;
      ASSERT_LE(steps, work) << "every step brings the oldest forward, so this bounds them";
    }
    EXPECT_GT(loop.scheduler.counters().preemptions, 0);
    for (const auto& [id, request] : loop.requests) expect_answer(loop.answers[id], request, loop.config);
  }
}

TEST(Scheduler, StreamsAreServedBeforePromptChunks) {
  std::mt19937 rng(1);
  Loop loop(config_of(100, 4, 128));
  loop.add(make_request(0, random_prompt(rng, 300), tokens_exactly(1)));
  loop.step();
  loop.add(make_request(1, random_prompt(rng, 10), tokens_exactly(20)));  // admitted beside the long prompt of request 0
  loop.add(make_request(2, random_prompt(rng, 10), tokens_exactly(20)));
  while (!loop.finished(0)) loop.step();
  loop.add(make_request(3, random_prompt(rng, 300), tokens_exactly(1)));
  for (int step = 0; step < 3; ++step) {
    const StepPlan plan = loop.step();
    ASSERT_EQ(seqs_of(plan), (std::vector{SeqId{1}, SeqId{2}, SeqId{3}}));
    EXPECT_EQ(plan.rows[0].tokens.size(), 1u);
    EXPECT_EQ(plan.rows[1].tokens.size(), 1u);
    EXPECT_EQ(plan.rows[2].start + plan.rows[2].tokens.size(), std::vector<size_t>({64, 128, 192})[static_cast<size_t>(step)]);
  }
}

TEST(Scheduler, OnlyTheFirstPromptOfAStepEndsInsideABlock) {
  std::mt19937 rng(1);
  Loop loop(config_of(100, 8, 100));
  for (uint64_t id = 0; id < 3; ++id) loop.add(make_request(id, random_prompt(rng, 150), tokens_exactly(1)));
  EXPECT_EQ(loop.step().rows.size(), 1u) << "64 of 100; the 36 left hold no block of the next one";
  const StepPlan plan = loop.step();
  ASSERT_EQ(plan.rows.size(), 1u);
  EXPECT_EQ(plan.rows[0].tokens.size(), 86u);
  EXPECT_EQ(loop.step().rows[0].seq, SeqId{1});

  Loop small(config_of(100, 8, 10));
  small.add(make_request(0, random_prompt(rng, 100), tokens_exactly(1)));
  EXPECT_EQ(small.step().rows[0].tokens.size(), 10u) << "a budget below a block still gets on";
}

TEST(Scheduler, APromptGetsOnBesideAsManyStreamsAsCanRun) {
  std::mt19937 rng(1);
  Loop loop(config_of(200, 64, 64));
  for (uint64_t id = 0; id < 63; ++id) loop.add(make_request(id, {static_cast<Token>(id % 50)}, tokens_exactly(100)));
  loop.step();
  loop.add(make_request(63, random_prompt(rng, 30), tokens_exactly(1)));
  for (int step = 0; step < 30; ++step) EXPECT_EQ(loop.step().rows.size(), 64u);
  EXPECT_TRUE(loop.finished(63));
}

TEST(Scheduler, OnAShortageTheNewestGivesWayAndIsRecomputedWithWhatItHadGenerated) {
  Loop loop(config_of(5, 2, 100));
  loop.add(make_request(0, std::vector<Token>(31, 5), tokens_exactly(30)));
  loop.step();
  loop.add(make_request(1, std::vector<Token>(15, 6), tokens_exactly(40)));
  StepPlan plan;
  while (loop.scheduler.counters().preemptions == 0) plan = loop.step();
  EXPECT_EQ(seqs_of(plan), std::vector{SeqId{0}}) << "the newer one is out";
  EXPECT_EQ(loop.scheduler.num_waiting(), 1);
  const auto had = loop.answers[RequestId{1}].tokens;
  EXPECT_GT(had.size(), 0u);

  while (!loop.finished(0)) EXPECT_EQ(seqs_of(loop.step()), std::vector{SeqId{0}}) << "and not let in to be thrown out again";
  plan = loop.step();
  ASSERT_EQ(seqs_of(plan), std::vector{SeqId{1}});
  EXPECT_EQ(plan.rows[0].start + plan.rows[0].tokens.size(), 15 + had.size());
  loop.run();
  for (const auto& [id, request] : loop.requests) expect_answer(loop.answers[id], request, loop.config);
  EXPECT_EQ(loop.scheduler.counters().preemptions, 1);
}

TEST(Scheduler, AnUrgentRequestIsAdmittedFirstAndPreemptedLast) {
  Loop loop(config_of(100, 1, 100));
  for (uint64_t id = 0; id < 3; ++id) {
    Request request = make_request(id, {1, 2}, tokens_exactly(2));
    request.priority = id == 2 ? -1 : 0;
    loop.add(request);
  }
  EXPECT_EQ(seqs_of(loop.step()), std::vector{SeqId{2}});

  Loop tight(config_of(5, 2, 100));
  Request urgent = make_request(1, std::vector<Token>(31, 5), tokens_exactly(30));
  urgent.priority = -1;
  tight.add(make_request(0, std::vector<Token>(15, 6), tokens_exactly(40)));
  tight.step();
  tight.add(urgent);
  tight.step();
  ASSERT_EQ(tight.scheduler.num_running(), 2);
  while (tight.scheduler.counters().preemptions == 0) tight.step();
  EXPECT_EQ(seqs_of(tight.step()), std::vector{SeqId{1}}) << "the older, less urgent one gave way";
  tight.run();
  for (const auto& [id, request] : tight.requests) expect_answer(tight.answers[id], request, tight.config);
}

TEST(Scheduler, AbortFreesPagesAndSlotAtOnceWhetherRunningOrWaiting) {
  Loop loop(config_of(100, 1, 100));
  loop.add(make_request(0, std::vector<Token>(20, 1), tokens_exactly(50)));
  loop.add(make_request(1, std::vector<Token>(20, 1), tokens_exactly(50)));
  loop.step();
  loop.abort(1);
  EXPECT_EQ(loop.answers[RequestId{1}].finish->reason, FinishReason::kAbort);
  EXPECT_EQ(loop.answers[RequestId{1}].usage.prompt_tokens, 20);
  loop.abort(0);
  EXPECT_EQ(loop.answers[RequestId{0}].finish->reason, FinishReason::kAbort);
  EXPECT_EQ(loop.answers[RequestId{0}].usage.completion_tokens, 1);
  EXPECT_TRUE(loop.scheduler.idle());
  EXPECT_EQ(loop.cache.pages_used() + loop.cache.slots_used(), 0);
  EXPECT_EQ(loop.scheduler.apply(Abort{RequestId{0}}), std::nullopt) << "finished ids are ignored";
  EXPECT_TRUE(loop.scheduler.plan().rows.empty());
}

TEST(Scheduler, APromptOnlyRequestEndsWithItsPromptLogprobsAndNoToken) {
  std::mt19937 rng(5);
  Loop loop(config_of(100, 4, 64));
  SamplingParams params = tokens_exactly(16);
  params.prompt_logprobs = 2;
  Request request = make_request(0, random_prompt(rng, 150), params);
  request.prompt_only = true;
  loop.add(request);
  loop.run();
  const Answer& answer = loop.answers[RequestId{0}];
  EXPECT_EQ(answer.num_outputs, 1);
  EXPECT_EQ(answer.finish->reason, FinishReason::kLength);
  EXPECT_TRUE(answer.tokens.empty());
  EXPECT_EQ(answer.prompt_logprobs.size(), 149u);
  expect_answer(answer, request, loop.config);
}

TEST(Scheduler, PromptLogprobsAreAskedForOnceEvenAfterAPreemption) {
  Loop loop(config_of(5, 2, 100));
  loop.add(make_request(0, std::vector<Token>(31, 5), tokens_exactly(30)));
  loop.step();
  SamplingParams params = tokens_exactly(40);
  params.prompt_logprobs = 0;
  loop.add(make_request(1, std::vector<Token>(15, 6), params));
  int asked = 0;
  while (!loop.scheduler.idle())
    for (const SeqStep& row : loop.step().rows) asked += row.prompt_logprobs.has_value();
  EXPECT_EQ(loop.scheduler.counters().preemptions, 1);
  EXPECT_EQ(asked, 1);
  expect_answer(loop.answers[RequestId{1}], loop.requests[RequestId{1}], loop.config);
}

TEST(Scheduler, ARowErrorEndsThatRequestAlone) {
  Loop loop(config_of(100, 4, 100));
  for (uint64_t id = 0; id < 3; ++id) loop.add(make_request(id, {1, 2, static_cast<Token>(id)}, tokens_exactly(5)));
  loop.executor.row_error = [](const SeqStep& row) { return row.seq == SeqId{1} && row.start > 0 ? "no finite logit" : ""; };
  loop.run();
  const Answer& failed = loop.answers[RequestId{1}];
  EXPECT_EQ(failed.finish->reason, FinishReason::kError);
  EXPECT_EQ(failed.finish->error, "no finite logit");
  EXPECT_EQ(failed.tokens.size(), 1u);
  for (const uint64_t id : {0, 2}) expect_answer(loop.answers[RequestId{id}], loop.requests[RequestId{id}], loop.config);
}

TEST(Scheduler, AFailedStepEndsItsRowsAndNobodyElse) {
  Loop loop(config_of(100, 2, 100));
  for (uint64_t id = 0; id < 3; ++id) loop.add(make_request(id, {1, 2, static_cast<Token>(id)}, tokens_exactly(5)));
  const StepPlan plan = loop.scheduler.plan();
  loop.take(loop.scheduler.fail_rows(plan, "the node burns"));
  loop.check();
  for (const uint64_t id : {0, 1}) EXPECT_EQ(loop.answers[RequestId{id}].finish->error, "the node burns");
  loop.run();
  expect_answer(loop.answers[RequestId{2}], loop.requests[RequestId{2}], loop.config);
}

TEST(Scheduler, FinishAllAnswersTheRunningAndTheWaiting) {
  Loop loop(config_of(100, 2, 100));
  for (uint64_t id = 0; id < 5; ++id) loop.add(make_request(id, {1, 2}, tokens_exactly(5)));
  loop.step();
  loop.take(loop.scheduler.finish_all({FinishReason::kAbort, std::nullopt, {}}));
  for (const auto& [id, answer] : loop.answers) EXPECT_EQ(answer.finish->reason, FinishReason::kAbort) << index(id);
  loop.check();
  EXPECT_TRUE(loop.scheduler.idle());
}

TEST(Scheduler, DrawsADifferentSeedForEachRequestAndTheSameOnesForTheSameEngineSeed) {
  const auto seeds = [](uint64_t engine_seed) {
    EngineConfig config = config_of(100, 8, 100);
    config.seed = engine_seed;
    Loop loop(config);
    for (uint64_t id = 0; id < 4; ++id) loop.add(make_request(id, {1}, SamplingParams{}));
    SamplingParams seeded;
    seeded.seed = 42;
    loop.add(make_request(4, {1}, seeded));
    std::vector<uint64_t> out;
    for (const SeqStep& row : loop.scheduler.plan().rows) out.push_back(row.sample->seed);
    return out;
  };
  const auto first = seeds(0);
  EXPECT_EQ(std::set<uint64_t>(first.begin(), first.end()).size(), 5u);
  EXPECT_EQ(first[4], 42u);
  EXPECT_EQ(seeds(0), first);
  EXPECT_NE(seeds(1), first);
}

TEST(Scheduler, CountsWhatItComputes) {
  Loop loop(config_of(100, 8, 64));
  loop.add(make_request(0, std::vector<Token>(100, 1), tokens_exactly(7)));
  loop.run();
  EXPECT_EQ(loop.scheduler.counters().prompt_tokens, 100);
  EXPECT_EQ(loop.scheduler.counters().generation_tokens, 7);
}

TEST(CheckResult, RefusesAnAnswerThatDoesNotFitThePlan) {
  Loop loop(config_of(100, 8, 64));
  SamplingParams params = tokens_exactly(7);
  params.logprobs = 1;
  params.prompt_logprobs = 1;
  loop.add(make_request(0, {1, 2, 3}, params));
  const StepPlan plan = loop.scheduler.plan();
  const StepResult good = loop.executor.run(plan);
  EXPECT_NO_THROW(check_result(plan, good));
  const auto refused = [&](auto change) {
    StepResult bad = good;
    change(bad);
    EXPECT_THROW(check_result(plan, bad), Error);
  };
  refused([](StepResult& r) { r.id = StepId{77}; });
  refused([](StepResult& r) { r.rows.clear(); });
  refused([](StepResult& r) { r.rows[0].seq = SeqId{77}; });
  refused([](StepResult& r) { r.rows[0].tokens.clear(); });
  refused([](StepResult& r) { r.rows[0].tokens.push_back(1); });
  refused([](StepResult& r) { r.rows[0].logprobs.clear(); });
  refused([](StepResult& r) { r.rows[0].prompt_logprobs.clear(); });
}

}  // namespace
}  // namespace weir
