// Collectives among the ranks of one group (tensor parallel now; expert and data parallel later). The model calls them in a handful of
// places; implementations: self (here), threads of one process, UCX, NCCL, HCCL.
#pragma once

#include "weir/tensor/tensor.h"

namespace weir {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // x := sum of every rank's x, in a fixed order of ranks, so that all ranks hold the same bits. F32, dense. Throws Error when a peer is
  // lost.
  virtual void all_reduce(Tensor& x) = 0;
};

// A group of one: every collective is the identity.
class SelfCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void all_reduce(Tensor&) override {}
};

}  // namespace weir
