#include "weir/base/thread_pool.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <numeric>
#include <thread>
#include <vector>

namespace weir {
namespace {

class ThreadPoolOf : public testing::TestWithParam<int> {
 protected:
  ThreadPool pool{GetParam(), /*pin=*/false};
};

TEST_P(ThreadPoolOf, RunsTheBodyOncePerThreadAndThenReturns) {
  std::vector<int> calls(static_cast<size_t>(pool.size()));
  for (int round = 1; round <= 1000; ++round) {
    pool.run([&](int thread) { ++calls[static_cast<size_t>(thread)]; });
    for (const int n : calls) ASSERT_EQ(n, round);
  }
}

TEST_P(ThreadPoolOf, BarrierSeparatesPhases) {
  const auto size = static_cast<size_t>(pool.size());
  std::vector<int> written(size), sums(size);
  for (int round = 0; round < 200; ++round) {
    pool.run([&](int thread) {
      for (int phase = 0; phase < 3; ++phase) {
        written[static_cast<size_t>(thread)] = round + phase;
        pool.barrier();
        sums[static_cast<size_t>(thread)] = std::accumulate(written.begin(), written.end(), 0);
        pool.barrier();
        ASSERT_EQ(sums[static_cast<size_t>(thread)], (round + phase) * pool.size());
      }
    });
  }
}

TEST_P(ThreadPoolOf, ParallelForCoversTheRangeOnceInContiguousParts) {
  for (const int64_t n : {0, 1, 2, 7, 100}) {
    std::vector<int> seen(static_cast<size_t>(n));
    std::atomic<int> parts = 0;
    pool.parallel_for(n, 1, [&](int64_t begin, int64_t end, int thread) {
      EXPECT_LT(begin, end);
      EXPECT_LT(thread, pool.size());
      for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
      ++parts;
    });
    EXPECT_EQ(parts, std::min<int64_t>(n, pool.size()));
    for (const int count : seen) EXPECT_EQ(count, 1);
  }
}

TEST_P(ThreadPoolOf, TakesFloatsBelowTheNormalOnesForZerosAndLeavesTheCallerAsItWas) {
  const volatile float small = 1e-30f, below = 1e-40f;  // read when they are used, not by the compiler
  const auto denormal = [&] { return small * 1e-10f != 0.0f || below * 1e10f != 0.0f; };
  std::atomic<int> bodies = 0, denormals = 0;
  const auto look = [&] { ++bodies, denormals += denormal() ? 1 : 0; };
  pool.run([&](int) { look(); });
  for (const int64_t n : {1, 100}) {
    pool.parallel_for(n, 1, [&](int64_t, int64_t, int) { look(); });
    pool.parallel_items(n, [&](int64_t, int) { look(); });
  }
  EXPECT_EQ(bodies, pool.size() + (1 + 1) + (std::min(100, pool.size()) + 100));
  EXPECT_EQ(denormals, 0);
  EXPECT_TRUE(denormal());
}

TEST_P(ThreadPoolOf, ParallelForKeepsSmallWorkOnTheCaller) {
  const auto caller = std::this_thread::get_id();
  int calls = 0;
  pool.parallel_for(10, /*min_per_thread=*/10, [&](int64_t begin, int64_t end, int thread) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    EXPECT_EQ(end - begin, 10);
    EXPECT_EQ(thread, 0);
    ++calls;
  });
  EXPECT_EQ(calls, 1);
}

TEST_P(ThreadPoolOf, ParallelItemsTakesEveryItemOnce) {
  for (const int64_t n : {0, 1, 3, 1000}) {
    std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
    pool.parallel_items(n, [&](int64_t item, int) { ++seen[static_cast<size_t>(item)]; });
    for (const auto& count : seen) EXPECT_EQ(count, 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolOf, testing::Values(1, 2, 3, 5), testing::PrintToStringParamName());

cpu_set_t affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof(set), &set);
  return set;
}

// On a thread of its own: pinning the test's main thread would follow it into every later test.
TEST(ThreadPool, PinningTheCallerHidesNoCoresFromLaterPools) {
  const int cores = num_physical_cores();
  std::thread([&] {
    const cpu_set_t before = affinity();
    {
      ThreadPool pinned(0);
      EXPECT_EQ(pinned.size(), cores);
      pinned.run([](int) {});
    }
    EXPECT_EQ(num_physical_cores(), cores);
    EXPECT_EQ(ThreadPool(0).size(), cores);
    ThreadPool free(2, /*pin=*/false);
    free.run([&](int thread) {
      if (thread == 0) return;  // the caller, pinned above
      const cpu_set_t now = affinity();
      EXPECT_TRUE(CPU_EQUAL(&now, &before));
    });
  }).join();
}

TEST(ThreadPool, TakesAsManyThreadsAsAreAskedFor) {
  EXPECT_EQ(ThreadPool(4).size(), 4);
  EXPECT_GE(ThreadPool(0).size(), 1);
}

}  // namespace
}  // namespace weir
