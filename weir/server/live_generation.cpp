#include "weir/server/live_generation.h"

#include <iterator>
#include <mutex>
#include <optional>
#include <utility>

namespace weir {

// Between the engine thread and the HTTP thread. The outputs of a choice are joined while they wait, so that a reader who is slow costs
// the memory of its tokens and nothing per step.
struct LiveGeneration::Arrivals {
  std::shared_ptr<Metrics> metrics;
  std::mutex mu;
  std::vector<std::optional<RequestOutput>> outputs;  // by choice; guarded by mu
  std::vector<ChoiceTimer> timers;                    // by choice; guarded by mu
  std::function<void()> wake;                         // empty once closed; guarded by mu
  bool woken = false;                                 // since the last collect(); guarded by mu

  void add(int32_t choice, RequestOutput output) {
    const auto now = std::chrono::steady_clock::now();
    const std::lock_guard lock(mu);
    timers[choice].output(now, output.tokens.size());
    if (!wake) return;
    auto& waiting = outputs[choice];
    if (!waiting) {
      waiting = std::move(output);
    } else {
      waiting->tokens.append(output.tokens);
      std::ranges::move(output.logprobs, std::back_inserter(waiting->logprobs));
      if (!output.prompt_logprobs.empty()) waiting->prompt_logprobs = std::move(output.prompt_logprobs);
      waiting->finish = std::move(output.finish);
      waiting->usage = output.usage;
    }
    if (!std::exchange(woken, true)) wake();
  }
};

LiveGeneration::LiveGeneration(std::unique_ptr<Generation> generation, EngineClient& engine, std::shared_ptr<Metrics> metrics,
                               uint64_t first_id, std::function<void()> wake)
    : generation_(std::move(generation)), engine_(engine), first_id_(first_id), arrivals_(std::make_shared<Arrivals>()) {
  const auto now = std::chrono::steady_clock::now();
  arrivals_->metrics = std::move(metrics);
  arrivals_->wake = std::move(wake);
  std::vector<Request> requests;
  for (int32_t choice = 0; choice < generation_->num_choices(); ++choice) {
    requests.push_back(generation_->engine_request(choice, id_of(choice)));
    arrivals_->timers.emplace_back(*arrivals_->metrics, now, requests.back().prompt.size());
  }
  arrivals_->outputs.resize(requests.size());
  try {
    for (Request& request : requests) {
      engine_.submit(std::move(request),
                     [arrivals = arrivals_, choice = submitted_](RequestOutput output) { arrivals->add(choice, std::move(output)); });
      ++submitted_;
    }
  } catch (...) {
    close();
    throw;
  }
}

LiveGeneration::~LiveGeneration() { close(); }

void LiveGeneration::close() {
  {
    const std::lock_guard lock(arrivals_->mu);
    arrivals_->wake = nullptr;
    const auto now = std::chrono::steady_clock::now();
    for (int32_t choice = 0; choice < submitted_; ++choice)
      if (!generation_->choice(choice).finished()) arrivals_->timers[choice].finish(now, FinishReason::kAbort);
  }
  abort();
}

void LiveGeneration::abort() {
  for (int32_t choice = 0; choice < submitted_; ++choice)
    if (!generation_->choice(choice).finished()) engine_.abort(id_of(choice));
}

void LiveGeneration::collect() {
  std::vector<std::optional<RequestOutput>> news(generation_->num_choices());
  {
    const std::lock_guard lock(arrivals_->mu);
    std::swap(news, arrivals_->outputs);
    arrivals_->woken = false;
  }
  for (int32_t choice = 0; choice < generation_->num_choices(); ++choice) {
    if (!news[choice] || generation_->choice(choice).finished()) continue;
    if (generation_->push(choice, std::move(*news[choice]))) engine_.abort(id_of(choice));
    // The end that counts is the client's: a stop string may come before the end that the engine knows of.
    const auto& end = generation_->choice(choice).end();
    if (!end) continue;
    const std::lock_guard lock(arrivals_->mu);
    arrivals_->timers[choice].finish(std::chrono::steady_clock::now(), end->reason);
  }
}

}  // namespace weir
