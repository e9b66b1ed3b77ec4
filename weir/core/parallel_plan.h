// Which shard of the model a rank holds: a pure function of the flags and the rank.
#pragma once

#include <cstdint>

namespace weir {

struct ParallelPlan {
  int32_t tp_size = 1, tp_rank = 0;

  // Rows [begin, end) of `total` that this rank owns when they are split evenly.
  struct Range {
    int64_t begin = 0, end = 0;
    int64_t size() const { return end - begin; }
  };
  Range shard(int64_t total) const;  // throws Error when tp_size does not divide total
};

}  // namespace weir
