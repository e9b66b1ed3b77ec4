// The CPU side of ops/linear.h: how products are divided among threads. Callers use ops/linear.h; tests come here to name the kernels.
#pragma once

#include <algorithm>

#include "weir/kernels/cpu/linear.h"
#include "weir/ops/linear.h"

namespace weir::ops {

using weir::cpu::kGroupRows;
using weir::cpu::kTileColumns;
using weir::cpu::LinearKernels;
using weir::cpu::ProductKernels;

inline const ProductKernels& product_kernels(const LinearKernels& kernels, DType weights) {
  switch (weights) {
    case DType::kI8: return kernels.i8;
    case DType::kBF16: return kernels.bf16;
    default: return kernels.f32;
  }
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The layout of a PackedMatrix: tiles of 16 weight rows, one after another, each [steps][16] (kernels/cpu/linear.h says what a step is).
inline int64_t num_steps(int64_t k, DType weights) {
  switch (weights) {
    case DType::kI8: return ceil_div(k, 4) + weir::cpu::kInt8ExtraSteps;
    case DType::kBF16: return ceil_div(k, 2);
    default: return k;
  }
}
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

// Two tiles that are multiplied together.
struct TilePair {
  const uint32_t *tile0, *tile1;
};

// What to prefetch during `group`, of those in [first, last) that are multiplied with `here` one after another, before `next` is. The
// only group reads its own tiles a little ahead; otherwise the last two groups fetch the next pair, so that its first group finds it in the
// cache and the memory works while the others compute.
inline weir::cpu::Ahead ahead_of(const Groups& groups, int64_t group, int64_t first, int64_t last, int64_t steps, const TilePair& here,
                                 const TilePair& next) {
  const int64_t ahead = weir::cpu::ahead_steps(groups.size(group)), distance = ahead * kTileColumns;
  const int64_t near = std::max<int64_t>(0, steps - ahead) * kTileColumns;
  weir::cpu::Ahead out{here.tile0 + distance, here.tile1 + distance, next.tile0, next.tile1};
  if (last - first >= 2 && group == last - 2) out.near0 = next.tile0, out.far0 = next.tile0 + near;
  if (last - first >= 2 && group == last - 1) out.near1 = next.tile1, out.far1 = next.tile1 + near;
  return out;
}

// y (= or +=) x wᵀ; the shapes are checked by the caller.
void linear_cpu(const LinearKernels& kernels, Context& ctx, const Tensor& x, const PackedMatrix& w, Tensor& y, bool add);
void linear_cpu(const LinearKernels& kernels, Context& ctx, const RoundedRows& x, const PackedMatrix& w, Tensor& y, bool add);
void experts_add_cpu(const LinearKernels& kernels, Context& ctx, const RoundedRows& x, const Routing& routing, const ExpertWeights& experts,
                     Tensor& y);
RoundedRows round_rows_cpu(const LinearKernels& kernels, Context& ctx, const Tensor& x, const InputForms& forms);

}  // namespace weir::ops
