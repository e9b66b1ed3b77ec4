#include "weir/engine/engine.h"

#include <pthread.h>

#include <chrono>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "weir/base/check.h"
#include "weir/base/inbox.h"
#include "weir/base/log.h"
#include "weir/cache/cache_manager.h"
#include "weir/engine/activity_log.h"
#include "weir/engine/courier.h"
#include "weir/engine/policy.h"
#include "weir/engine/scheduler.h"

namespace weir {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point begin, Clock::time_point end) { return std::chrono::duration<double>(end - begin).count(); }

}  // namespace

struct Engine::Impl {
  struct Message {
    Command command;
    OnOutput on_output;  // of an Add
  };

  Impl(EngineConfig engine_config, std::unique_ptr<Executor> ranks, Profiler* asks)
      : config(std::move(engine_config)),
        profiler(asks),
        executor(std::move(ranks)),
        cache(config.cache),
        scheduler(config, cache),
        activity(Clock::now()) {
    WEIR_CHECK(executor);
    cache.add_tier_entries(executor->tier_entries());
    now.max_num_seqs = config.scheduler.max_num_seqs;
    now.max_drafts = config.speculation.num_drafts;
    now.pages_total = cache.pages_total();
    now.slots_total = cache.slots_total();
    published = now;
  }

  void run();
  void wait_for_work();
  void step();
  void apply_inbox();
  StepPlan make_plan();
  std::vector<RequestOutput> run_plan(const StepPlan& plan);
  void publish(std::vector<RequestOutput> outputs);
  bool queues_changed() const;
  void close();
  void keep_prefixes();

  const EngineConfig config;
  Profiler* const profiler;
  Inbox<Message> inbox;

  // Owned by the engine thread.
  std::unique_ptr<Executor> executor;
  CacheManager cache;
  Scheduler scheduler;  // borrows cache
  Courier courier;
  EngineStatus now;
  ActivityLog activity;
  StepResult result;  // of the last step: lends its memory to the next one

  mutable std::mutex mu;
  std::unordered_set<RequestId> live;  // guarded by mu: accepted, and not yet finished
  EngineStatus published;              // guarded by mu: `now` after the last step
  bool closed = false;                 // guarded by mu

  std::thread thread;
};

Engine::Engine(EngineConfig config, std::unique_ptr<Executor> executor, Profiler* profiler)
    : impl_(std::make_unique<Impl>(std::move(config), std::move(executor), profiler)) {
  impl_->thread = std::thread([impl = impl_.get()] { impl->run(); });
}

Engine::~Engine() {
  impl_->close();
  impl_->thread.join();
  impl_->courier.close();  // its listeners may still call this engine
}

void Engine::submit(Request request, OnOutput on_output) {
  check_request(request, impl_->config);
  const std::lock_guard lock(impl_->mu);
  if (!impl_->published.failure.empty()) fail(ErrorCode::kUnavailable, "the engine is dead: ", impl_->published.failure);
  if (impl_->closed) fail(ErrorCode::kUnavailable, "the engine is shutting down");
  const size_t can_run = static_cast<size_t>(most_running(impl_->config));
  const size_t can_wait = static_cast<size_t>(impl_->config.scheduler.max_waiting);
  if (impl_->live.size() >= can_run + can_wait) {
    fail(ErrorCode::kResourceExhausted, "the queue is full: the engine has ", impl_->live.size(), " requests, ", can_run,
         " can run at once (--max-num-seqs) and ", can_wait, " more can wait (max_waiting)");
  }
  if (!impl_->live.insert(request.id).second) fail(ErrorCode::kInvalidArgument, "request id ", index(request.id), " is in use");
  impl_->inbox.push({Add{std::move(request)}, std::move(on_output)});
}

void Engine::abort(RequestId id) {
  const std::lock_guard lock(impl_->mu);
  if (impl_->live.contains(id)) impl_->inbox.push({Abort{id}, {}});
}

void Engine::reset_prefix_cache() {
  const std::lock_guard lock(impl_->mu);
  if (!impl_->closed) impl_->inbox.push({ResetPrefixCache{}, {}});
}

EngineStatus Engine::status() const {
  const std::lock_guard lock(impl_->mu);
  EngineStatus status = impl_->published;
  status.num_waiting = static_cast<int32_t>(impl_->live.size()) - status.num_running;  // also those still in the inbox
  return status;
}

void Engine::Impl::run() {
  pthread_setname_np(pthread_self(), "weir-engine");
  while (now.failure.empty()) {
    wait_for_work();
    if (inbox.closed()) break;
    step();
  }
  // Nothing more comes in after close; what is here or still in the inbox gets its last output.
  close();
  apply_inbox();
  const FinishReason reason = now.failure.empty() ? FinishReason::kAbort : FinishReason::kError;
  publish(scheduler.finish_all({reason, std::nullopt, now.failure}));
  scheduler.check_invariants();
  if (config.cache.keep_tier && now.failure.empty()) keep_prefixes();
}

// For the next start.
void Engine::Impl::keep_prefixes() {
  cache.move_to_tier();
  StepPlan plan = scheduler.plan();
  plan.tier.wait = true;
  run_plan(plan);
}

void Engine::Impl::wait_for_work() {
  if (!scheduler.idle()) return;
  scheduler.check_invariants();  // idle: every page and slot is free, or there is a leak
  while (!inbox.ready() && executor->prepare()) {
  }
  // The last seconds of a burst are reported when their interval is over; then the thread sleeps until there is something to do.
  if (const auto due = activity.due_in(Clock::now(), now)) {
    inbox.wait_for(*due);
    if (const auto line = activity.line(Clock::now(), now)) log_info(*line);
  }
  if (!activity.due_in(Clock::now(), now)) {
    inbox.wait();
    activity.resume(Clock::now(), now);
  }
}

void Engine::Impl::step() {
  StepSpan span(profiler, "nothing to run");
  const auto start = Clock::now();
  const double run_before = now.run_seconds;

  apply_inbox();
  StepPlan plan = make_plan();
  if (plan.rows.empty() && plan.tier.empty()) return;
  int64_t tokens = 0, new_tokens = 0;
  for (const SeqStep& row : plan.rows)
    tokens += static_cast<int64_t>(row.tokens.size()), new_tokens += static_cast<int64_t>(row.tokens.size()) - row.num_drafts;
  const auto rows = static_cast<int64_t>(plan.rows.size());
  span.describe(rows == 0 ? "second tier" : new_tokens == rows ? "decode" : "prompt", rows, tokens);
  if (queues_changed()) publish({});  // the step may take seconds: show who runs now
  publish(run_plan(plan));
  scheduler.recycle(std::move(plan));

  const auto end = Clock::now();
  now.host_seconds += seconds_between(start, end) - (now.run_seconds - run_before);
  if (const auto line = activity.line(end, now)) log_info(*line);
}

StepPlan Engine::Impl::make_plan() {
  const Span span(profiler, "plan");
  return scheduler.plan();
}

void Engine::Impl::apply_inbox() {
  const Span span(profiler, "inbox");
  std::vector<RequestOutput> aborted;
  bool forgotten = false;
  while (auto message = inbox.try_pop()) {
    forgotten |= std::holds_alternative<ResetPrefixCache>(message->command);
    if (const Add* add = std::get_if<Add>(&message->command)) courier.add(add->request.id, std::move(message->on_output));
    if (auto output = scheduler.apply(std::move(message->command))) aborted.push_back(std::move(*output));
  }
  if (forgotten || !aborted.empty()) publish(std::move(aborted));
}

// The ranks execute the plan. Whatever goes wrong there ends the requests of this plan, not the engine, unless ranks are lost.
std::vector<RequestOutput> Engine::Impl::run_plan(const StepPlan& plan) {
  const auto start = Clock::now();
  std::optional<std::string> error;
  try {
    const Span span(profiler, "ranks");
    result = executor->run(plan, std::move(result));
    check_result(plan, result);
  } catch (const Error& e) {
    error = concat("the step failed: ", e.what());
    if (e.code == ErrorCode::kUnavailable) now.failure = *error;
  } catch (const std::exception& e) {
    error = concat("the step failed unexpectedly: ", e.what());
  } catch (...) {
    error = "the step failed with an exception of unknown type";
  }
  const double seconds = seconds_between(start, Clock::now());
  now.run_seconds += seconds;
  ++now.steps;
  const Span span(profiler, "commit");
  if (!error) return scheduler.commit(plan, std::move(result), seconds, courier.storage());
  result = {};  // whatever it was made of
  log_error("step ", index(plan.id), ", ", plan.rows.size(), " rows: ", *error,
            now.failure.empty() ? "; these requests end with an error" : "; ranks are lost, the engine takes no more requests");
  return scheduler.fail_rows(plan, *error);
}

bool Engine::Impl::queues_changed() const {
  return now.num_running != scheduler.num_running() || now.num_waiting != scheduler.num_waiting();
}

// The status first, the outputs after it: whoever has seen a request end also sees its pages free and may use its id again.
void Engine::Impl::publish(std::vector<RequestOutput> outputs) {
  const Span span(profiler, "publish");
  now.num_running = scheduler.num_running();
  now.pages_used = cache.pages_used();
  now.pages_cached = cache.pages_cached();
  now.slots_used = cache.slots_used();
  now.slots_cached = cache.slots_cached();
  now.prompt_tokens = scheduler.counters().prompt_tokens;
  now.generation_tokens = scheduler.counters().generation_tokens;
  now.preemptions = scheduler.counters().preemptions;
  now.prefix_queries = scheduler.counters().prefix_queries;
  now.prefix_hits = scheduler.counters().prefix_hits;
  now.tier_queries = scheduler.counters().tier_queries;
  now.tier_hits = scheduler.counters().tier_hits;
  now.tier_bytes = cache.tier_bytes();
  now.speculation = scheduler.counters().speculation;
  now.num_waiting = scheduler.num_waiting();
  {
    const std::lock_guard lock(mu);
    published = now;
    for (const RequestOutput& output : outputs) {
      if (output.finish) live.erase(output.id);
    }
  }
  courier.deliver(std::move(outputs));
}

void Engine::Impl::close() {
  const std::lock_guard lock(mu);
  closed = true;
  inbox.close();
}

}  // namespace weir
