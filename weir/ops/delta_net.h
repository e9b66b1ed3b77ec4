// The Gated DeltaNet mixer between its projections: short causal convolution, gates, and the gated delta rule
//     S_t = exp(g_t) S_{t-1};   S_t += k_t ⊗ β_t (v_t - S_tᵀ k_t);   o_t = S_tᵀ q_t
// evaluated in blocks of 32 tokens aligned to absolute positions (the chunked form of "Gated Delta Networks", arXiv 2412.06464).
//
// What a slot holds after N tokens, and why. Let the block of N be [B, B + 32) with B = 32 · ((N - 1) / 32). The slot keeps the state S_B
// *before* the block and a log of the block's N - B (1 … 32) update vectors: k_j (normalised), u_j (the corrected, β-scaled value, V'_j of
// the chunked form) and Γ_j (running sum of g from B). A new token i needs only
//     u_i = β_i (v_i - exp(Γ_i) S_Bᵀ k_i - Σ_{B<=j<i} exp(Γ_i - Γ_j) (k_i·k_j) u_j)
//     o_i = exp(Γ_i) S_Bᵀ q_i + Σ_{B<=j<=i} exp(Γ_i - Γ_j) (q_i·k_j) u_j
// whether it comes alone (decode) or with others (prefill). Every term is summed in the same fixed order, so the bits of a token
// do not depend on how its sequence was cut into steps: chunking, batching, preemption and (later) draft verification are exact by
// construction. Decode reads S_B (not where it is zeros, in the first block) and at most the log, and writes one log entry instead of the
// whole state; rolling back drafts is forgetting entries. The first token of the next block folds the log: S_{B+32} = exp(Γ_31) S_B + Σ_j
// exp(Γ_31 - Γ_j) k_j ⊗ u_j.
//
// A slot describes itself: it begins with B and N. So it can be read at any earlier position p too, as long as B <= p: the log's entries
// from p on are ignored, and overwritten when the slot is also the one written. The convolution keeps the last kernel - 1 + kConvHistory
// inputs for the same reason, which bounds it to N - kConvHistory <= p. That is how drafts are rolled back, and why the slot of a sequence
// can be shared as it is at a position a little before its end.
//
// How S lies in a slot is the kernels' choice (kernels/cpu/delta.h): where two BF16 stand for a float, it is rounded to these when a block
// is folded into it.
//
// S may be kept as BF16. It is rounded when a block is folded into it and only then, wherever in a step that happens, so the bits of a
// token still do not depend on how its sequence was cut.
#pragma once

#include "weir/ops/context.h"
#include "weir/ops/rows.h"

namespace weir::ops {

constexpr int64_t kDeltaBlock = 32;
constexpr int64_t kConvHistory = 24;       // how far behind its end a slot can be read: 8 refused drafts, then a page
constexpr int64_t kSlotHeaderFloats = 16;  // B and N as I32, then padding to a cache line

struct DeltaShape {
  int64_t k_heads, v_heads, k_dim, v_dim;  // v_heads is a multiple of k_heads; value head j uses key head j / (v_heads / k_heads)
  int64_t values() const { return v_heads * v_dim; }
  int64_t channels() const { return 2 * k_heads * k_dim + values(); }  // q, k, v side by side
  // Of S in a slot, all heads; BF16 pairs are padded to whole floats.
  int64_t state_floats(DType state) const {
    const int64_t elements = v_heads * k_dim * v_dim;
    return state == DType::kBF16 ? (elements + 1) / 2 : elements;
  }
  int64_t slot_floats(DType state) const {  // B and N, then S, then the log: keys, updates, Γ
    return kSlotHeaderFloats + state_floats(state) + kDeltaBlock * (k_heads * k_dim + v_heads * v_dim + v_heads);
  }
};

// `state`: the type of S, kF32 or kBF16; all else is F32. The pool [slots, slot_floats · 4 / element size] is of that type, too.
Tensor make_delta_pool(int64_t slots, const DeltaShape& shape, DType state = DType::kF32);
constexpr int64_t conv_ring(int64_t kernel) { return kernel - 1 + kConvHistory; }
Tensor make_conv_pool(int64_t slots, int64_t channels, int64_t kernel);  // F32 [slots, R = conv_ring(kernel), channels]: token t at t % R

// β = sigmoid(b), g = -exp(a_log) · softplus(a + dt_bias).  ba [T, 2 Hv]: b in the first Hv columns, a in the rest (rows may be strided).
struct DeltaGates {
  Tensor g, beta;  // [T, Hv]
};
DeltaGates delta_gates(Context& ctx, const Tensor& ba, const Tensor& a_log, const Tensor& dt_bias);

struct DeltaNet {
  DeltaShape shape;
  Tensor conv;            // F32 [kernel, channels] (transposed by the loader): depthwise, causal, then silu
  Tensor a_log, dt_bias;  // F32 [v_heads]
  Tensor norm;            // F32 [v_dim]
  float eps;
};

// What lies between the projections: convolution of q, k and v; q and k of each key head l2-normalised (eps 1e-6 inside the root), q also
// scaled by 1/sqrt(k_dim); the rule; and of each head y = o / sqrt(mean(o²) + eps) · norm · silu(z).  projection [T, channels + values + 2
// v_heads] F32 (rows may be strided): q, k, v; z; b; a.  -> [T, values]
// Each thread takes some heads of a row from one end to the other, a block at a time, so that nothing in between is as long as a step. The
// slots then hold the rows' new ends, the snapshots what they are of. A row whose read slot does not hold its start is a bug of the caller
// and aborts.
Tensor delta_net(Context& ctx, const Tensor& projection, const DeltaNet& net, Tensor& conv_pool, Tensor& delta_pool, const Rows& rows);

// The plain state S after `position` tokens, at which the slot must be readable, log folded in and not rounded: F32 [v_heads, k_dim,
// v_dim]. For tests and for handing a state to a peer.
Tensor delta_state(const Tensor& delta_pool, const DeltaShape& shape, int64_t slot, int64_t position);

}  // namespace weir::ops
