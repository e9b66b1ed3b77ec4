// The CPU side of ops/linear.h: how products are divided among threads. Callers use ops/linear.h; tests come here to name the kernels.
#pragma once

#include <algorithm>

#include "weir/kernels/cpu/coded.h"
#include "weir/kernels/cpu/linear.h"
#include "weir/ops/linear.h"

namespace weir::ops {

using weir::cpu::kTileColumns;
using weir::cpu::LinearKernels;
using weir::cpu::PanelRun;
using weir::cpu::Panels;
using weir::cpu::ProductKernels;
using weir::cpu::TilePair;

inline const ProductKernels& product_kernels(const LinearKernels& kernels, DType weights) {
  switch (weights) {
    case DType::kI8: return kernels.i8;
    case DType::kBF16: return kernels.bf16;
    default: return kernels.f32;
  }
}

inline weir::cpu::Multiply multiply_kernel(const LinearKernels& kernels, const PackedMatrix& w) {
  return w.coding() == WeightCoding::kTwelveBits ? kernels.multiply_coded : product_kernels(kernels, w.dtype()).multiply;
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The layout of a PackedMatrix: tiles of 16 weight rows, one after another, each [steps][16] (kernels/cpu/linear.h says what a step is) or
// coded (kernels/cpu/coded.h).
inline int64_t num_steps(int64_t k, DType weights) {
  switch (weights) {
    case DType::kI8: return ceil_div(k, 4) + weir::cpu::kInt8ExtraSteps;
    case DType::kBF16: return ceil_div(k, 2);
    default: return k;
  }
}
inline int64_t num_tiles(int64_t n) { return ceil_div(n, kTileColumns); }
inline int64_t tile_words(int64_t k, DType weights, WeightCoding coding) {
  const int64_t steps = num_steps(k, weights);
  return coding == WeightCoding::kTwelveBits ? weir::cpu::coded_words(steps) : steps * kTileColumns;
}
inline const uint32_t* tile(const PackedMatrix& w, int64_t index) {
  return static_cast<const uint32_t*>(w.storage().raw()) + index * tile_words(w.k(), w.dtype(), w.coding());
}

// Steps of a row in a panel.
inline int64_t panel_steps(const LinearKernels& kernels, int64_t k, DType weights) {
  const int64_t extra = weights == DType::kI8 ? weir::cpu::kInt8ExtraSteps : 0;
  return ceil_div(num_steps(k, weights) - extra, kernels.panel_align) * kernels.panel_align + extra;
}

// y (= or +=) x wᵀ; the shapes are checked by the caller.
void linear_cpu(const LinearKernels& kernels, Context& ctx, const Tensor& x, const PackedMatrix& w, Tensor& y, bool add);
void linear_cpu(const LinearKernels& kernels, Context& ctx, const RoundedRows& x, const PackedMatrix& w, Tensor& y, bool add);
void experts_add_cpu(const LinearKernels& kernels, Context& ctx, const RoundedRows& x, const Routing& routing, const ExpertWeights& experts,
                     Tensor& y);
RoundedRows round_rows_cpu(const LinearKernels& kernels, Context& ctx, const Tensor& x, const InputForms& forms);

}  // namespace weir::ops
