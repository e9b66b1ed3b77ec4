#include "weir/apps/bench_arrivals.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace weir {
namespace {

double rate_at(const RampUp& ramp, int64_t i, int64_t n) {
  const double progress = static_cast<double>(i) / static_cast<double>(std::max<int64_t>(n - 1, 1));
  const auto start = static_cast<double>(ramp.start_rps), end = static_cast<double>(ramp.end_rps);
  return ramp.strategy == "linear" ? start + (end - start) * progress : start * std::pow(end / start, progress);
}

}  // namespace

Arrivals plan_arrivals(int64_t n, const Traffic& traffic, uint64_t seed) {
  Arrivals out;
  out.at_s.assign(static_cast<size_t>(n), 0.0);
  if (n == 0 || (!traffic.request_rate && !traffic.ramp_up)) return out;
  std::mt19937_64 random(seed);
  double now = 0;
  int64_t last_rps = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double rate = traffic.ramp_up ? rate_at(*traffic.ramp_up, i, n) : *traffic.request_rate;
    const double shape = traffic.burstiness.value_or(1.0);
    // Mean shape * scale = 1 / rate.
    now += traffic.burstiness ? std::gamma_distribution<double>(shape, 1.0 / (rate * shape))(random) : 1.0 / rate;
    out.at_s[static_cast<size_t>(i)] = now;
    if (!traffic.ramp_up) continue;
    if (i == 0) {
      last_rps = traffic.ramp_up->start_rps;
      out.rate_changes.push_back({last_rps, 0.0});
    }
    while (last_rps < static_cast<int64_t>(rate)) out.rate_changes.push_back({++last_rps, now});
  }
  if (!traffic.ramp_up && now > 0) {
    const double factor = static_cast<double>(n) / *traffic.request_rate / now;
    for (double& at : out.at_s) at *= factor;
  }
  return out;
}

}  // namespace weir
