// Everything a forward pass may touch, passed from the runner down to each layer and never global.
#pragma once

#include <vector>

#include "weir/comm/communicator.h"
#include "weir/ops/context.h"
#include "weir/ops/elementwise.h"
#include "weir/ops/rows.h"

namespace weir {

// The caches of one rank. Entry i belongs to the i-th layer of its kind.
struct CacheTensors {
  std::vector<Tensor> kv;     // per attention layer, see ops/attention.h
  std::vector<Tensor> delta;  // per delta-net layer, see ops/delta_net.h
  std::vector<Tensor> conv;   // per delta-net layer
};

struct Step {
  ops::Context& ctx;
  const ops::Rows& rows;
  ops::RopeTable rope;  // of this step's tokens; shared by all attention layers
  CacheTensors& cache;
  Communicator& tp;
};

}  // namespace weir
