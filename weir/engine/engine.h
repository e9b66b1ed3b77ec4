// The loop: drain the inbox, plan, run, commit, emit. One thread per engine owns Sequence, Scheduler and CacheManager; everything
// else talks to it through EngineClient.
#pragma once

#include <memory>

#include "weir/core/config.h"
#include "weir/core/engine_client.h"
#include "weir/core/executor.h"

namespace weir {

class Engine final : public EngineClient {
 public:
  // Starts the engine thread. The executor is used by that thread only.
  Engine(EngineConfig config, std::unique_ptr<Executor> executor);
  ~Engine() override;   // aborts what is left, joins the thread

  void submit(Request request, OnOutput on_output) override;
  void abort(RequestId id) override;
  EngineStatus status() const override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace weir
