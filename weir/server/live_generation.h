// A Generation that the engine is working on: submits its requests, gathers their outputs from the engine's courier and aborts what is
// left when it is destroyed, be it that the client went away. Everything but the arrival of outputs happens on one HTTP thread at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "weir/api/generation.h"
#include "weir/core/engine_client.h"
#include "weir/server/metrics.h"

namespace weir {

class LiveGeneration {
 public:
  // wake is called on the courier's thread when there is something to collect; it must not block and is never called again once the
  // destructor has begun. first_id: num_choices() ids from there on are used. When the engine refuses one request the others are
  // aborted and its Error passes through.
  LiveGeneration(std::unique_ptr<Generation> generation, EngineClient& engine, std::shared_ptr<Metrics> metrics, uint64_t first_id,
                 std::function<void()> wake);
  ~LiveGeneration();
  LiveGeneration(const LiveGeneration&) = delete;
  LiveGeneration& operator=(const LiveGeneration&) = delete;

  void collect();  // what arrived goes into the generation
  void abort();    // everything still running; the outputs that say so arrive as usual

  Generation& generation() { return *generation_; }

 private:
  struct Arrivals;

  RequestId id_of(int32_t choice) const { return RequestId{first_id_ + static_cast<uint64_t>(choice)}; }
  void close();

  std::unique_ptr<Generation> generation_;
  EngineClient& engine_;
  uint64_t first_id_;
  int32_t submitted_ = 0;
  std::shared_ptr<Arrivals> arrivals_;
};

}  // namespace weir
