#include "tests/hot_path/counting.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

// glibc's own names. NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming)
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
}
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)

namespace {

constexpr int kMostThreads = 256;

struct Thread {
  std::atomic<bool> taken{false};
  pthread_t id{};
  std::atomic<int64_t> allocations{0}, locks{0};
};
Thread threads[kMostThreads];  // of threads that have ended, too
thread_local Thread* mine = nullptr;
thread_local bool traces = false;

Thread* this_thread() {
  if (mine == nullptr) {
    for (Thread& thread : threads) {
      if (thread.taken.exchange(true)) continue;
      thread.id = pthread_self();
      mine = &thread;
      break;
    }
    if (mine == nullptr) std::abort();
  }
  return mine;
}

void count_allocation() {
  this_thread()->allocations.fetch_add(1, std::memory_order_relaxed);
  if (!traces) return;
  traces = false;
  void* frames[32];
  backtrace_symbols_fd(frames, backtrace(frames, 32), STDERR_FILENO);
  static constexpr char kLine[] = "----\n";
  if (::write(STDERR_FILENO, kLine, sizeof kLine - 1) < 0) std::abort();
  traces = true;
}

}  // namespace

extern "C" {

void* malloc(size_t size) {
  count_allocation();
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  count_allocation();
  return __libc_calloc(count, size);
}
void* realloc(void* old, size_t size) {
  count_allocation();
  return __libc_realloc(old, size);
}
void* memalign(size_t alignment, size_t size) {
  count_allocation();
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void** out, size_t alignment, size_t size) {
  *out = memalign(alignment, size);
  return *out == nullptr ? ENOMEM : 0;
}

int pthread_mutex_lock(pthread_mutex_t* mutex) {
  using Lock = int (*)(pthread_mutex_t*);
  static std::atomic<Lock> real{nullptr};
  if (real.load(std::memory_order_relaxed) == nullptr) real = reinterpret_cast<Lock>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  this_thread()->locks.fetch_add(1, std::memory_order_relaxed);
  return real.load(std::memory_order_relaxed)(mutex);
}

}  // extern "C"

namespace weir::testing {

Counts counts_of_this_thread() {
  const Thread& thread = *this_thread();
  return {thread.allocations, thread.locks};
}

Counts counts_of_threads(const char* prefix) {
  Counts out;
  for (Thread& thread : threads) {
    char name[16] = {};
    if (!thread.taken || pthread_getname_np(thread.id, name, sizeof name) != 0) continue;
    if (std::strncmp(name, prefix, std::strlen(prefix)) != 0) continue;
    out.allocations += thread.allocations;
    out.locks += thread.locks;
  }
  return out;
}

void trace_allocations(bool on) { traces = on; }

}  // namespace weir::testing
