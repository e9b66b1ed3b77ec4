#include <bit>
#include <cmath>
#include <limits>

#include "weir/kernels/cpu/elementwise.h"

namespace weir::cpu::scalar {
namespace {

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }
float silu(float x) { return x * sigmoid(x); }

float sum_of_squares(const float* x, int64_t n) {
  float sum = 0.0f;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

float inverse_rms(const float* x, int64_t n, float eps) { return 1.0f / std::sqrt(sum_of_squares(x, n) / static_cast<float>(n) + eps); }

void rms_norm(const float* x, const float* w, float* y, int64_t n, float eps) {
  const float inverse = inverse_rms(x, n, eps);
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * inverse * w[i];
}

void norm_rope(const float* x, const float* w, const float* cos, const float* sin, float* y, int64_t n, int64_t half, float eps) {
  rms_norm(x, w, y, n, eps);
  for (int64_t i = 0; i < half; ++i) {
    const float low = y[i], high = y[i + half];
    y[i] = low * cos[i] - high * sin[i];
    y[i + half] = high * cos[i] + low * sin[i];
  }
}

void rms_norm_gated(const float* o, const float* w, const float* z, float* y, int64_t n, float eps) {
  const float inverse = inverse_rms(o, n, eps);
  for (int64_t i = 0; i < n; ++i) y[i] = o[i] * inverse * w[i] * silu(z[i]);
}

void l2_normalise(const float* x, float* y, int64_t n, float scale) {
  const float inverse = scale / std::sqrt(sum_of_squares(x, n) + 1e-6f);
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * inverse;
}

void gate(float* o, const float* gate, int64_t n) {
  for (int64_t i = 0; i < n; ++i) o[i] *= sigmoid(gate[i]);
}

void silu_mul(const float* gate, const float* up, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = silu(gate[i]) * up[i];
}

void conv_silu(const ConvSilu& c) {
  for (int64_t t = 0; t < c.tokens; ++t)
    for (int64_t i = 0; i < c.n; ++i) {
      float sum = 0.0f;
      for (int64_t j = 0; j < c.kernel; ++j) sum += c.w[j * c.w_stride + i] * c.inputs[t + j][i];
      c.y[t * c.n + i] = silu(sum);
    }
}

void delta_gates(const float* b, const float* a, const float* a_log, const float* dt_bias, float* g, float* beta, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float x = a[i] + dt_bias[i];
    const float softplus = (x > 0.0f ? x : 0.0f) + std::log1p(std::exp(-std::fabs(x)));  // no overflow for large x
    g[i] = -std::exp(a_log[i]) * softplus;
    beta[i] = sigmoid(b[i]);
  }
}

float largest(const float* x, int64_t n) {
  float most = -std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < n; ++i) {
    if (std::isnan(x[i])) return x[i];
    if (x[i] > most) most = x[i];
  }
  return most;
}

float weights(const float* x, float largest, float scale, float* y, int64_t n) {
  float sum = 0.0f;
  for (int64_t i = 0; i < n; ++i) sum += y[i] = std::exp((x[i] - largest) * scale);
  return sum;
}

void widen_bf16(const uint16_t* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = std::bit_cast<float>(static_cast<uint32_t>(x[i]) << 16);
}

void round_bf16(const float* x, uint16_t* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(x[i]);
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;  // rounding could turn it into infinity
    y[i] = static_cast<uint16_t>(is_nan ? (bits >> 16) | 0x40u : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  }
}

}  // namespace

const ElementwiseKernels kElementwise = {rms_norm,  norm_rope,   rms_norm_gated, l2_normalise, gate,       silu_mul,
                                         conv_silu, delta_gates, largest,        weights,      widen_bf16, round_bf16};

}  // namespace weir::cpu::scalar
