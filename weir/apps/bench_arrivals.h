// When the requests of a load test are sent, as vLLM's `bench serve` does: at a rate, with gamma-distributed gaps, or ramping up.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace weir {

struct RampUp {
  std::string strategy;                // "linear" or "exponential"
  int64_t start_rps = 1, end_rps = 1;  // 1 <= start <= end
};

struct Traffic {
  std::optional<double> request_rate;      // per second, > 0; nullopt: all at once
  std::optional<double> burstiness = 1.0;  // > 0, the gamma distribution's shape; 1: Poisson; nullopt (infinite): even gaps
  std::optional<RampUp> ramp_up;           // instead of request_rate
};

// A whole number of requests per second that a ramp reached.
struct RateChange {
  int64_t rps;
  double at_s;
};

struct Arrivals {
  std::vector<double> at_s;              // rising, seconds after the start
  std::vector<RateChange> rate_changes;  // of a ramp
};

// Without a ramp the last request arrives after exactly n / request_rate seconds, so that runs with other seeds can be compared.
Arrivals plan_arrivals(int64_t n, const Traffic& traffic, uint64_t seed);

}  // namespace weir
