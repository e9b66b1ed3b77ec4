#include "weir/base/thread_pool.h"

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>
#include <vector>

#include "weir/base/check.h"

namespace weir {
namespace {

// Between jobs: long enough to bridge the gap between two operators of a step, short enough to cost nothing when the server is idle.
constexpr int kIdleSpins = 20'000;
// Within a job: a thread that is this late (some 20 µs) has probably lost its core to another program, which should then get ours too.
constexpr int kLateSpins = 2'000;

// What a thread may use that is not bound: the affinity the process started with, since whoever makes the thread may be bound itself.
const cpu_set_t& first_affinity() {
  static const cpu_set_t seen = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof(set), &set);
    return set;
  }();
  return seen;
}

void pin_to(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  pthread_setaffinity_np(pthread_self(), sizeof(set), &set);  // best effort: a container may forbid it
}

// Floats below the normal ones are zeros, read or written, as long as this lives.
class FlushDenormals {
 public:
  FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON); }
  ~FlushDenormals() { _mm_setcsr(before_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  unsigned before_;
};

}  // namespace

struct ThreadPool::State {
  int size = 1;
  int idle_spins = kIdleSpins, late_spins = kLateSpins;
  std::vector<int> cores;                        // cores[i]: where thread i is pinned; empty: not pinned
  std::vector<std::thread> threads;              // members 1 … size-1
  const FunctionRef<void(int)>* body = nullptr;  // published by epoch
  std::atomic<uint32_t> epoch{0};                // grows by one per run()
  std::atomic<int> pending{0};                   // members still inside body
  std::atomic<bool> stop{false};
  alignas(64) std::atomic<int> arrived{0};  // barrier
  alignas(64) std::atomic<uint32_t> phase{0};
  bool caller_pinned = false;
  Profiler* profiler = nullptr;
  std::atomic<int64_t> next_item{0};

  void spin_or_yield(int& spins) const {
    if (++spins < late_spins) {
      _mm_pause();
    } else {
      std::this_thread::yield();
    }
  }

  void member(int index) {
    pthread_setname_np(pthread_self(), "weir-compute");
    if (cores.empty()) {
      pthread_setaffinity_np(pthread_self(), sizeof(cpu_set_t), &first_affinity());
    } else {
      pin_to(cores[static_cast<size_t>(index)]);
    }
    const FlushDenormals flush;
    uint32_t seen = 0;
    for (;;) {
      int spins = 0;
      while (epoch.load(std::memory_order_acquire) == seen) {
        if (++spins < idle_spins) {
          _mm_pause();
        } else {
          epoch.wait(seen, std::memory_order_acquire);
        }
      }
      ++seen;
      if (stop.load(std::memory_order_acquire)) return;
      (*body)(index);
      pending.fetch_sub(1, std::memory_order_acq_rel);
    }
  }
};

ThreadPool::ThreadPool(int num_threads, bool pin)
    : ThreadPool(place_threads(this_machine(), std::max(0, num_threads), NumaMode::kAuto, pin)) {}

ThreadPool::ThreadPool(Placement placement) : state_(std::make_unique<State>()) {
  const int num_threads = placement.num_threads;
  std::vector<int>& cpus = placement.cpus;
  WEIR_CHECK(num_threads >= 1 && (cpus.empty() || cpus.size() == static_cast<size_t>(num_threads)), num_threads, " threads, ", cpus.size(),
             " CPUs");
  first_affinity();
  state_->size = num_threads;
  state_->cores = std::move(cpus);
  if (static_cast<size_t>(num_threads) > this_machine().size())
    state_->idle_spins = state_->late_spins = 1;  // somebody else of the team waits for the core that would spin
  for (int i = 1; i < state_->size; ++i) state_->threads.emplace_back([state = state_.get(), i] { state->member(i); });
}

ThreadPool::~ThreadPool() {
  state_->stop.store(true, std::memory_order_release);
  state_->epoch.fetch_add(1, std::memory_order_release);
  state_->epoch.notify_all();
  for (std::thread& t : state_->threads) t.join();
}

int ThreadPool::size() const { return state_->size; }

void ThreadPool::set_profiler(Profiler* profiler) { state_->profiler = profiler; }

void ThreadPool::run(FunctionRef<void(int)> body) {
  State& s = *state_;
  if (!s.caller_pinned && !s.cores.empty()) {
    pin_to(s.cores[0]);
    s.caller_pinned = true;
  }
  const FlushDenormals flush;
  if (s.size == 1) return body(0);
  s.body = &body;
  s.pending.store(s.size - 1, std::memory_order_relaxed);
  s.epoch.fetch_add(1, std::memory_order_release);
  s.epoch.notify_all();
  body(0);
  const Span span(s.profiler, "wait for threads");
  for (int spins = 0; s.pending.load(std::memory_order_acquire) != 0;) {
    s.spin_or_yield(spins);
  }
}

void ThreadPool::barrier() {
  State& s = *state_;
  if (s.size == 1) return;
  const uint32_t phase = s.phase.load(std::memory_order_acquire);
  if (s.arrived.fetch_add(1, std::memory_order_acq_rel) == s.size - 1) {
    s.arrived.store(0, std::memory_order_relaxed);
    s.phase.fetch_add(1, std::memory_order_release);
    return;
  }
  for (int spins = 0; s.phase.load(std::memory_order_acquire) == phase;) {
    s.spin_or_yield(spins);
  }
}

void ThreadPool::parallel_for(int64_t n, int64_t min_per_thread, FunctionRef<void(int64_t, int64_t, int)> body) {
  if (n <= 0) return;
  const int64_t useful = std::max<int64_t>(1, n / std::max<int64_t>(1, min_per_thread));
  const int64_t parts = std::min<int64_t>(state_->size, useful);
  if (parts == 1) {
    const FlushDenormals flush;
    return body(0, n, 0);
  }
  run([&](int thread) {
    if (thread >= parts) return;
    const int64_t begin = n * thread / parts, end = n * (thread + 1) / parts;
    if (begin < end) body(begin, end, thread);
  });
}

void ThreadPool::parallel_items(int64_t n, FunctionRef<void(int64_t, int)> body) {
  if (n <= 0) return;
  if (n == 1) {
    const FlushDenormals flush;
    return body(0, 0);
  }
  std::atomic<int64_t>& next = state_->next_item;
  next.store(0, std::memory_order_relaxed);
  run([&](int thread) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) body(i, thread);
  });
}

}  // namespace weir
