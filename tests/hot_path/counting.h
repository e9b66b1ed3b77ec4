// Counts what threads ask of the allocator and of mutexes: this program has its own malloc family and pthread_mutex_lock, which count for
// the calling thread and call glibc's.
#pragma once

#include <pthread.h>

#include <cstdint>

namespace weir::testing {

struct Counts {
  int64_t allocations = 0, locks = 0;
};

Counts counts_of_this_thread();
// Together of all threads whose name begins with `prefix`.
Counts counts_of_threads(const char* prefix);
// Prints the stack of each allocation of this thread to stderr, to find out who asks.
void trace_allocations(bool on);

}  // namespace weir::testing
