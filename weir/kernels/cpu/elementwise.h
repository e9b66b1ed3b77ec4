// Kernels over one row of F32 elements: norms, gates, convolution. Rows are independent and a row's bits depend on its length alone.
// One table per instruction set; the scalar one is the specification.
#pragma once

#include <cstdint>

namespace weir::cpu {

enum class Isa : uint8_t;  // isa.h, not included: files built for one instruction set see no library header

struct ConvSilu {
  int64_t kernel, tokens, n;
  const float* const* inputs;  // [tokens + kernel - 1] rows of n
  const float* w;
  int64_t w_stride;   // [kernel, n]
  float* y;           // [tokens, n]
  const float* next;  // null, or [tokens, n], rows next_stride apart, that are asked for meanwhile
  int64_t next_stride;
};

struct ElementwiseKernels {
  // y = x / sqrt(mean(x²) + eps) · w.  y may be x.
  void (*rms_norm)(const float* x, const float* w, float* y, int64_t n, float eps);

  // rms_norm, then for i < half: (y[i], y[i + half]) = (y[i] cos[i] - y[i + half] sin[i], y[i + half] cos[i] + y[i] sin[i]).  2 half <= n.
  void (*norm_rope)(const float* x, const float* w, const float* cos, const float* sin, float* y, int64_t n, int64_t half, float eps);

  // y = o / sqrt(mean(o²) + eps) · w · silu(z).  y may be o.
  void (*rms_norm_gated)(const float* o, const float* w, const float* z, float* y, int64_t n, float eps);

  // y = x / sqrt(Σ x² + 1e-6) · scale.
  void (*l2_normalise)(const float* x, float* y, int64_t n, float scale);

  // o *= sigmoid(gate).
  void (*gate)(float* o, const float* gate, int64_t n);

  // y = silu(gate) · up.
  void (*silu_mul)(const float* gate, const float* up, float* y, int64_t n);

  // y[t] = silu(Σ_j w[j] · inputs[t + j]), summed in the order j = 0 … kernel - 1.
  void (*conv_silu)(const ConvSilu&);

  // beta = sigmoid(b), g = -exp(a_log) · softplus(a + dt_bias).
  void (*delta_gates)(const float* b, const float* a, const float* a_log, const float* dt_bias, float* g, float* beta, int64_t n);

  // The largest element; NaN if any is NaN, -infinity of none.
  float (*largest)(const float* x, int64_t n);

  // y = exp((x - largest) · scale); returns the sum of y. x may hold -infinity.
  float (*weights)(const float* x, float largest, float scale, float* y, int64_t n);

  // y = x, from BF16.
  void (*widen_bf16)(const uint16_t* x, float* y, int64_t n);

  // y = x, rounded to BF16, nearest even.
  void (*round_bf16)(const float* x, uint16_t* y, int64_t n);
};

const ElementwiseKernels& elementwise_kernels(Isa isa);

namespace scalar {
extern const ElementwiseKernels kElementwise;
}
namespace avx2 {
extern const ElementwiseKernels kElementwise;
}
namespace avx512 {
extern const ElementwiseKernels kElementwise;
}

}  // namespace weir::cpu
