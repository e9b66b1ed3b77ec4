// Whole lives of an engine drawn from a seed: sizes of pools and budget, arrivals, texts that repeat
// and continue each other, priorities, aborts and failures. A fixed range of
// seeds is a test, an endless one a soak. Failures are gtest failures.
#pragma once

#include <cstdint>

namespace weir::testing {

struct CaseCounts {
  int64_t preemptions = 0, prefix_hits = 0, tier_hits = 0, accepted_drafts = 0;
};

// The scheduler alone, step by step, with invariants checked around each.
CaseCounts run_scheduler_case(uint32_t seed);

// An engine on its thread with several client threads. The interleaving is the operating system's; the answers are not.
void run_engine_case(uint32_t seed);

}  // namespace weir::testing
