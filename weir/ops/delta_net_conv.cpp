#include "weir/ops/delta_net_conv.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "weir/kernels/cpu/isa.h"
#include "weir/ops/delta_net.h"

namespace weir::ops {
namespace {

constexpr int64_t kMaxKernel = 16;

}  // namespace

DeltaNetConv::DeltaNetConv(const Tensor& u, const Tensor& w, Tensor& pool, const Rows& rows, int64_t most_channels, Arena& arena)
    : u_(u.data<float>()),
      w_(w.data<float>()),
      pool_(pool.data<float>()),
      u_stride_(u.row_stride()),
      kernel_(w.dim(0)),
      ring_(conv_ring(kernel_)),
      channels_(w.dim(1)),
      rows_(rows),
      kernels_(cpu::elementwise_kernels(cpu::active_isa())) {
  WEIR_CHECK(w.rank() == 2 && w.dense() && kernel_ >= 1 && kernel_ <= kMaxKernel && u.dim(1) == channels_, "convolution of ",
             u.shape().str(), " with w ", w.shape().str());
  WEIR_CHECK(pool.dense() && pool.rank() == 3 && pool.dim(1) == ring_ && pool.dim(2) == channels_, "conv pool ", pool.shape().str(),
             " for w ", w.shape().str());
  check_slots(rows, pool.dim(0));
  const Tensor zeros = arena.empty({most_channels});
  std::fill_n(zeros.data<float>(), most_channels, 0.0f);
  zeros_ = zeros.data<float>();
}

void DeltaNetConv::tokens(int64_t r, const Row& row, int64_t position, int64_t count, int64_t begin, int64_t width, float* y,
                          int64_t next_position, int64_t next) const {
  std::array<const float*, kDeltaBlock + kMaxKernel> inputs;
  for (int64_t i = 0; i < count + kernel_ - 1; ++i) inputs[static_cast<size_t>(i)] = input(r, row, position - kernel_ + 1 + i, begin);
  const bool is_next = next_position < row.end();
  kernels_.conv_silu(
      {kernel_, count, width, inputs.data(), w_ + begin, channels_, y, is_next ? input(r, row, next_position, next) : nullptr, u_stride_});
}

void DeltaNetConv::store(int64_t r, const Row& row, int64_t begin, int64_t width) const {
  const int64_t read = rows_.state_read.data<int32_t>()[r];
  const auto store_at = [&](int64_t position, int64_t slot) {
    const int64_t oldest = std::max<int64_t>(0, position - ring_);
    // In place, older inputs are where they belong.
    for (int64_t t = slot == read ? std::max(oldest, row.start) : oldest; t < position; ++t)
      std::memcpy(ring(slot, t, begin), input(r, row, t, begin), static_cast<size_t>(width) * sizeof(float));
  };
  // Snapshots first: they may need inputs that the row's own slot now drops.
  for (int64_t s = 0; s < rows_.snapshots.dim(0); ++s) {
    const auto* snapshot = rows_.snapshots.data<int32_t>() + 3 * s;
    if (snapshot[0] == r) store_at(snapshot[1], snapshot[2]);
  }
  store_at(row.end(), rows_.state_write.data<int32_t>()[r]);
}

Tensor make_conv_pool(int64_t slots, int64_t channels, int64_t kernel) {
  WEIR_CHECK(kernel >= 1 && kernel <= kMaxKernel && channels >= 1, "convolution of ", kernel, " over ", channels, " channels");
  return Tensor::zeros({slots, conv_ring(kernel), channels}, DType::kF32);
}

}  // namespace weir::ops
