// The machine's ceilings, measured with the threads that the operators use.
#pragma once

#include <time.h>

#include "weir/base/thread_pool.h"
#include "weir/kernels/cpu/ceiling.h"
#include "weir/tensor/tensor.h"

namespace weir::bench {

class Clock {
 public:
  // on_cpu: the time this thread was on a CPU instead of the time on the clock, for a machine that is busy with something else.
  explicit Clock(bool on_cpu) : id_(on_cpu ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC) {}
  double seconds() const {
    timespec now{};
    clock_gettime(id_, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  }

 private:
  clockid_t id_;
};

class Machine {
 public:
  // Borrows pool. Takes 512 MiB.
  Machine(ThreadPool& pool, Clock clock);

  const Clock& clock() const { return clock_; }
  int threads() const { return pool_.size(); }

  // Bytes per second of `threads` <= threads() threads that read disjoint parts of memory far larger than the cache.
  double read_rate(int threads);
  // Operations per second of all threads, in registers: kBF16, kF32 or kI8.
  double compute_rate(DType type);

 private:
  ThreadPool& pool_;
  Clock clock_;
  const cpu::CoreCeilings& core_;
  Tensor memory_;
  std::vector<uint64_t> sums_;      // so that the reads are needed
  std::vector<double> operations_;  // per thread
};

}  // namespace weir::bench
