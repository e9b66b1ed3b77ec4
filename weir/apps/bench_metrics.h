// From measured answers to the numbers of a report. Definitions are those of vLLM's `bench serve`, so that figures of both can be
// compared: TPOT = (latency - TTFT) / (output tokens - 1), numpy's percentiles (linear between neighbours), population deviation.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "weir/apps/bench_answer.h"

namespace weir {

// p in [0, 100]. Zero for no values.
double percentile(std::vector<double> values, double p);

struct Distribution {
  double mean = 0, median = 0, std = 0;
  std::vector<double> percentiles;  // parallel to those asked for
};
// Zeros for no values, as vLLM has it.
Distribution describe(const std::vector<double>& values, std::span<const double> percentiles);

// Milliseconds a request may take at most to count as good; nullopt: no limit.
struct Goodput {
  std::optional<double> ttft_ms, tpot_ms, e2el_ms;

  bool asked() const { return ttft_ms || tpot_ms || e2el_ms; }
};

struct ServeMetrics {
  int64_t completed = 0, failed = 0;
  int64_t input_tokens = 0, output_tokens = 0;
  double duration_s = 0;
  double request_throughput = 0, request_goodput = 0, output_throughput = 0, total_token_throughput = 0;  // per second
  double max_output_tokens_per_s = 0;   // events in the busiest second: a chunk counts once, whatever tokens it carries
  int64_t max_concurrent_requests = 0;  // the true peak, as vLLM after 0.32; until then it counted all requests of one second
  // Of successful requests, in seconds.
  std::vector<double> ttft_s, tpot_s, itl_s, e2el_s;  // tpot_s: of answers with two tokens or more
  std::vector<double> queue_s;                        // waiting in the client
};

ServeMetrics measure(std::span<const BenchAnswer> answers, double duration_s, const Goodput& goodput);

// Counters of speculative decoding in a server's /metrics.
struct SpeculationCounters {
  int64_t drafts = 0, draft_tokens = 0, accepted_tokens = 0;
  std::map<int64_t, int64_t> accepted_per_position;
};
// nullopt when the server has none. Lines that cannot be read are skipped: the text comes from anybody.
std::optional<SpeculationCounters> read_speculation_counters(std::string_view prometheus_text);

struct Speculation {
  SpeculationCounters counters;            // of this run
  double acceptance_rate = 0;              // percent of draft tokens
  double acceptance_length = 0;            // tokens per draft, the always valid one included
  std::vector<double> per_position_rates;  // accepted at this position, per draft
};
// nullopt when either is missing or nothing was drafted in between.
std::optional<Speculation> speculation_between(const std::optional<SpeculationCounters>& before,
                                               const std::optional<SpeculationCounters>& after);

}  // namespace weir
