// What every operator needs beside its tensors: the compute threads, the arena that results and scratch come from, and who asks for the
// time.
#pragma once

#include "weir/base/profiler.h"
#include "weir/base/thread_pool.h"
#include "weir/tensor/arena.h"

namespace weir::ops {

struct Context {
  ThreadPool& pool;
  Arena& arena;
  Profiler* profiler = nullptr;
};

}  // namespace weir::ops
