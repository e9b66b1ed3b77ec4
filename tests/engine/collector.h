// Gathers the outputs of many requests from the engine thread and lets the test thread wait for them.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>

#include "tests/engine/requests.h"
#include "weir/core/engine_client.h"

namespace weir::testing {

class Collector {
 public:
  // To be given to submit. `then` runs on the engine thread after each output.
  EngineClient::OnOutput listener(std::function<void(const Answer&)> then = {}) {
    return [this, then](RequestOutput output) {
      const RequestId id = output.id;
      Answer copy;
      {
        const std::lock_guard lock(mu_);
        answers_[id].take(std::move(output));
        copy = answers_[id];
        if (copy.finish) ++num_finished_;
      }
      changed_.notify_all();
      if (then) then(copy);
    };
  }

  void wait_for_finished(size_t count) {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] { return num_finished_ >= count; });
  }
  void wait_for_output(RequestId id) {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] { return answers_[id].num_outputs > 0; });
  }
  Answer answer(RequestId id) {
    const std::lock_guard lock(mu_);
    return answers_[id];
  }
  size_t num_finished() {
    const std::lock_guard lock(mu_);
    return num_finished_;
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  std::map<RequestId, Answer> answers_;  // guarded by mu_
  size_t num_finished_ = 0;              // guarded by mu_
};

}  // namespace weir::testing
