#include "weir/engine/courier.h"

#include <pthread.h>

#include "weir/base/check.h"

namespace weir {

Courier::Courier() : thread_([this] { run(); }) {}

void Courier::close() {
  errands_.close();
  if (thread_.joinable()) thread_.join();
}

void Courier::add(RequestId id, EngineClient::OnOutput listener) { errands_.push(std::pair(id, std::move(listener))); }

void Courier::deliver(std::vector<RequestOutput> outputs) {
  if (!outputs.empty()) errands_.push(std::move(outputs));
}

void Courier::run() {
  pthread_setname_np(pthread_self(), "weir-courier");
  while (auto errand = errands_.pop()) {
    if (auto* const added = std::get_if<std::pair<RequestId, EngineClient::OnOutput>>(&*errand)) {
      const bool is_new = listeners_.emplace(added->first, std::move(added->second)).second;
      WEIR_CHECK(is_new, "request ", index(added->first), " has two listeners");
      continue;
    }
    auto& outputs = std::get<std::vector<RequestOutput>>(*errand);
    for (RequestOutput& output : outputs) {
      const auto listener = listeners_.find(output.id);
      WEIR_CHECK(listener != listeners_.end(), "request ", index(output.id), " has no listener");
      if (!output.finish) {
        listener->second(std::move(output));
        continue;
      }
      const EngineClient::OnOutput last = std::move(listener->second);
      listeners_.erase(listener);
      last(std::move(output));
    }
    outputs.clear();
    spare_.push(std::move(outputs));
  }
}

}  // namespace weir
