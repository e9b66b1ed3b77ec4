// The engine's loop without its thread, checking the scheduler's invariants around every step.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <utility>
#include <vector>

#include "tests/engine/fake_executor.h"
#include "tests/engine/requests.h"
#include "weir/engine/scheduler.h"

namespace weir::testing {

struct Loop {
  explicit Loop(EngineConfig engine_config)
      : config(std::move(engine_config)), cache(config.cache), scheduler(config, cache), executor(config) {}

  void add(const Request& request) {
    check_request(request, config);
    requests.emplace(request.id, request);
    answers[request.id];
    scheduler.apply(Add{request});
  }
  void abort(uint64_t id) {
    if (auto output = scheduler.apply(Abort{RequestId{id}})) answers[output->id].take(std::move(*output));
  }
  StepPlan step() {
    StepPlan plan = scheduler.plan();
    check();
    if (plan.rows.empty() && plan.tier.empty()) return plan;
    StepResult result = executor.run(plan);
    check_result(plan, result);
    take(scheduler.commit(plan, std::move(result), std::uniform_real_distribution<double>(1, 2)(clock)));
    check();
    return plan;
  }
  void check() const {
    scheduler.check_invariants();
    cache.check_invariants();
  }
  void take(std::vector<RequestOutput> outputs) {
    for (RequestOutput& output : outputs) answers[output.id].take(std::move(output));
  }
  void run() {
    while (!scheduler.idle()) step();
    EXPECT_EQ(cache.pages_used(), 0);
    EXPECT_EQ(cache.slots_used(), 0);
  }
  bool finished(uint64_t id) { return answers[RequestId{id}].finish.has_value(); }

  EngineConfig config;
  CacheManager cache;
  Scheduler scheduler;
  FakeExecutor executor;
  std::mt19937 clock{1};  // steps take as long as they like
  std::map<RequestId, Request> requests;
  std::map<RequestId, Answer> answers;
};

}  // namespace weir::testing
