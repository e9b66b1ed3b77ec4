// Whole lives of an engine drawn from a seed: sizes of pools and budget, arrivals, priorities, aborts and failures. A fixed range of
// seeds is a test, an endless one a soak. Failures are gtest failures.
#pragma once

#include <cstdint>

namespace weir::testing {

// The scheduler alone, step by step, with invariants checked around each. Returns how often a sequence was preempted.
int64_t run_scheduler_case(uint32_t seed);

// An engine on its thread with several client threads. The interleaving is the operating system's; the answers are not.
void run_engine_case(uint32_t seed);

}  // namespace weir::testing
