#include "weir/engine/engine.h"

#include <gtest/gtest.h>

#include <future>
#include <latch>
#include <stdexcept>
#include <string>
#include <thread>

#include "tests/engine/collector.h"
#include "tests/engine/random_cases.h"
#include "weir/base/error.h"

namespace weir {
namespace {

using testing::Answer;
using testing::Collector;
using testing::expect_answer;
using testing::FakeExecutor;
using testing::make_request;
using testing::tokens_exactly;

EngineConfig config_of(int32_t pages, int32_t seqs) {
  EngineConfig config;
  config.cache = {.num_pages = pages, .num_slots = seqs};
  config.scheduler.max_num_seqs = seqs;
  config.scheduler.max_num_batched_tokens = 128;
  config.scheduler.max_model_len = 400;
  config.eos_token_ids = {3, 4};
  return config;
}

std::unique_ptr<FakeExecutor> fake(const EngineConfig& config, std::function<void(const StepPlan&)> before_step = {}) {
  auto executor = std::make_unique<FakeExecutor>(config);
  executor->before_step = std::move(before_step);
  return executor;
}

template <class Call>
std::optional<ErrorCode> error_of(Call call) {
  try {
    call();
  } catch (const Error& e) {
    return e.code;
  }
  return std::nullopt;
}

TEST(Engine, AnswersARequestTokenByTokenAndIsEmptyAfterwards) {
  const EngineConfig config = config_of(100, 4);
  Collector collector;
  Engine engine(config, fake(config));
  const Request request = make_request(1, {5, 6, 7}, tokens_exactly(9));
  engine.submit(request, collector.listener());
  collector.wait_for_finished(1);
  expect_answer(collector.answer(request.id), request, config);
  EXPECT_EQ(collector.answer(request.id).num_outputs, 9);
  const EngineStatus status = engine.status();
  EXPECT_EQ(status.num_running + status.num_waiting + status.pages_used + status.slots_used, 0);
  EXPECT_EQ(status.steps, 9);
  EXPECT_EQ(status.prompt_tokens, 3);
  EXPECT_EQ(status.generation_tokens, 9);
  EXPECT_EQ(status.pages_total, 100);
  EXPECT_GT(status.run_seconds, 0);
  EXPECT_GT(status.host_seconds, 0);
}

TEST(Engine, RanksPrepareWhileNothingRunsAndARequestDoesNotWaitUntilTheyAreReady) {
  const EngineConfig config = config_of(100, 4);
  std::string done;  // in this order, by the engine's thread
  {
    std::promise<void> prepared;
    auto executor = fake(config, [&](const StepPlan&) { done += 's'; });
    executor->prepares = [&] {
      if (done.empty()) prepared.set_value();
      done += 'p';
      return true;  // there is always more
    };
    Collector collector;
    Engine engine(config, std::move(executor));
    prepared.get_future().wait();
    engine.submit(make_request(1, {5, 6, 7}, tokens_exactly(9)), collector.listener());
    collector.wait_for_finished(1);
  }
  const size_t first = done.find('s');
  EXPECT_EQ(done.substr(first, 9), "sssssssss") << "not between the steps of a request";
  EXPECT_EQ(done.find('s', first + 9), std::string::npos);
}

TEST(Engine, RefusesWhatCanNeverRunOnTheCallersThread) {
  const EngineConfig config = config_of(10, 4);
  Engine engine(config, fake(config));
  const auto submit = [&](Request request) {
    return error_of([&] { engine.submit(std::move(request), [](RequestOutput) { FAIL() << "it was refused"; }); });
  };
  EXPECT_EQ(submit(make_request(0, std::vector<Token>(400), tokens_exactly(1))), ErrorCode::kInvalidArgument);
  EXPECT_EQ(submit(make_request(0, std::vector<Token>(100), tokens_exactly(100))), ErrorCode::kInvalidArgument);
  EXPECT_EQ(engine.status().num_waiting, 0);
}

TEST(Engine, SettingsNothingCouldRunWithAreRefused) {
  EngineConfig config = config_of(10, 4);
  config.scheduler.max_model_len = 0;
  EXPECT_EQ(error_of([&] { Engine(config, fake(config)); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error_of([&] { Engine(config_of(0, 4), fake(config)); }), ErrorCode::kInvalidArgument);
}

TEST(Engine, TheQueueIsBoundedAndAnIdIsInUseUntilItsLastOutput) {
  EngineConfig config = config_of(100, 2);
  config.scheduler.max_waiting = 3;
  std::promise<void> open;
  const std::shared_future<void> gate = open.get_future().share();
  Collector collector;
  Engine engine(config, fake(config, [gate](const StepPlan&) { gate.wait(); }));
  for (uint64_t id = 0; id < 5; ++id) engine.submit(make_request(id, {1, 2}, tokens_exactly(3)), collector.listener());
  const auto submit = [&](uint64_t id) {
    return error_of([&] { engine.submit(make_request(id, {1, 2}, tokens_exactly(3)), collector.listener()); });
  };
  EXPECT_EQ(submit(5), ErrorCode::kResourceExhausted);
  const EngineStatus status = engine.status();
  EXPECT_EQ(status.num_running + status.num_waiting, 5);
  open.set_value();
  collector.wait_for_finished(5);
  EXPECT_EQ(submit(5), std::nullopt);
  collector.wait_for_finished(6);

  std::promise<void> reopen;
  const std::shared_future<void> second_gate = reopen.get_future().share();
  Engine other(config, fake(config, [second_gate](const StepPlan&) { second_gate.wait(); }));
  other.submit(make_request(9, {1}, tokens_exactly(1)), collector.listener());
  EXPECT_EQ(error_of([&] { other.submit(make_request(9, {1}, tokens_exactly(1)), collector.listener()); }), ErrorCode::kInvalidArgument);
  reopen.set_value();
  collector.wait_for_finished(7);
}

TEST(Engine, AbortEndsARunningAndAWaitingRequestWithinAStep) {
  const EngineConfig config = config_of(100, 1);
  std::latch both_submitted(1), asked(1);
  Collector collector;
  Engine engine(config, fake(config, [&](const StepPlan& plan) {
                  both_submitted.wait();
                  if (index(plan.id) == 1) asked.wait();
                }));
  engine.submit(make_request(0, {1, 2}, tokens_exactly(398)), collector.listener([&](const Answer& answer) {
    if (answer.num_outputs > 1) return;
    for (const uint64_t id : {1, 0, 77}) engine.abort(RequestId{id});
    asked.count_down();
  }));
  engine.submit(make_request(1, {1, 2}, tokens_exactly(398)), collector.listener());
  both_submitted.count_down();
  collector.wait_for_finished(2);
  EXPECT_EQ(collector.answer(RequestId{0}).finish->reason, FinishReason::kAbort);
  EXPECT_LE(collector.answer(RequestId{0}).tokens.size(), 2u) << "asked for at its first token, perhaps while the second was computed";
  EXPECT_EQ(collector.answer(RequestId{1}).finish->reason, FinishReason::kAbort);
  EXPECT_TRUE(collector.answer(RequestId{1}).tokens.empty());
  EXPECT_EQ(engine.status().pages_used, 0);
  engine.abort(RequestId{0});
}

TEST(Engine, AListenerMaySubmitTheNextRequestUnderTheSameId) {
  const EngineConfig config = config_of(100, 1);
  Collector last;
  Engine engine(config, fake(config));
  int rounds = 0;
  std::function<void(RequestOutput)> listener = [&](RequestOutput output) {
    if (!output.finish) return;
    EXPECT_EQ(engine.status().pages_used, 0);
    const bool again = ++rounds < 20;
    engine.submit(make_request(0, {1, 2}, tokens_exactly(2)), again ? listener : last.listener());
  };
  engine.submit(make_request(0, {1, 2}, tokens_exactly(2)), listener);
  last.wait_for_finished(1);
  EXPECT_EQ(rounds, 20);
}

TEST(Engine, TheDestructorAnswersWhatRunsWhatWaitsAndWhatIsStillInTheInbox) {
  const EngineConfig config = config_of(100, 2);
  Collector collector;
  Engine* running = nullptr;
  uint64_t num_accepted = 10;
  const auto submit = [&](uint64_t id) {
    return error_of([&] { running->submit(make_request(id, {1, 2}, tokens_exactly(398)), collector.listener()); });
  };
  {
    // The second step, if there is one, lasts until the destructor has begun; what it submits before that lies in the inbox then.
    Engine engine(config, fake(config, [&](const StepPlan& plan) {
                    if (plan.id == StepId{0}) return;
                    for (auto refused = submit(10); refused != ErrorCode::kUnavailable; refused = submit(10)) {
                      if (!refused) ++num_accepted;
                    }
                  }));
    running = &engine;
    for (uint64_t id = 0; id < 9; ++id) EXPECT_EQ(submit(id), std::nullopt);
    engine.submit(make_request(9, {1, 2}, tokens_exactly(398)), collector.listener([&](const Answer&) {
      EXPECT_EQ(submit(99), ErrorCode::kUnavailable);
      engine.abort(RequestId{1});
    }));
    collector.wait_for_output(RequestId{0});
  }
  EXPECT_EQ(collector.num_finished(), num_accepted);
  for (uint64_t id = 0; id < num_accepted; ++id) EXPECT_EQ(collector.answer(RequestId{id}).finish->reason, FinishReason::kAbort);
}

TEST(Engine, AFailedStepEndsItsRequestsAndTheEngineGoesOn) {
  const EngineConfig config = config_of(100, 2);
  for (const int kind : {0, 1, 2}) {
    Collector collector;
    Engine engine(config, fake(config, [kind](const StepPlan& plan) {
                    if (plan.id != StepId{1}) return;
                    if (kind == 0) fail(ErrorCode::kInternal, "no memory for 3 rows");
                    if (kind == 1) throw std::runtime_error("no memory for 3 rows");
                    throw 3;
                  }));
    engine.submit(make_request(0, {1, 2}, tokens_exactly(5)), collector.listener());
    collector.wait_for_finished(1);
    const Answer failed = collector.answer(RequestId{0});
    EXPECT_EQ(failed.finish->reason, FinishReason::kError);
    EXPECT_EQ(failed.finish->error.find("no memory for 3 rows") != std::string::npos, kind != 2) << failed.finish->error;
    EXPECT_EQ(failed.tokens.size(), 1u);
    EXPECT_EQ(engine.status().pages_used, 0);
    EXPECT_EQ(engine.status().failure, "");

    const Request next = make_request(1, {1, 2}, tokens_exactly(5));
    engine.submit(next, collector.listener());
    collector.wait_for_finished(2);
    expect_answer(collector.answer(next.id), next, config);
  }
}

TEST(Engine, LostRanksEndEverythingAndAreNamedToWhoeverComes) {
  const EngineConfig config = config_of(100, 1);
  Collector collector;
  Engine engine(config, fake(config, [](const StepPlan& plan) {
                  if (plan.id == StepId{2}) fail(ErrorCode::kUnavailable, "rank 1 is gone");
                }));
  std::latch both(1);
  engine.submit(make_request(0, {1, 2}, tokens_exactly(50)), collector.listener([&](const Answer& answer) {
    if (answer.num_outputs == 1) both.wait();
  }));
  engine.submit(make_request(1, {1, 2}, tokens_exactly(50)), collector.listener());
  both.count_down();
  collector.wait_for_finished(2);
  for (const uint64_t id : {0, 1}) {
    const auto finish = collector.answer(RequestId{id}).finish;
    EXPECT_EQ(finish->reason, FinishReason::kError);
    EXPECT_NE(finish->error.find("rank 1 is gone"), std::string::npos);
  }
  EXPECT_NE(engine.status().failure.find("rank 1 is gone"), std::string::npos);
  EXPECT_EQ(error_of([&] { engine.submit(make_request(2, {1}, tokens_exactly(1)), collector.listener()); }), ErrorCode::kUnavailable);
}

TEST(Engine, EveryRequestOfManyThreadsWithRandomAbortsIsAnsweredOnce) {
  for (uint32_t seed = 0; seed < 10; ++seed) testing::run_engine_case(seed);
}

}  // namespace
}  // namespace weir
