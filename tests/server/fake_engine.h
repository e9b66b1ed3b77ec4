// An engine without a model: repeats a script of tokens. By itself it runs as fast as it can; paused it advances only by tick().
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "weir/base/error.h"
#include "weir/core/engine_client.h"

namespace weir {

class FakeEngine final : public EngineClient {
 public:
  explicit FakeEngine(std::vector<Token> script, bool paused = false)
      : script_(std::move(script)), paused_(paused), thread_([this] { run(); }) {}
  ~FakeEngine() override {
    {
      const std::lock_guard lock(mu_);
      closed_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void submit(Request request, OnOutput on_output) override {
    const std::lock_guard lock(mu_);
    if (refusal_) throw *refusal_;
    if (max_running_ > 0 && static_cast<int32_t>(running_.size()) >= max_running_)
      fail(ErrorCode::kResourceExhausted, "the waiting queue is full");
    const uint64_t id = index(request.id);
    running_.emplace(id, Running{std::move(request), std::move(on_output), 0});
    ++submitted_;
    changed_.notify_all();
  }
  void abort(RequestId id) override {
    const std::lock_guard lock(mu_);
    if (running_.contains(index(id))) aborting_.insert(index(id));
    changed_.notify_all();
  }
  void reset_prefix_cache() override {
    const std::lock_guard lock(mu_);
    ++resets_;
  }
  EngineStatus status() const override {
    const std::lock_guard lock(mu_);
    EngineStatus status;
    status.num_running = static_cast<int32_t>(running_.size());
    status.generation_tokens = generated_;
    status.pages_total = 10;
    status.max_drafts = 2;
    status.speculation = {.drafts = 5, .draft_tokens = 10, .accepted_tokens = 7, .accepted_at = {4, 3}};
    status.failure = failure_;
    return status;
  }

  void tick(int steps = 1) {
    const std::lock_guard lock(mu_);
    ticks_ += steps;
    changed_.notify_all();
  }
  void resume() {
    const std::lock_guard lock(mu_);
    paused_ = false;
    changed_.notify_all();
  }
  void refuse(std::optional<Error> error) {
    const std::lock_guard lock(mu_);
    refusal_ = std::move(error);
  }
  void limit(int32_t max_running) {
    const std::lock_guard lock(mu_);
    max_running_ = max_running;
  }
  void die(std::string failure) {
    const std::lock_guard lock(mu_);
    failure_ = std::move(failure);
    changed_.notify_all();
  }

  // Block until it happened; false after ten seconds.
  bool wait_submitted(int count) {
    return wait([&] { return submitted_ >= count; });
  }
  bool wait_aborted(int count) {
    return wait([&] { return aborted_ >= count; });
  }
  bool wait_idle() {
    return wait([&] { return running_.empty(); });
  }
  int resets() {
    const std::lock_guard lock(mu_);
    return resets_;
  }
  std::vector<Request> requests() {
    const std::lock_guard lock(mu_);
    std::vector<Request> out;
    for (const auto& [id, one] : running_) out.push_back(one.request);
    return out;
  }

 private:
  struct Running {
    Request request;
    OnOutput on_output;
    size_t generated;
  };

  template <class Condition>
  bool wait(Condition condition) {
    std::unique_lock lock(mu_);
    return changed_.wait_for(lock, std::chrono::seconds(10), condition);
  }

  void run() {
    std::unique_lock lock(mu_);
    for (;;) {
      changed_.wait(lock,
                    [&] { return closed_ || !aborting_.empty() || (!running_.empty() && (!paused_ || ticks_ > 0 || !failure_.empty())); });
      if (closed_) return;
      std::vector<std::pair<OnOutput, RequestOutput>> told;
      for (auto it = running_.begin(); it != running_.end();) {
        Running& one = it->second;
        RequestOutput output;
        output.id = one.request.id;
        output.usage.prompt_tokens = static_cast<int32_t>(one.request.prompt.size());
        if (aborting_.erase(it->first)) {
          output.finish = Finish{FinishReason::kAbort, {}, {}};
          ++aborted_;
        } else if (!failure_.empty()) {
          output.finish = Finish{FinishReason::kError, {}, failure_};
        } else if (!paused_ || ticks_ > 0) {
          const SamplingParams& sampling = *one.request.sampling;
          const Token token = script_[one.generated++ % script_.size()];
          output.tokens = {token};
          if (sampling.logprobs) output.logprobs = {{{token, -0.5f, 1}}};
          ++generated_;
          if (static_cast<int32_t>(one.generated) >= sampling.max_tokens) output.finish = Finish{FinishReason::kLength, {}, {}};
        } else {
          ++it;
          continue;
        }
        told.emplace_back(one.on_output, std::move(output));
        if (told.back().second.finish)
          it = running_.erase(it);
        else
          ++it;
      }
      if (ticks_ > 0) --ticks_;
      lock.unlock();
      for (auto& [on_output, output] : told) on_output(std::move(output));
      told.clear();
      lock.lock();
      changed_.notify_all();
    }
  }

  const std::vector<Token> script_;
  mutable std::mutex mu_;  // guards everything below
  std::condition_variable changed_;
  std::map<uint64_t, Running> running_;
  std::set<uint64_t> aborting_;
  std::optional<Error> refusal_;
  std::string failure_;
  bool paused_, closed_ = false;
  int ticks_ = 0, submitted_ = 0, aborted_ = 0, resets_ = 0;
  int32_t max_running_ = 0;
  int64_t generated_ = 0;
  std::thread thread_;
};

}  // namespace weir
