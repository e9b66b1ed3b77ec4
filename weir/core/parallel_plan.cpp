#include "weir/core/parallel_plan.h"

#include "weir/base/error.h"

namespace weir {

ParallelPlan::Range ParallelPlan::shard(int64_t total) const {
  if (total % tp_size != 0)
    fail(ErrorCode::kInvalidArgument, "--tensor-parallel-size ", tp_size, " does not divide a dimension of ", total);
  const int64_t each = total / tp_size;
  return {each * tp_rank, each * (tp_rank + 1)};
}

}  // namespace weir
