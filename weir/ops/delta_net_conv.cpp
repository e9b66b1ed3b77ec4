#include <algorithm>
#include <array>
#include <cstring>

#include "weir/kernels/cpu/elementwise.h"
#include "weir/kernels/cpu/isa.h"
#include "weir/ops/delta_net.h"
#include "weir/ops/not_built.h"

namespace weir::ops {
namespace {

constexpr int64_t kMaxKernel = 16;
constexpr int64_t kStrip = 64;  // channels; the smallest share of a thread

// Channels [begin, end) of every row. Channels are independent, so a thread may update a slot as soon as its own outputs are done.
void convolve(const Tensor& u, const Tensor& w, Tensor& pool, const Rows& rows, const float* zeros, Tensor& y, int64_t begin, int64_t end) {
  const auto& k = cpu::elementwise_kernels(cpu::active_isa());
  const int64_t kernel = w.dim(0), channels = w.dim(1), history = kernel - 1, ring = conv_ring(kernel), width = end - begin;
  const auto column = [&](int64_t slot, int64_t position) {
    return pool.data<float>() + (slot * ring + position % ring) * channels + begin;
  };
  for (int64_t r = 0; r < rows.num_rows(); ++r) {
    const Row row = row_of(rows, r);
    const int64_t read = rows.state_read.data<int32_t>()[r];
    const auto input = [&](int64_t position) -> const float* {
      if (position < 0) return zeros + begin;
      return position < row.start ? column(read, position) : u.data<float>() + (row.token + position - row.start) * u.row_stride() + begin;
    };
    for (int64_t i = 0; i < row.count; ++i) {
      std::array<const float*, kMaxKernel> taps;
      for (int64_t j = 0; j < kernel; ++j) taps[static_cast<size_t>(j)] = input(row.start + i - history + j);
      k.conv_silu(taps.data(), w.data<float>() + begin, w.row_stride(), y.data<float>() + (row.token + i) * channels + begin, kernel,
                  width);
    }
    const auto store = [&](int64_t position, int64_t slot) {
      const int64_t first = std::max<int64_t>(0, position - ring);
      for (int64_t t = slot == read ? std::max(first, row.start) : first; t < position;
           ++t)  // in place, older inputs are where they belong
        std::memcpy(column(slot, t), input(t), static_cast<size_t>(width) * sizeof(float));
    };
    // Snapshots first: they may need inputs that the row's own slot now drops.
    for (int64_t s = 0; s < rows.snapshots.dim(0); ++s) {
      const auto* snapshot = rows.snapshots.data<int32_t>() + 3 * s;
      if (snapshot[0] == r) store(snapshot[1], snapshot[2]);
    }
    store(row.end(), rows.state_write.data<int32_t>()[r]);
  }
}

}  // namespace

Tensor make_conv_pool(int64_t slots, int64_t channels, int64_t kernel) {
  WEIR_CHECK(kernel >= 1 && kernel <= kMaxKernel && channels >= 1, "convolution of ", kernel, " over ", channels, " channels");
  return Tensor::zeros({slots, conv_ring(kernel), channels}, DType::kF32);
}

Tensor causal_conv_silu(Context& ctx, const Tensor& u, const Tensor& w, Tensor& conv_pool, const Rows& rows) {
  const Span span(ctx.profiler, "convolution");
  WEIR_CHECK(w.dtype() == DType::kF32 && w.rank() == 2 && w.dim(0) >= 1 && w.dim(0) <= kMaxKernel, "convolution w ", w.shape().str());
  const int64_t channels = w.dim(1);
  WEIR_CHECK(u.dtype() == DType::kF32 && u.rank() == 2 && u.dim(1) == channels, "convolution of ", u.shape().str(), " with w ",
             w.shape().str());
  WEIR_CHECK(conv_pool.dtype() == DType::kF32 && conv_pool.dense() && conv_pool.rank() == 3 && conv_pool.dim(1) == conv_ring(w.dim(0)) &&
                 conv_pool.dim(2) == channels,
             "conv pool ", conv_pool.shape().str(), " for w ", w.shape().str());
  check_rows(rows, u.dim(0));
  check_slots(rows, conv_pool.dim(0));
  if (u.device() != DeviceKind::kCpu) not_built("causal_conv_silu", u.device());
  Tensor y = ctx.arena.empty({u.dim(0), channels});
  const Arena::Scope scope(ctx.arena);
  const Tensor zeros = ctx.arena.empty({channels});
  std::memset(zeros.data<float>(), 0, static_cast<size_t>(channels) * sizeof(float));
  const int64_t strips = (channels + kStrip - 1) / kStrip;
  const int64_t worth = std::max<int64_t>(1, 8'192 / (kStrip * std::max<int64_t>(1, u.dim(0))));
  ctx.pool.parallel_for(strips, worth, [&](int64_t begin, int64_t end, int) {
    convolve(u, w, conv_pool, rows, zeros.data<float>(), y, begin * kStrip, std::min(end * kStrip, channels));
  });
  return y;
}

}  // namespace weir::ops
