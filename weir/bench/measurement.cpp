#include "weir/bench/measurement.h"

#include <algorithm>
#include <vector>

namespace weir::bench {
namespace {

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Calls of a round take about so long together: enough that the clock and the first call's cold caches do not matter.
constexpr double kRoundSeconds = 10e-3;
constexpr int64_t kMostCalls = 4096;

}  // namespace

Measurement measure(Machine& machine, const KernelCase& kernel, int rounds) {
  kernel.run();  // pages touched, tables made
  const double begin = machine.clock().seconds();
  kernel.run();
  const double once = machine.clock().seconds() - begin;
  const int64_t calls = std::clamp(static_cast<int64_t>(kRoundSeconds / std::max(once, 1e-9)), int64_t{1}, kMostCalls);
  std::vector<double> seconds, bytes, operations, read, compute, share;
  for (int round = 0; round < rounds; ++round) {
    read.push_back(machine.read_rate(machine.threads()));
    compute.push_back(machine.compute_rate(kernel.type));
    const double start = machine.clock().seconds();
    Cost cost;
    for (int64_t i = 0; i < calls; ++i) cost += kernel.run();
    const double took = machine.clock().seconds() - start;
    seconds.push_back(took / static_cast<double>(calls));
    bytes.push_back(cost.bytes / took);
    operations.push_back(cost.operations / took);
    share.push_back(std::max(cost.bytes / read.back(), cost.operations / compute.back()) / took);
  }
  return {median(seconds), median(bytes), median(operations), median(read), median(compute), median(share)};
}

}  // namespace weir::bench
