#include "weir/apps/bench_report.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "weir/base/error.h"

namespace weir {
namespace {

constexpr size_t kWidth = 50;

const std::array<std::string, 6> kPercentileMetrics = {"ttft", "tpot", "itl", "e2el", "client_queue_time", "e2el_including_client_queue"};

// "99", "99.9"
std::string number_word(double value) { return concat(value); }

// A Python float: "1.0", "0.5".
std::string float_word(double value) {
  std::string out = concat(value);
  return out.find_first_of(".e") == std::string::npos ? out + ".0" : out;
}

std::string centred(const std::string& title, char fill) {
  const size_t space = kWidth > title.size() ? kWidth - title.size() : 0;
  return std::string(space / 2, fill) + title + std::string(space - space / 2, fill) + "\n";
}

void row(std::string& out, const std::string& name, double value) {
  char line[128];
  std::snprintf(line, sizeof line, "%-40s %-10.2f\n", name.c_str(), value);
  out += line;
}

void row(std::string& out, const std::string& name, int64_t value) {
  char line[128];
  std::snprintf(line, sizeof line, "%-40s %-10lld\n", name.c_str(), static_cast<long long>(value));
  out += line;
}

// One metric that is reported as mean, median, deviation and percentiles.
struct Reported {
  std::string key, name, title;
  Distribution ms;
};

std::vector<double> milliseconds(const std::vector<double>& seconds) {
  std::vector<double> out;
  for (const double value : seconds) out.push_back(value * 1000);
  return out;
}

std::vector<Reported> reported(const ServeSetup& setup, const ServeMetrics& metrics) {
  std::vector<Reported> out;
  const auto add = [&](const std::string& key, const char* name, const char* title, const std::vector<double>& seconds) {
    if (std::find(setup.percentile_metrics.begin(), setup.percentile_metrics.end(), key) == setup.percentile_metrics.end()) return;
    out.push_back({key, name, title, describe(milliseconds(seconds), setup.percentiles)});
  };
  add("ttft", "TTFT", "Time to First Token", metrics.ttft_s);
  add("tpot", "TPOT", "Time per Output Token (excl. 1st token)", metrics.tpot_s);
  add("itl", "ITL", "Inter-token Latency", metrics.itl_s);
  add("e2el", "E2EL", "End-to-end Latency", metrics.e2el_s);
  // The client holds requests back only when their number is limited, and that is part of a latency only when they came at a rate.
  if (setup.max_concurrency) add("client_queue_time", "Client Queue Time", "Client-side Queueing", metrics.queue_s);
  if (setup.max_concurrency && setup.traffic.request_rate) {
    std::vector<double> whole = metrics.e2el_s;
    for (size_t i = 0; i < whole.size(); ++i) whole[i] += metrics.queue_s[i];
    add("e2el_including_client_queue", "E2EL incl. Client Queue", "Queue-inclusive End-to-end Latency", whole);
  }
  return out;
}

template <class Value>
Json listed(std::span<const BenchAnswer> answers, Value value) {
  Json out = Json::array();
  for (const BenchAnswer& answer : answers) out.push_back(value(answer));
  return out;
}

void put_speculation(Json& out, const Speculation& speculation) {
  out["spec_decode_acceptance_rate"] = speculation.acceptance_rate;
  out["spec_decode_acceptance_length"] = speculation.acceptance_length;
  out["spec_decode_num_drafts"] = speculation.counters.drafts;
  out["spec_decode_draft_tokens"] = speculation.counters.draft_tokens;
  out["spec_decode_accepted_tokens"] = speculation.counters.accepted_tokens;
  out["spec_decode_per_position_acceptance_rates"] = speculation.per_position_rates;
}

}  // namespace

std::span<const std::string> known_percentile_metrics() { return kPercentileMetrics; }

Json serve_result_json(const ServeSetup& setup, const ServeResult& result, std::span<const BenchAnswer> answers, bool detailed) {
  const ServeMetrics& metrics = result.metrics;
  Json out = Json::object();
  out["date"] = setup.date;
  out["endpoint_type"] = setup.backend;  // the older name of the next
  out["backend"] = setup.backend;
  out["label"] = setup.label ? Json(*setup.label) : Json();
  out["model_id"] = setup.model_id;
  out["tokenizer_id"] = setup.tokenizer_id;
  out["num_prompts"] = setup.num_prompts;
  for (const auto& [key, value] : setup.metadata) out[key] = value;
  out["request_rate"] = setup.traffic.request_rate ? Json(*setup.traffic.request_rate) : Json("inf");
  out["burstiness"] = setup.traffic.burstiness ? Json(*setup.traffic.burstiness) : Json("inf");
  out["max_concurrency"] = setup.max_concurrency ? Json(*setup.max_concurrency) : Json();
  if (const auto& ramp = setup.traffic.ramp_up) {
    out["ramp_up_strategy"] = ramp->strategy;
    out["ramp_up_start_rps"] = ramp->start_rps;
    out["ramp_up_end_rps"] = ramp->end_rps;
  }
  out["duration"] = metrics.duration_s;
  out["completed"] = metrics.completed;
  out["failed"] = metrics.failed;
  out["total_input_tokens"] = metrics.input_tokens;
  out["total_output_tokens"] = metrics.output_tokens;
  out["request_throughput"] = metrics.request_throughput;
  out["request_goodput"] = setup.goodput_asked ? Json(metrics.request_goodput) : Json();
  out["output_throughput"] = metrics.output_throughput;
  out["total_token_throughput"] = metrics.total_token_throughput;
  if (detailed) {
    out["input_lens"] = listed(answers, [](const BenchAnswer& answer) { return Json(answer.input_tokens); });
    out["output_lens"] = listed(answers, [](const BenchAnswer& answer) { return Json(answer.ok() ? answer.output_tokens : 0); });
    out["ttfts"] = listed(answers, [](const BenchAnswer& answer) { return Json(answer.ttft_s); });
    out["itls"] = listed(answers, [](const BenchAnswer& answer) { return Json(answer.itl_s); });
  }
  out["latencies"] = listed(answers, [](const BenchAnswer& answer) { return Json(answer.latency_s); });
  if (detailed) out["start_times"] = listed(answers, [](const BenchAnswer& answer) { return Json(answer.start_s); });
  out["queue_times"] = listed(answers, [](const BenchAnswer& answer) { return Json(answer.queue_s); });
  if (detailed) {
    out["generated_texts"] = listed(answers, [](const BenchAnswer& answer) { return Json(answer.text); });
    out["errors"] = listed(answers, [](const BenchAnswer& answer) { return Json(answer.error); });
  }
  out["max_output_tokens_per_s"] = metrics.max_output_tokens_per_s;
  out["max_concurrent_requests"] = metrics.max_concurrent_requests;
  out["rtfx"] = 0.0;  // of speech recognition; scripts written for vLLM's client look for it
  if (!result.rate_changes.is_null()) out["rps_change_events"] = result.rate_changes;
  if (result.speculation) put_speculation(out, *result.speculation);
  for (const Reported& metric : reported(setup, metrics)) {
    out[concat("mean_", metric.key, "_ms")] = metric.ms.mean;
    out[concat("median_", metric.key, "_ms")] = metric.ms.median;
    out[concat("std_", metric.key, "_ms")] = metric.ms.std;
    for (size_t i = 0; i < setup.percentiles.size(); ++i)
      out[concat("p", number_word(setup.percentiles[i]), "_", metric.key, "_ms")] = metric.ms.percentiles[i];
  }
  return out;
}

std::string serve_report(const ServeSetup& setup, const ServeResult& result) {
  const ServeMetrics& metrics = result.metrics;
  std::string out = centred(" Serving Benchmark Result ", '=');
  row(out, "Successful requests:", metrics.completed);
  row(out, "Failed requests:", metrics.failed);
  if (setup.max_concurrency) row(out, "Maximum request concurrency:", *setup.max_concurrency);
  if (setup.traffic.request_rate) row(out, "Request rate configured (RPS):", *setup.traffic.request_rate);
  row(out, "Benchmark duration (s):", metrics.duration_s);
  row(out, "Total input tokens:", metrics.input_tokens);
  row(out, "Total generated tokens:", metrics.output_tokens);
  row(out, "Request throughput (req/s):", metrics.request_throughput);
  if (setup.goodput_asked) row(out, "Request goodput (req/s):", metrics.request_goodput);
  row(out, "Output token throughput (tok/s):", metrics.output_throughput);
  row(out, "Peak output token throughput (tok/s):", metrics.max_output_tokens_per_s);
  row(out, "Peak concurrent requests:", static_cast<double>(metrics.max_concurrent_requests));
  row(out, "Total token throughput (tok/s):", metrics.total_token_throughput);
  for (const Reported& metric : reported(setup, metrics)) {
    out += centred(metric.title, '-');
    row(out, concat("Mean ", metric.name, " (ms):"), metric.ms.mean);
    row(out, concat("Median ", metric.name, " (ms):"), metric.ms.median);
    for (size_t i = 0; i < setup.percentiles.size(); ++i)
      row(out, concat("P", number_word(setup.percentiles[i]), " ", metric.name, " (ms):"), metric.ms.percentiles[i]);
  }
  if (const auto& speculation = result.speculation) {
    out += centred("Speculative Decoding", '-');
    row(out, "Acceptance rate (%):", speculation->acceptance_rate);
    row(out, "Acceptance length:", speculation->acceptance_length);
    row(out, "Drafts:", speculation->counters.drafts);
    row(out, "Draft tokens:", speculation->counters.draft_tokens);
    row(out, "Accepted tokens:", speculation->counters.accepted_tokens);
    if (!speculation->per_position_rates.empty()) out += "Per-position acceptance (%):\n";
    for (size_t i = 0; i < speculation->per_position_rates.size(); ++i)
      row(out, concat("  Position ", i, ":"), speculation->per_position_rates[i] * 100);
  }
  return out + std::string(kWidth, '=') + "\n";
}

std::string result_filename(const ServeSetup& setup) {
  const std::string model = setup.model_id.substr(setup.model_id.rfind('/') + 1);
  const std::string label = setup.label.value_or(setup.backend);
  const std::string concurrency = setup.max_concurrency ? concat("-concurrency", *setup.max_concurrency) : "";
  if (const auto& ramp = setup.traffic.ramp_up)
    return concat(label, "-ramp-up-", ramp->strategy, "-", ramp->start_rps, "qps-", ramp->end_rps, "qps", concurrency, "-", model, "-",
                  setup.date, ".json");
  const std::string rate = setup.traffic.request_rate ? float_word(*setup.traffic.request_rate) : "inf";
  return concat(label, "-", rate, "qps", concurrency, "-", model, "-", setup.date, ".json");
}

}  // namespace weir
