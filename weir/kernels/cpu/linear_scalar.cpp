// The specification of the kernels in linear.h.
#include <bit>
#include <cmath>
#include <cstdint>

#include "weir/kernels/cpu/linear.h"

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

void pack_panel_bf16(const float* x, int64_t stride, int rows, int64_t k, uint32_t* panel) {
  for (int r = 0; r < rows; ++r)
    for (int64_t i = 0; i < k; i += 2) panel[i / 2 * rows + r] = pair(x[r * stride + i], i + 1 < k ? x[r * stride + i + 1] : 0.0f);
}

void pack_panel_f32(const float* x, int64_t stride, int rows, int64_t k, uint32_t* panel) {
  for (int r = 0; r < rows; ++r)
    for (int64_t i = 0; i < k; ++i) panel[i * rows + r] = std::bit_cast<uint32_t>(x[r * stride + i]);
}

float dot_bf16(float sum, uint32_t a, uint32_t b) {
  sum += first_of(a) * first_of(b);  // the product of two BF16 is exact in F32
  return sum + second_of(a) * second_of(b);
}

float dot_f32(float sum, uint32_t a, uint32_t b) { return sum + std::bit_cast<float>(a) * std::bit_cast<float>(b); }

template <float (*dot)(float, uint32_t, uint32_t)>
void multiply(const uint32_t* panel, const uint32_t* tile0, const uint32_t* tile1, int64_t steps, int rows, float* y, int64_t y_stride,
              int columns, bool add, const Ahead&) {
  for (int r = 0; r < rows; ++r) {
    float sums[2 * kTileColumns] = {};
    for (int64_t s = 0; s < steps; ++s) {
      const uint32_t a = panel[s * rows + r];
      for (int c = 0; c < kTileColumns; ++c) {
        sums[c] = dot(sums[c], a, tile0[s * kTileColumns + c]);
        sums[kTileColumns + c] = dot(sums[kTileColumns + c], a, tile1[s * kTileColumns + c]);
      }
    }
    for (int c = 0; c < columns; ++c) y[r * y_stride + c] = add ? y[r * y_stride + c] + sums[c] : sums[c];
  }
}

float silu_mul(float gate, float up) { return gate / (1.0f + std::exp(-gate)) * up; }

void silu_mul_panel_bf16(const float* gate, const float* up, int64_t stride, int rows, int columns, uint32_t* panel) {
  for (int r = 0; r < rows; ++r) {
    const float *g = gate + r * stride, *u = up + r * stride;
    for (int c = 0; c < columns; c += 2)
      panel[c / 2 * rows + r] = pair(silu_mul(g[c], u[c]), c + 1 < columns ? silu_mul(g[c + 1], u[c + 1]) : 0.0f);
  }
}

void silu_mul_panel_f32(const float* gate, const float* up, int64_t stride, int rows, int columns, uint32_t* panel) {
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c) panel[c * rows + r] = std::bit_cast<uint32_t>(silu_mul(gate[r * stride + c], up[r * stride + c]));
}

void gather_panel(const uint32_t* const* row, int rows, int64_t steps, uint32_t* panel) {
  for (int64_t s = 0; s < steps; ++s)
    for (int r = 0; r < rows; ++r) panel[s * rows + r] = row[r][s];
}

void add_weighted(const float* const* row, const float* weight, int64_t count, int64_t columns, float* y) {
  for (int64_t c = 0; c < columns; ++c) {
    float sum = 0.0f;
    for (int64_t i = 0; i < count; ++i) sum += weight[i] * row[i][c];
    y[c] += sum;
  }
}

}  // namespace

const LinearKernels kLinearScalar = {
    {pack_panel_bf16, multiply<dot_bf16>, silu_mul_panel_bf16},
    {pack_panel_f32, multiply<dot_f32>, silu_mul_panel_f32},
    gather_panel,
    add_weighted,
};

}  // namespace weir::cpu
