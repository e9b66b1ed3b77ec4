// What the scheduler does with guesses. That answers do not change by them is checked by the random cases of scheduler_test.
#include <gtest/gtest.h>

#include <random>

#include "tests/engine/loop.h"
#include "tests/engine/requests.h"
#include "weir/base/error.h"

namespace weir {
namespace {

using testing::expect_answer;
using testing::Loop;
using testing::make_request;
using testing::random_prompt;
using testing::tokens_exactly;

EngineConfig guessing(int32_t num_drafts, int32_t pages = 400, int32_t budget = 512) {
  EngineConfig config;
  config.cache = {.num_pages = pages, .num_slots = 16};
  config.scheduler.max_num_seqs = 8;
  config.scheduler.max_num_batched_tokens = budget;
  config.scheduler.max_model_len = 2000;
  config.speculation = {.num_drafts = num_drafts, .adaptive = false};
  return config;
}

int64_t steps_for(EngineConfig config, int32_t requests, int32_t tokens) {
  Loop loop(std::move(config));
  std::mt19937 rng(4);
  for (int32_t i = 0; i < requests; ++i)
    loop.add(make_request(static_cast<uint64_t>(i), random_prompt(rng, 20 + i), tokens_exactly(tokens)));
  int64_t steps = 0;
  for (; !loop.scheduler.idle(); ++steps) loop.step();
  for (const auto& [id, request] : loop.requests) expect_answer(loop.answers[id], request, loop.config);
  return steps;
}

TEST(Speculation, RightGuessesSaveSteps) {
  const int64_t plain = steps_for(guessing(0), 1, 400);
  EXPECT_EQ(plain, 400);
  EXPECT_LT(steps_for(guessing(1), 1, 400), plain * 2 / 3);
  EXPECT_LT(steps_for(guessing(3), 1, 400), plain / 2);
  EXPECT_LT(steps_for(guessing(3), 5, 400), plain / 2);
}

TEST(Speculation, ARowWithGuessesStaysInItsBlockAndEndsWithItsRequest) {
  Sequence seq;
  SamplingParams params = tokens_exactly(100);
  seq.request = make_request(0, {}, params);
  EngineConfig config = guessing(8);
  const auto at = [&](int32_t prompt, int32_t output, size_t guesses, int32_t most) {
    seq.num_prompt = prompt;
    seq.tokens.assign(static_cast<size_t>(prompt + output), 1);
    seq.num_computed = prompt + output - 1;
    seq.drafts = std::vector<Token>(guesses, 1);
    return drafts_to_verify(seq, most, config);
  };
  EXPECT_EQ(at(10, 5, 8, 8), 8);
  EXPECT_EQ(at(10, 5, 8, 3), 3);
  EXPECT_EQ(at(10, 5, 2, 3), 2);
  EXPECT_EQ(at(60, 1, 8, 8), 3) << "computes tokens 60 to 63";
  EXPECT_EQ(at(63, 1, 8, 8), 0) << "token 63 is the last one of its block";
  EXPECT_EQ(at(64, 1, 8, 8), 8);
  EXPECT_EQ(at(10, 98, 8, 8), 1) << "two tokens are left";
  EXPECT_EQ(at(10, 99, 8, 8), 0);
  config.scheduler.max_model_len = 100;
  EXPECT_EQ(at(90, 8, 8, 8), 1);
}

TEST(Speculation, WhatFollowsAStopTokenIsDropped) {
  // The fake model's answer up to its first 7, which guesses reach in one step with what follows it.
  int cut_short = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Loop loop(guessing(8));
    std::mt19937 rng(static_cast<unsigned>(seed));
    SamplingParams params = tokens_exactly(200);
    params.stop_token_ids = {7};
    params.logprobs = 1;
    const Request request = make_request(0, random_prompt(rng, 30), params);
    loop.add(request);
    loop.run();
    expect_answer(loop.answers[RequestId{0}], request, loop.config);
    const DraftCounters& counted = loop.scheduler.counters().speculation;
    const auto steps_alone = static_cast<int64_t>(loop.answers[RequestId{0}].num_outputs);
    cut_short += counted.accepted_tokens + steps_alone > static_cast<int64_t>(loop.answers[RequestId{0}].tokens.size()) ? 1 : 0;
  }
  EXPECT_GT(cut_short, 3);
}

TEST(Speculation, GuessesTakeAtMostHalfTheBudgetAndNeverAPromptsShare) {
  Loop loop(guessing(8, 400, 16));
  std::mt19937 rng(2);
  for (uint64_t i = 0; i < 6; ++i) loop.add(make_request(i, random_prompt(rng, 40), tokens_exactly(60)));
  bool saw_mixed = false;
  while (!loop.scheduler.idle()) {
    const StepPlan plan = loop.step();
    int32_t guesses = 0;
    bool has_prompt = false;
    for (const SeqStep& row : plan.rows) {
      guesses += row.num_drafts;
      has_prompt |= static_cast<int32_t>(row.tokens.size()) - row.num_drafts > 1;
    }
    EXPECT_LE(guesses, 8);
    saw_mixed |= has_prompt && guesses > 0;
  }
  EXPECT_TRUE(saw_mixed);
  for (const auto& [id, request] : loop.requests) expect_answer(loop.answers[id], request, loop.config);
}

TEST(Speculation, GuessesPreemptNobody) {
  const auto preemptions = [](int32_t num_drafts) {
    Loop loop(guessing(num_drafts, 44));
    std::mt19937 rng(3);
    // 8 sequences of 5 pages each at their longest; with the pages of all of them nothing is short.
    for (uint64_t i = 0; i < 8; ++i) loop.add(make_request(i, random_prompt(rng, 30), tokens_exactly(50)));
    loop.run();
    return loop.scheduler.counters().preemptions;
  };
  EXPECT_EQ(preemptions(0), 0);
  EXPECT_EQ(preemptions(8), 0);
}

TEST(Speculation, CountsByPosition) {
  Loop loop(guessing(3));
  std::mt19937 rng(5);
  loop.add(make_request(0, random_prompt(rng, 20), tokens_exactly(500)));
  loop.run();
  const DraftCounters& counted = loop.scheduler.counters().speculation;
  EXPECT_GT(counted.drafts, 100);
  EXPECT_GT(counted.draft_tokens, 2 * counted.drafts);
  EXPECT_EQ(counted.accepted_at[0] + counted.accepted_at[1] + counted.accepted_at[2], counted.accepted_tokens);
  EXPECT_EQ(counted.accepted_at[3], 0);
  EXPECT_GE(counted.accepted_at[0], counted.accepted_at[1]);
  EXPECT_NEAR(static_cast<double>(counted.accepted_at[0]) / static_cast<double>(counted.drafts), 0.75, 0.1) << "the fake head's rate";
}

TEST(Speculation, AnAnswerThatKeepsOtherGuessesIsRefused) {
  Loop loop(guessing(3));
  loop.add(make_request(0, {1, 2, 3}, tokens_exactly(50)));
  StepPlan plan = loop.step();
  while (plan.rows[0].num_drafts < 2) plan = loop.step();
  const auto answer = [&](std::vector<Token> tokens, std::vector<Token> drafts) {
    StepResult result{plan.id, {}};
    result.rows.push_back({.seq = plan.rows[0].seq, .tokens = std::move(tokens), .drafts = std::move(drafts)});
    return result;
  };
  const std::vector<Token> guesses(plan.rows[0].tokens.end() - plan.rows[0].num_drafts, plan.rows[0].tokens.end());
  EXPECT_NO_THROW(check_result(plan, answer({guesses[0], guesses[1]}, {4, 5, 6})));
  EXPECT_THROW(check_result(plan, answer({guesses[0] + 1, guesses[1]}, {})), Error);
  EXPECT_THROW(check_result(plan, answer({}, {})), Error);
  EXPECT_THROW(check_result(plan, answer({guesses[0]}, {1, 2, 3, 4})), Error);
}

TEST(Speculation, MoreGuessesThanSlotsAllowAreRefused) {
  CacheManager cache({.num_pages = 10, .num_slots = 2});
  EXPECT_THROW(Scheduler(guessing(9), cache), Error);
}

}  // namespace
}  // namespace weir
