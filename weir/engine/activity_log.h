// The line an operator sees every ten seconds while requests run, worded like vLLM's so that existing scripts find their numbers.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "weir/core/engine_client.h"

namespace weir {

class ActivityLog {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::seconds kInterval{10};

  explicit ActivityLog(Time now) : since_(now) {}

  // The line when the interval is over and something ran in it; throughputs are averages since the last line, or since the
  // activity began. Call after every step and, while due_in() has a value, when that time is over.
  std::optional<std::string> line(Time now, const EngineStatus& status);

  // Time until line() has something to say; nullopt when everything has been told.
  std::optional<std::chrono::milliseconds> due_in(Time now, const EngineStatus& status) const;

  // Work arrives after a pause: the pause does not count.
  void resume(Time now, const EngineStatus& status);

 private:
  bool told_everything(const EngineStatus& status) const { return status.steps == steps_; }

  Time since_;
  int64_t steps_ = 0, prompt_tokens_ = 0, generation_tokens_ = 0, prefix_queries_ = 0, prefix_hits_ = 0;  // at since_
  DraftCounters speculation_;                                                                             // also at since_
};

}  // namespace weir
