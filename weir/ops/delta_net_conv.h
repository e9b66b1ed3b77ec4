// The short causal convolution of the delta net, then silu: y[t, c] = silu(Σ_j w[c, j] · u[t - (kernel - 1) + j, c]), for the channels and
// tokens that are wanted just then. Inputs before a row come from the pool, zeros from before the sequence.
#pragma once

#include "weir/kernels/cpu/elementwise.h"
#include "weir/ops/rows.h"
#include "weir/tensor/arena.h"

namespace weir::ops {

class DeltaNetConv {
 public:
  // u [T, C] F32 (rows may be strided); w F32 [kernel, C]; pool as make_conv_pool() makes it. At most `most_channels` are wanted at a time.
  DeltaNetConv(const Tensor& u, const Tensor& w, Tensor& pool, const Rows& rows, int64_t most_channels, Arena& arena);

  // y [count, width] := channels [begin, begin + width) of the tokens from `position` on in row r's sequence, at most a block of them.
  // Meanwhile the inputs of as many tokens from next_position on are asked for, `next` being the first of their channels.
  void tokens(int64_t r, const Row& row, int64_t position, int64_t count, int64_t begin, int64_t width, float* y, int64_t next_position,
              int64_t next) const;

  // The last inputs of these channels into the row's snapshots and its slot. Nothing reads the slot's inputs of these channels meanwhile.
  void store(int64_t r, const Row& row, int64_t begin, int64_t width) const;

 private:
  float* ring(int64_t slot, int64_t position, int64_t channel) const {
    return pool_ + (slot * ring_ + position % ring_) * channels_ + channel;
  }
  const float* input(int64_t r, const Row& row, int64_t position, int64_t channel) const {
    if (position >= row.start) return u_ + (row.token + position - row.start) * u_stride_ + channel;
    return position < 0 ? zeros_ : ring(rows_.state_read.data<int32_t>()[r], position, channel);
  }

  const float *u_, *w_;
  float* pool_;
  int64_t u_stride_, kernel_, ring_, channels_;
  const Rows& rows_;
  const float* zeros_;
  const cpu::ElementwiseKernels& kernels_;
};

}  // namespace weir::ops
