#include "weir/bench/machine.h"

#include <cstring>
#include <numeric>

#include "weir/kernels/cpu/isa.h"

namespace weir::bench {
namespace {

constexpr int64_t kBytes = int64_t{512} << 20;
constexpr int64_t kComputeRounds = 500'000;

}  // namespace

Machine::Machine(ThreadPool& pool, Clock clock)
    : pool_(pool),
      clock_(clock),
      core_(cpu::core_ceilings(cpu::active_isa())),
      memory_(Tensor::zeros({kBytes}, DType::kU8)),
      sums_(static_cast<size_t>(pool.size())),
      operations_(static_cast<size_t>(pool.size())) {
  std::memset(memory_.raw(), 1, kBytes);
}

double Machine::read_rate(int threads) {
  const int64_t part = kBytes / threads / 4096 * 4096;
  const double start = clock_.seconds();
  pool_.run([&](int thread) {
    if (thread < threads) sums_[static_cast<size_t>(thread)] = core_.read(memory_.data<uint8_t>() + thread * part, part);
  });
  return static_cast<double>(part * threads) / (clock_.seconds() - start);
}

double Machine::compute_rate(DType type) {
  const auto loop = type == DType::kI8 ? core_.i8 : type == DType::kBF16 ? core_.bf16 : core_.f32;
  const double start = clock_.seconds();
  pool_.run([&](int thread) { operations_[static_cast<size_t>(thread)] = loop(kComputeRounds); });
  const double seconds = clock_.seconds() - start;
  return std::accumulate(operations_.begin(), operations_.end(), 0.0) / seconds;
}

}  // namespace weir::bench
