// Norms, gates, rotary embedding, embedding rows and expert choice. All F32 unless said; shapes are checked; rows are independent.
#pragma once

#include "weir/ops/context.h"
#include "weir/ops/linear.h"

namespace weir::ops {

// y[t] = x[t] / sqrt(mean(x[t]²) + eps) · w.  w multiplies directly: the loader has added the family's "1 +" already. x [T, D], rows may be
// strided.
Tensor rms_norm(Context& ctx, const Tensor& x, const Tensor& w, float eps);

// Per head, in one pass: rms_norm over D, then the rotation of the first 2·R elements (pairs i, i + R) by the table.
// x [T, *] holds head h of token t at x[t, h·head_stride … + D); the result is dense [T, heads, D].
struct RopeTable {
  Tensor cos, sin;  // [T, R]
};
Tensor norm_rope(Context& ctx, const Tensor& x, int64_t heads, int64_t dim, int64_t head_stride, const Tensor& norm_w, float eps,
                 const RopeTable& rope);

// cos/sin of positions[axis_of[i], t] · inv_freq[i].  positions I32 [3, T]; inv_freq F32 [R]; axis_of I32 [R] in 0..2 (M-RoPE sections).
RopeTable rope_table(Context& ctx, const Tensor& positions, const Tensor& inv_freq, const Tensor& axis_of);

// o[t, h, :] *= sigmoid(gate[t, h, :]), in place. o dense [T, heads·D]; head h of the gate of token t lies at gate[t, h·head_stride … + D).
void gate_heads(Context& ctx, Tensor& o, const Tensor& gate, int64_t heads, int64_t dim, int64_t head_stride);

// y = silu(x[:, :I]) · x[:, I:].  x [T, 2 I] -> [T, I].
Tensor silu_mul(Context& ctx, const Tensor& x);

// Rows of a table (F32 or BF16 [V, H]) widened to F32.  ids I32 [T].
Tensor embedding(Context& ctx, const Tensor& table, const Tensor& ids);

// Rows of x.  index I32 [N].
Tensor gather_rows(Context& ctx, const Tensor& x, const Tensor& index);

// softmax over all E logits, the K largest (ties: lower id first, in falling order), divided by their sum. With shared_gate (logits has E +
// 1 columns): entry K is expert E with weight sigmoid(logits[t, E]).  logits [T, E or E + 1] -> ids/weights [T, K or K + 1].
Routing route(Context& ctx, const Tensor& logits, int64_t num_experts, int64_t top_k, bool shared_gate);

}  // namespace weir::ops
