// Brings outputs to their listeners on a thread of its own, so that waking HTTP threads overlaps with the next step.
// Outputs of a request arrive in order, the last one last. What waits here is bounded by the tokens that live requests may still get.
#pragma once

#include <thread>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "weir/base/inbox.h"
#include "weir/core/engine_client.h"
#include "weir/core/request.h"

namespace weir {

class Courier {
 public:
  Courier();
  ~Courier() { close(); }

  // Delivers what waits, then ends the thread. Listeners may use what they know until then. Not from a listener.
  void close();

  // One thread calls these. An id may be used again once its last output has been handed in.
  void add(RequestId id, EngineClient::OnOutput listener);
  void deliver(std::vector<RequestOutput> outputs);  // each of a request that was added and has had no last output
  // What held outputs that have been delivered, to be filled again.
  std::vector<RequestOutput> storage() { return spare_.try_pop().value_or(std::vector<RequestOutput>{}); }

 private:
  using Errand = std::variant<std::pair<RequestId, EngineClient::OnOutput>, std::vector<RequestOutput>>;

  void run();

  Inbox<Errand> errands_;
  Inbox<std::vector<RequestOutput>> spare_;                          // goes the other way
  std::unordered_map<RequestId, EngineClient::OnOutput> listeners_;  // owned by the thread
  std::thread thread_;
};

}  // namespace weir
