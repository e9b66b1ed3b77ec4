// The specification of the kernels in linear.h.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "weir/kernels/cpu/linear_steps.h"

namespace weir::cpu {
namespace {

uint32_t round_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits >> 16) | 0x40u;  // NaN: rounding could turn it into infinity
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

uint32_t pair(float first, float second) { return round_to_bf16(first) | (round_to_bf16(second) << 16); }
float first_of(uint32_t step) { return std::bit_cast<float>(step << 16); }
float second_of(uint32_t step) { return std::bit_cast<float>(step & 0xffff0000u); }

void pack_panel_bf16(const float* x, int64_t stride, int rows, int /*room*/, int64_t k, const InputScale&, uint32_t* panel) {
  for (int r = 0; r < rows; ++r)
    for (int64_t i = 0; i < k; i += 2) panel[i / 2 * rows + r] = pair(x[r * stride + i], i + 1 < k ? x[r * stride + i + 1] : 0.0f);
}

void pack_panel_f32(const float* x, int64_t stride, int rows, int /*room*/, int64_t k, const InputScale&, uint32_t* panel) {
  for (int r = 0; r < rows; ++r)
    for (int64_t i = 0; i < k; ++i) panel[i * rows + r] = std::bit_cast<uint32_t>(x[r * stride + i]);
}

// The largest |x| of a row; NaN when the row has one, which a comparison of floats would lose.
float largest(const float* x, int64_t k) {
  uint32_t bits = 0;
  for (int64_t i = 0; i < k; ++i) bits = std::max(bits, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  return std::bit_cast<float>(bits);
}

uint32_t byte_of(float value) { return static_cast<uint32_t>(static_cast<int>(std::nearbyint(std::clamp(value, -128.0f, 127.0f))) + 128); }

void pack_panel_i8(const float* x, int64_t stride, int rows, int /*room*/, int64_t k, const InputScale& input, uint32_t* panel) {
  const int64_t steps = (k + 3) / 4;
  for (int r = 0; r < rows; ++r) {
    const float* row = x + r * stride;
    const float most = largest(row, k);
    float scale = input.scale, factor = std::isfinite(most) ? 1.0f : std::numeric_limits<float>::quiet_NaN();
    if (input.scale == 0) scale = factor = std::isnan(most) ? most : std::max(most / 127.0f, std::numeric_limits<float>::min());
    for (int64_t s = 0; s < steps; ++s) {
      uint32_t step = 0;
      for (int64_t i = 4 * s; i < 4 * s + 4; ++i) {
        const float value = i < k ? row[i] / scale + input.offset : 0.0f;
        step |= byte_of(std::isfinite(value) ? value : 0.0f) << (8 * (i % 4));
      }
      panel[s * rows + r] = step;
    }
    panel[steps * rows + r] = std::bit_cast<uint32_t>(factor);
    panel[(steps + 1) * rows + r] = 0;
  }
}

float dot_bf16(float sum, uint32_t a, uint32_t b) {
  sum += first_of(a) * first_of(b);  // the product of two BF16 is exact in F32
  return sum + second_of(a) * second_of(b);
}

float dot_f32(float sum, uint32_t a, uint32_t b) { return sum + std::bit_cast<float>(a) * std::bit_cast<float>(b); }

template <float (*dot)(float, uint32_t, uint32_t)>
void multiply(const uint32_t* panel, const uint32_t* tile0, const uint32_t* tile1, int64_t steps, int rows, float* y, int64_t y_stride,
              int columns, Sum sum, const Ahead&) {
  for (int r = 0; r < rows; ++r) {
    float sums[2 * kTileColumns] = {};
    if (sum == Sum::kContinued) std::copy_n(y + r * y_stride, columns, sums);
    for (int64_t s = 0; s < steps; ++s) {
      const uint32_t a = panel[s * rows + r];
      for (int c = 0; c < kTileColumns; ++c) {
        sums[c] = dot(sums[c], a, tile0[s * kTileColumns + c]);
        sums[kTileColumns + c] = dot(sums[kTileColumns + c], a, tile1[s * kTileColumns + c]);
      }
    }
    for (int c = 0; c < columns; ++c) y[r * y_stride + c] = sum == Sum::kAdded ? y[r * y_stride + c] + sums[c] : sums[c];
  }
}

// Modulo 2^32, as the vector instructions do it: the true sum fits an int, but with inputs that are 128 too large it need not.
uint32_t dot_i8(uint32_t sum, uint32_t a, uint32_t b) {
  for (int i = 0; i < 32; i += 8) sum += static_cast<uint32_t>(static_cast<int32_t>(a >> i & 0xffu) * static_cast<int8_t>(b >> i & 0xffu));
  return sum;
}

void multiply_i8(const uint32_t* panel, const uint32_t* tile0, const uint32_t* tile1, int64_t steps, int rows, float* y, int64_t y_stride,
                 int columns, Sum sum, const Ahead&) {
  const int64_t dots = steps - kInt8ExtraSteps;
  for (int r = 0; r < rows; ++r) {
    const float row_scale = std::bit_cast<float>(panel[dots * rows + r]);
    for (int c = 0; c < columns; ++c) {
      const uint32_t* column = (c < kTileColumns ? tile0 : tile1) + c % kTileColumns;
      uint32_t bits = column[dots * kTileColumns];
      for (int64_t s = 0; s < dots; ++s) bits = dot_i8(bits, panel[s * rows + r], column[s * kTileColumns]);
      const auto exact = static_cast<int32_t>(bits);
      const float value = static_cast<float>(exact) * std::bit_cast<float>(column[(dots + 1) * kTileColumns]) * row_scale;
      y[r * y_stride + c] = sum == Sum::kAdded ? y[r * y_stride + c] + value : value;
    }
  }
}

float silu_mul(float gate, float up) { return gate / (1.0f + std::exp(-gate)) * up; }

void silu_mul_panel_bf16(const float* gate, const float* up, int64_t stride, int rows, int /*room*/, int64_t column, int64_t width,
                         uint32_t* panel) {
  const int columns = columns_from(column, width);
  panel += column / 2 * rows;
  for (int r = 0; r < rows; ++r) {
    const float *g = gate + r * stride, *u = up + r * stride;
    for (int c = 0; c < columns; c += 2)
      panel[c / 2 * rows + r] = pair(silu_mul(g[c], u[c]), c + 1 < columns ? silu_mul(g[c + 1], u[c + 1]) : 0.0f);
  }
}

void silu_mul_panel_f32(const float* gate, const float* up, int64_t stride, int rows, int /*room*/, int64_t column, int64_t width,
                        uint32_t* panel) {
  const int columns = columns_from(column, width);
  panel += column * rows;
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c) panel[c * rows + r] = std::bit_cast<uint32_t>(silu_mul(gate[r * stride + c], up[r * stride + c]));
}

void silu_mul_rows(const float* gate, const float* up, int64_t stride, int rows, int columns, float* out, int64_t out_stride) {
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c) out[r * out_stride + c] = silu_mul(gate[r * stride + c], up[r * stride + c]);
}

void gather_panel(const uint32_t* const* row, int rows, int /*room*/, int64_t steps, uint32_t* panel) {
  for (int64_t s = 0; s < steps; ++s)
    for (int r = 0; r < rows; ++r) panel[s * rows + r] = row[r][s];
}

void scatter_add(const float* x, int64_t stride, int64_t rows, int columns, const float* factor, const int32_t* token, float* y,
                 int64_t y_stride) {
  for (int64_t r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c) y[token[r] * y_stride + c] += factor[r] * x[r * stride + c];
}

}  // namespace

const LinearKernels kLinearScalar = {
    .panel_rows = kStepPanelRows,
    .panels_are_even = true,
    .panel_align = 1,
    .memory_bound_rows = 8,
    .bf16 = {pack_panel_bf16, gather_panel, multiply_panels<multiply<dot_bf16>>, silu_mul_panel_bf16},
    .f32 = {pack_panel_f32, gather_panel, multiply_panels<multiply<dot_f32>>, silu_mul_panel_f32},
    .i8 = {pack_panel_i8, gather_panel, multiply_panels<multiply_i8>, nullptr},
    .multiply_coded = multiply_coded<multiply<dot_bf16>, ScalarDecoder>,
    .silu_mul = silu_mul_rows,
    .scatter_add = scatter_add,
};

}  // namespace weir::cpu
