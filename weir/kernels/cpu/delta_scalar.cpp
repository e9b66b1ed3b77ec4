#include <cmath>

#include "weir/kernels/cpu/delta.h"

namespace weir::cpu::scalar {
namespace {

float dot(const float* a, const float* b, int64_t n) {
  float sum = 0.0f;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// y[d] = Σ_c x[c] S[c, d]
void times_state(const float* x, const DeltaBlock& b, float* y) {
  const auto* state = static_cast<const float*>(b.state);
  for (int64_t d = 0; d < b.columns; ++d) y[d] = 0.0f;
  for (int64_t c = 0; c < b.k_dim; ++c)
    for (int64_t d = 0; state != nullptr && d < b.columns; ++d) y[d] += x[c] * state[c * b.stride + d];
}

void add_scaled(float scale, const float* x, float* y, int64_t n) {
  for (int64_t d = 0; d < n; ++d) y[d] += scale * x[d];
}

void dots(const DeltaDots& d) {
  const auto key = [&](int64_t j) { return j < d.num_old ? d.old_keys + j * d.k_dim : d.keys + (j - d.num_old) * d.k_dim; };
  for (int64_t t = 0; t < d.num_new; ++t)
    for (int64_t j = 0; j <= d.num_old + t; ++j) {
      d.k_k[t * kMaxDeltaBlock + j] = dot(d.keys + t * d.k_dim, key(j), d.k_dim);
      d.q_k[t * kMaxDeltaBlock + j] = dot(d.queries + t * d.k_dim, key(j), d.k_dim);
    }
}

void block(const DeltaBlock& b) {
  float* read = b.scratch;
  for (int64_t t = 0; t < b.num_new; ++t) {
    const int64_t i = b.num_old + t;
    const float *k_k = b.k_k + t * kMaxDeltaBlock, *q_k = b.q_k + t * kMaxDeltaBlock;
    float* u = b.updates + i * b.stride;
    float* o = b.out + t * b.out_stride;

    times_state(b.keys + t * b.k_dim, b, read);
    for (int64_t d = 0; d < b.columns; ++d) u[d] = b.values[t * b.values_stride + d] - std::exp(b.decays[i]) * read[d];
    for (int64_t j = 0; j < i; ++j) add_scaled(-std::exp(b.decays[i] - b.decays[j]) * k_k[j], b.updates + j * b.stride, u, b.columns);
    for (int64_t d = 0; d < b.columns; ++d) u[d] *= b.betas[t];

    times_state(b.queries + t * b.k_dim, b, read);
    for (int64_t d = 0; d < b.columns; ++d) o[d] = std::exp(b.decays[i]) * read[d];
    for (int64_t j = 0; j <= i; ++j) add_scaled(std::exp(b.decays[i] - b.decays[j]) * q_k[j], b.updates + j * b.stride, o, b.columns);
  }
}

const void* fold_keys(const float* keys, int64_t, uint16_t*) { return keys; }

void fold(const DeltaFold& f) {
  const auto* in = static_cast<const float*>(f.state_in);
  auto* out = static_cast<float*>(f.state_out);
  const float last = f.decays[f.count - 1];
  for (int64_t c = 0; c < f.k_dim; ++c)
    for (int64_t d = 0; d < f.columns; ++d) out[c * f.stride + d] = in == nullptr ? 0.0f : std::exp(last) * in[c * f.stride + d];
  for (int64_t j = 0; j < f.count; ++j) {
    const float weight = std::exp(last - f.decays[j]);
    for (int64_t d = 0; d < f.columns; ++d) f.scratch[d] = weight * f.updates[j * f.stride + d];
    for (int64_t c = 0; c < f.k_dim; ++c)
      add_scaled(static_cast<const float*>(f.keys)[j * f.k_dim + c], f.scratch, out + c * f.stride, f.columns);
  }
}

}  // namespace

const DeltaKernels kDelta = {dots, block, fold_keys, fold, nullptr};

}  // namespace weir::cpu::scalar
