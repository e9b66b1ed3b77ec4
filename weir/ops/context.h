// What every operator needs beside its tensors: the compute threads and the arena that results and scratch come from.
#pragma once

#include "weir/base/thread_pool.h"
#include "weir/tensor/arena.h"

namespace weir::ops {

struct Context {
  ThreadPool& pool;
  Arena& arena;
};

}  // namespace weir::ops
