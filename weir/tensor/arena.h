// Arena: the activations of one step. A bump allocator over one reserved address range: stable addresses, no per-step allocation,
// memory touched once stays resident for the next step. Rank thread only.
#pragma once

#include <cstddef>

#include "weir/tensor/tensor.h"

namespace weir {

class Arena {
 public:
  // Reserves (does not touch) `bytes` of address space; asking for more in one step is a bug in the memory plan and aborts.
  explicit Arena(size_t bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Uninitialised, 64-byte aligned, dense; valid until the enclosing Scope ends or reset().
  Tensor empty(Shape shape, DType type = DType::kF32);
  void* bytes(size_t size);

  // About the first `size` bytes it hands out in every step, as [n, bytes]: for who touches them before a step does.
  Tensor first(size_t size);

  void reset() { used_ = 0; }
  size_t used() const { return used_; }
  size_t peak() const { return peak_; }
  size_t capacity() const { return capacity_; }

  // Gives back, when it ends, everything taken since it began: for temporaries of one layer.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), mark_(arena.used_) {}
    ~Scope() { arena_.used_ = mark_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    size_t mark_;
  };

 private:
  std::byte* base_ = nullptr;
  size_t capacity_ = 0, used_ = 0, peak_ = 0;
};

}  // namespace weir
