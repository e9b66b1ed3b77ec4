// Touches the memory of slots, pages and activations a little before a step needs it. Where the system gives memory at the first touch, and
// slowly (a virtual machine whose host does the same: 0.3 to 1 GB/s), a request would wait for it: each takes two new slots or more as long
// as there are any, 40 MiB of mini's.
// Only a margin is touched, as much as the next requests take, so that a large pool costs no memory until it is used.
// Relies on the order of the ids that plans name: those never used come last (cache/slot_pool.h). Rank thread only, between steps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "weir/core/plan.h"
#include "weir/tensor/tensor.h"

namespace weir {

class TouchAhead {
 public:
  // Row i of each tensor is memory of slot (page) i. activations: memory of the arena; all of it is touched.
  TouchAhead(std::vector<Tensor> slots, std::vector<Tensor> pages, const Tensor& activations);

  // A step has run: what it used needs no touching, and the margin is counted from there on.
  void note(const StepPlan& plan);

  // The next request would find less than it is likely to need.
  bool is_short() const { return slots_.is_short() || pages_.is_short(); }

  // Touches a piece, of some milliseconds at most; false: there is none.
  bool touch_piece();

 private:
  class Pool {
   public:
    Pool(std::vector<Tensor> tensors, int64_t margin);
    void use(int64_t id);
    bool is_short() const;
    bool touch_piece();

   private:
    int64_t wanted(int64_t margin) const;

    std::vector<Tensor> tensors_;
    int64_t size_, margin_, ids_per_piece_;
    int64_t used_ = 0;  // ids before are or were somebody's
    // Ids [begin, end) are being touched, those before have been; the tensor that is next for them.
    int64_t begin_ = 0, end_ = 0;
    size_t next_ = 0;
  };

  Pool slots_, pages_, activations_;
};

}  // namespace weir
