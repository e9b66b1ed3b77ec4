// The results of `weir bench serve` as a table and as JSON, both with the names of vLLM's client.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "weir/apps/bench_arrivals.h"
#include "weir/apps/bench_metrics.h"
#include "weir/base/json.h"

namespace weir {

// What was run, as far as a result must say it.
struct ServeSetup {
  std::string date;     // "20261125-094500", local time
  std::string backend;  // "openai", "openai-chat"
  std::optional<std::string> label;
  std::string model_id, tokenizer_id;
  int64_t num_prompts = 0;
  std::vector<std::pair<std::string, std::string>> metadata;
  Traffic traffic;
  std::optional<int64_t> max_concurrency;
  bool goodput_asked = false;
  std::vector<std::string> percentile_metrics;  // of kPercentileMetrics
  std::vector<double> percentiles;              // each in [0, 100]
};

// "ttft", "tpot", "itl", "e2el", "client_queue_time", "e2el_including_client_queue"
std::span<const std::string> known_percentile_metrics();

struct ServeResult {
  ServeMetrics metrics;
  std::optional<Speculation> speculation;
  Json rate_changes;  // of a ramp: [{"rps": 1, "timestamp": "2026-11-25T09:45:00.123456"}, …]; else null
};

// `answers` are listed one by one when `detailed`; latencies and queue_times always are, as by vLLM.
Json serve_result_json(const ServeSetup& setup, const ServeResult& result, std::span<const BenchAnswer> answers, bool detailed);
std::string serve_report(const ServeSetup& setup, const ServeResult& result);

// "openai-1.0qps-concurrency8-weir-tiny-20261125-094500.json"
std::string result_filename(const ServeSetup& setup);

}  // namespace weir
