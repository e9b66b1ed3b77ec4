// Attention over paged keys and values.
#pragma once

#include "weir/ops/context.h"
#include "weir/ops/rows.h"

namespace weir::ops {

// Pool of one layer: [pages, 2, kv_heads, 16, D] of BF16 or F32: for each page the keys of all its tokens, then the values. Within a kv
// head's 16 · D elements the order is the device's own (kernels/cpu/attention.h), the same for every instruction set. D even for BF16.
// Of I8: [pages, 2, kv_heads, 16, D + 4], a byte per element and the F32 scale of each token's row.
Tensor make_kv_pool(int64_t pages, int64_t kv_heads, int64_t dim, DType type);
// Bytes of one token's key or value of one kv head in such a pool.
constexpr int64_t kv_head_bytes(int64_t dim, DType type) { return type == DType::kI8 ? dim + 4 : dim * element_size(type); }

// Stores k, v ([T, kv_heads, D] F32 dense; v rows may be strided) at each token's place in its row's pages, rounded to the pool's type.
void write_kv(Context& ctx, const Tensor& k, const Tensor& v, Tensor& pool, const Rows& rows);

// Causal attention of each token over all tokens of its sequence up to itself, whose k and v are already in the pool:
// o = softmax(q kᵀ · scale) v, softmax in F32. Query head h reads kv head h / (heads / kv_heads). With a BF16 pool, q and the
// probabilities may be rounded to BF16; with an I8 pool only keys and values are rounded. The keys are walked in fixed blocks from position
// 0, so a token's bits depend on its own position only, not on chunking, batch or threads.  q [T, heads, D] dense -> [T, heads · D].
Tensor paged_attention(Context& ctx, const Tensor& q, const Tensor& pool, const Rows& rows, float scale);

}  // namespace weir::ops
