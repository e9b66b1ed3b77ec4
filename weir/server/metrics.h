// What /metrics tells, under vLLM's names so that its dashboards work. Counters and histograms are lock-free: observed on the engine
// thread, read by an HTTP thread.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "weir/core/engine_client.h"

namespace weir {

class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds);  // rising upper bounds; +Inf is added
  void observe(double value);
  // Prometheus text; labels without braces: `model_name="x",engine="0"`.
  void render(std::string& out, std::string_view name, std::string_view help, std::string_view labels) const;

 private:
  std::vector<double> bounds_;
  std::unique_ptr<std::atomic<uint64_t>[]> counts_;  // one per bound and one for +Inf, not cumulative
  std::atomic<double> sum_{0};
};

class Metrics {
 public:
  explicit Metrics(int32_t max_model_len);

  // The engine's part is left out when there is no engine yet.
  std::string render(const std::string& model_name, const std::optional<EngineStatus>& engine) const;

  void count_success(FinishReason reason) { success_[static_cast<size_t>(reason)].fetch_add(1, std::memory_order_relaxed); }

  Histogram time_to_first_token, inter_token_latency, time_per_output_token, e2e_latency, prompt_tokens, generation_tokens;

 private:
  std::array<std::atomic<uint64_t>, 4> success_{};  // by FinishReason
};

// The clock of one choice: turns the arrival of its outputs into observations. Not thread-safe.
class ChoiceTimer {
 public:
  using Time = std::chrono::steady_clock::time_point;
  ChoiceTimer(Metrics& metrics, Time arrival, size_t prompt_tokens) : metrics_(metrics), arrival_(arrival), prompt_tokens_(prompt_tokens) {}

  void output(Time now, size_t num_tokens);
  void finish(Time now, FinishReason reason);  // the first call counts; outputs after it do not

 private:
  Metrics& metrics_;
  Time arrival_, first_{}, last_{};
  size_t prompt_tokens_, generated_ = 0;
  bool finished_ = false;
};

}  // namespace weir
