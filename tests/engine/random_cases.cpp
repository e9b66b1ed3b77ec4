#include "tests/engine/random_cases.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <set>
#include <thread>

#include "tests/engine/collector.h"
#include "tests/engine/loop.h"
#include "weir/base/error.h"
#include "weir/engine/engine.h"

namespace weir::testing {
namespace {

EngineConfig random_config(std::mt19937& rng) {
  const auto between = [&](int32_t low, int32_t high) { return low + static_cast<int32_t>(rng() % static_cast<unsigned>(high - low + 1)); };
  EngineConfig config;
  config.cache = {.num_pages = between(16, 30), .num_slots = between(1, 8)};
  config.scheduler.max_num_seqs = between(1, 8);
  config.scheduler.max_num_batched_tokens = between(1, 300);
  config.scheduler.max_model_len = between(201, 400);
  config.cache.prefix_caching = rng() % 5 != 0;
  config.cache.has_tier = config.cache.prefix_caching && rng() % 2;
  config.cache.snapshot_interval = std::array{0, 32, 64}[rng() % 3];
  if (rng() % 3 == 0) config.cache.num_slots += between(1, 30);  // for snapshots alone
  if (rng() % 3 == 0) config.cache.num_pages += between(1, 100);
  if (rng() % 2) config.scheduler.long_prefill_token_threshold = between(1, 150);
  if (rng() % 3) config.speculation = {.num_drafts = between(1, kMaxDrafts), .adaptive = rng() % 2 == 0};
  config.eos_token_ids = {3, 4};
  return config;
}

// A text that goes on where an earlier request's prompt or answer was, or in the middle of it, or begins anew.
void follow_up(std::mt19937& rng, Request& request, const std::vector<Request>& earlier, const EngineConfig& config) {
  if (rng() % 8 == 0) request.cache_salt = "a salt";
  if (earlier.empty() || rng() % 4 == 0) return;
  const Request& other = earlier[rng() % earlier.size()];
  std::vector<Token> text = other.prompt;
  const std::vector<Token> answer = expected_answer(other, config).tokens;
  text.insert(text.end(), answer.begin(), answer.end());
  const size_t most = std::min<size_t>(text.size(), 100), keep = rng() % 3 == 0 ? most : rng() % (most + 1);
  std::vector<Token> own = request.prompt;
  own.resize(std::min({own.size(), static_cast<size_t>(rng() % 20), 100 - keep}));
  if (keep + own.size() == 0) return;
  request.prompt.assign(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(keep));
  request.prompt.insert(request.prompt.end(), own.begin(), own.end());
}

// An answer that was cut short by an abort or a failure is the beginning of the whole one.
void expect_beginning(const Answer& answer, const Request& request, const EngineConfig& config, FinishReason reason) {
  SCOPED_TRACE(::testing::Message() << "request " << index(request.id));
  ASSERT_TRUE(answer.finish);
  EXPECT_EQ(answer.finish->reason, reason);
  const auto whole = expected_answer(request, config).tokens;
  ASSERT_LE(answer.tokens.size(), whole.size());
  EXPECT_TRUE(std::equal(answer.tokens.begin(), answer.tokens.end(), whole.begin()));
}

}  // namespace

CaseCounts run_scheduler_case(uint32_t seed) {
  SCOPED_TRACE(::testing::Message() << "scheduler case " << seed);
  constexpr uint64_t kRequests = 25;
  std::mt19937 rng(seed);
  Loop loop(random_config(rng));
  std::set<RequestId> aborted;
  const bool rows_fail = rng() % 2;
  loop.executor.row_error = [&](const SeqStep&) { return rows_fail && rng() % 500 == 0 ? "a bad row" : ""; };
  const bool alike = rng() % 4 != 0;
  const auto delay = 1 + rng() % 5;
  loop.executor.arrives = [&] { return rng() % delay == 0; };
  loop.executor.is_lost = [&] { return rng() % 20 == 0; };
  std::vector<Request> seen;
  uint64_t next = 0;
  while (next < kRequests || !loop.scheduler.idle()) {
    while (next < kRequests && rng() % 3 == 0) {
      Request request = random_request(rng, next++, 100, 150);
      request.priority = static_cast<int32_t>(rng() % 3);
      if (alike) follow_up(rng, request, seen, loop.config);
      seen.push_back(request);
      loop.add(request);
    }
    if (next > 0 && rng() % 20 == 0) {
      const uint64_t id = rng() % next;
      if (!loop.finished(id)) aborted.insert(RequestId{id});
      loop.abort(id);
      EXPECT_TRUE(loop.finished(id));
    }
    if (rng() % 100 == 0) loop.scheduler.apply(ResetPrefixCache{});
    if (rng() % 300 == 0) {
      const StepPlan plan = loop.scheduler.plan();
      loop.take(loop.scheduler.fail_rows(plan, "a bad step"));
      loop.check();
    }
    loop.step();
  }
  loop.run();
  for (const auto& [id, request] : loop.requests) {
    const Answer& answer = loop.answers[id];
    const bool failed = answer.finish && answer.finish->reason == FinishReason::kError;
    if (aborted.contains(id))
      expect_beginning(answer, request, loop.config, FinishReason::kAbort);
    else if (failed)
      expect_beginning(answer, request, loop.config, FinishReason::kError);
    else
      expect_answer(answer, request, loop.config);
  }
  const Scheduler::Counters& counters = loop.scheduler.counters();
  return {counters.preemptions, counters.prefix_hits, counters.tier_hits, counters.speculation.accepted_tokens};
}

void run_engine_case(uint32_t seed) {
  SCOPED_TRACE(::testing::Message() << "engine case " << seed);
  constexpr uint64_t kThreads = 4, kEach = 40;
  std::mt19937 rng(seed);
  const EngineConfig config = random_config(rng);
  const uint64_t failing_step = 1 + rng() % 400;
  const bool shut_down_early = rng() % 4 == 0;
  Collector collector;
  std::vector<std::vector<Request>> requests(kThreads);
  {
    auto executor = std::make_unique<FakeExecutor>(config);
    executor->before_step = [&](const StepPlan& plan) {
      if (index(plan.id) == failing_step) fail(ErrorCode::kInternal, "a bad step, on purpose");
    };
    Engine engine(config, std::move(executor));
    std::vector<std::thread> clients;
    for (uint64_t t = 0; t < kThreads; ++t) {
      clients.emplace_back([&, t] {
        std::mt19937 own(seed * 31 + static_cast<uint32_t>(t));
        for (uint64_t i = 0; i < kEach; ++i) {
          Request request = random_request(own, t * kEach + i, 100, 100);
          request.priority = static_cast<int32_t>(own() % 3);
          follow_up(own, request, requests[t], config);
          if (own() % 50 == 0) engine.reset_prefix_cache();
          requests[t].push_back(request);
          engine.submit(std::move(request), collector.listener());
          if (own() % 4 == 0) engine.abort(requests[t][own() % requests[t].size()].id);
          if (own() % 8 == 0) collector.wait_for_output(requests[t].front().id);
          const EngineStatus status = engine.status();
          EXPECT_TRUE(status.pages_used <= status.pages_total && status.num_running >= 0 && status.num_waiting >= 0);
        }
      });
    }
    for (std::thread& client : clients) client.join();
    if (!shut_down_early) {
      collector.wait_for_finished(kThreads * kEach);
      const EngineStatus status = engine.status();
      EXPECT_EQ(status.num_running + status.num_waiting + status.pages_used + status.slots_used, 0);
    }
  }
  EXPECT_EQ(collector.num_finished(), kThreads * kEach);
  for (const auto& list : requests) {
    for (const Request& request : list) {
      const Answer answer = collector.answer(request.id);
      const FinishReason reason = answer.finish ? answer.finish->reason : FinishReason::kError;
      if (reason == FinishReason::kAbort || reason == FinishReason::kError)
        expect_beginning(answer, request, config, reason);
      else
        expect_answer(answer, request, config);
    }
  }
}

}  // namespace weir::testing
