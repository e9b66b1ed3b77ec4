// The loop: drain the inbox, plan, run, commit, emit. One thread per engine owns Sequence, Scheduler and CacheManager; everything
// else talks to it through EngineClient. With nothing to do the thread sleeps (0 % CPU).
#pragma once

#include <memory>

#include "weir/base/profiler.h"
#include "weir/core/config.h"
#include "weir/core/engine_client.h"
#include "weir/core/executor.h"

namespace weir {

class Engine final : public EngineClient {
 public:
  // Starts the engine thread. The executor is used by that thread only. Throws Error(kInvalidArgument), naming the flag, for settings
  // no request could run with. profiler: is told what the steps do; outlives the engine; nullptr: nobody asks.
  Engine(EngineConfig config, std::unique_ptr<Executor> executor, Profiler* profiler = nullptr);
  ~Engine() override;  // lets the step under way end, aborts what is left, joins the thread. Not from a callback.

  void submit(Request request, OnOutput on_output) override;
  void abort(RequestId id) override;
  void reset_prefix_cache() override;
  EngineStatus status() const override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace weir
