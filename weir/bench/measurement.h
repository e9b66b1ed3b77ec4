// One operator at one shape, timed in turns with the ceilings of the machine.
#pragma once

#include <functional>
#include <string>

#include "weir/bench/machine.h"

namespace weir::bench {

// What a run of the operator must at least do: bytes that come from memory and are not in a cache, and operations of `type`.
struct Cost {
  double bytes = 0, operations = 0;
  Cost& operator+=(const Cost& more) {
    bytes += more.bytes, operations += more.operations;
    return *this;
  }
};

struct KernelCase {
  std::string kernel;         // "linear, delta net in"
  std::string shape;          // "24576 x 4096"
  DType type = DType::kF32;   // of its arithmetic: which ceiling it has
  int64_t tokens = 0;         // of one call
  std::function<Cost()> run;  // calls the operator once, with other weights or states than the last time
};

struct Measurement {
  double seconds = 0;                         // of one call
  double bytes_rate = 0, operation_rate = 0;  // per second
  double read_ceiling = 0, compute_ceiling = 0;
  double of_bound =
      0;  // the time in which the machine could have read the bytes or done the operations, whichever is longer, over the time
};

// Medians over `rounds` rounds, each of which also measures the ceilings, because a machine's own speed moves from minute to minute.
Measurement measure(Machine& machine, const KernelCase& kernel, int rounds);

}  // namespace weir::bench
