// The compute threads of one rank: a fork-join team, pinned one per physical core, spinning briefly between jobs and sleeping
// (0 % CPU) when nothing runs. The calling thread is member 0 of the team, so a pool of size 1 starts no thread.
//
// What a pool runs takes floats below the normal ones (1.2e-38) for zeros, on every thread alike: states and weights of old tokens decay
// into them, and Intel's processors then take some 150 cycles for each instruction. The caller's own setting is as before when a call
// returns.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>

#include "weir/base/placement.h"
#include "weir/base/profiler.h"

namespace weir {

// A borrowed callable: no allocation, valid only during the call it is passed to.
template <class Signature>
class FunctionRef;
template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>)
  FunctionRef(F&& f)  // NOLINT(google-explicit-constructor): lambdas are meant to convert
      : object_(const_cast<void*>(static_cast<const void*>(&f))), call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(static_cast<Args>(args)...);
        }) {}
  R operator()(Args... args) const { return call_(object_, static_cast<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

class ThreadPool {
 public:
  // The calling thread, which is thread 0, is bound by its first run().
  explicit ThreadPool(Placement placement);
  // num_threads <= 0: one per physical core this process may run on. pin: bound to these, as place_threads does by itself.
  explicit ThreadPool(int num_threads, bool pin = true);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  // run() tells it how long the caller waits for the others when its own part is done. nullptr: nobody asks.
  void set_profiler(Profiler* profiler);

  // Runs body(thread) once on each of the size() threads and returns when all are done. body must not throw and must not call run().
  // One caller at a time.
  void run(FunctionRef<void(int)> body);

  // Inside run(): waits for the other threads. Every thread must call it the same number of times.
  void barrier();

  // Splits [0, n) into contiguous near-equal ranges, one per thread: body(begin, end, thread). Threads with an empty range are not
  // called. Below min_per_thread items per thread, fewer threads are used; a single range runs on the caller without waking anyone.
  void parallel_for(int64_t n, int64_t min_per_thread, FunctionRef<void(int64_t, int64_t, int)> body);

  // Items of uneven cost: threads take the next item of [0, n) until none is left.
  void parallel_items(int64_t n, FunctionRef<void(int64_t, int)> body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weir
