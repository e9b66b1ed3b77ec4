// The CPU side of ops/linear.h: how products are divided among threads. Callers use ops/linear.h; tests come here to name the kernels.
#pragma once

#include "weir/kernels/cpu/linear.h"
#include "weir/ops/linear.h"

namespace weir::ops {

using weir::cpu::kGroupRows;
using weir::cpu::kTileColumns;
using weir::cpu::LinearKernels;
using weir::cpu::ProductKernels;

inline const ProductKernels& product_kernels(const LinearKernels& kernels, DType weights) {
  return weights == DType::kBF16 ? kernels.bf16 : kernels.f32;
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The layout of a PackedMatrix: tiles of 16 weight rows, one after another, each [steps][16] (kernels/cpu/linear.h says what a step is).
inline int64_t num_steps(int64_t k, DType weights) { return weights == DType::kBF16 ? (k + 1) / 2 : k; }
inline int64_t num_tiles(int64_t n) { return ceil_div(n, kTileColumns); }
inline const uint32_t* tile(const PackedMatrix& w, int64_t index) {
  return static_cast<const uint32_t*>(w.storage().raw()) + index * num_steps(w.k(), w.dtype()) * kTileColumns;
}

// Rows in nearly equal groups of at most 12: 13 rows are 7 + 6, because a group of one would not keep the multipliers busy.
struct Groups {
  int64_t rows = 0, count = 0;
  explicit Groups(int64_t num_rows) : rows(num_rows), count(ceil_div(num_rows, kGroupRows)) {}
  int64_t begin(int64_t group) const { return group * rows / count; }
  int size(int64_t group) const { return static_cast<int>(begin(group + 1) - begin(group)); }
};

// y (= or +=) x wᵀ; the shapes are checked by the caller.
void linear_cpu(const LinearKernels& kernels, Context& ctx, const Tensor& x, const PackedMatrix& w, Tensor& y, bool add);
void experts_add_cpu(const LinearKernels& kernels, Context& ctx, const Tensor& x, const Routing& routing, const ExpertWeights& experts,
                     Tensor& y);

}  // namespace weir::ops
