#include "weir/ops/linear_cpu.h"

#include <algorithm>

namespace weir::ops {
namespace {

// Below this many elements one thread packs the input alone, faster than a barrier.
constexpr int64_t kPackAlone = 16 * 1024;
// Below this many multiply-adds waking the other threads costs more than they bring.
constexpr int64_t kMultiplyAlone = 32 * 1024;
// Panels that are multiplied with a pair of tiles before moving to the next pair should stay in a core's own cache.
constexpr int64_t kBlockBytes = int64_t{1} << 20;

// Blocks of panels: as few as the caches allow, more when there are not enough tiles to occupy all threads.
int64_t num_blocks(const Panels& panels, int64_t steps, int64_t tiles, int threads) {
  const int64_t bytes = panels.rows * steps * static_cast<int64_t>(sizeof(uint32_t));
  int64_t blocks = std::clamp<int64_t>(ceil_div(bytes, kBlockBytes), 1, panels.count);
  while (threads > 1 && blocks * tiles < int64_t{8} * threads && 2 * blocks <= panels.count) blocks *= 2;
  return blocks;
}

}  // namespace

namespace {

// Rows of a product's input: floats, or rounded already, in panels.
struct Input {
  const float* floats = nullptr;
  int64_t stride = 0;
  const uint32_t* panels = nullptr;
};

void linear_cpu(const LinearKernels& kernels, Context& ctx, const Input& x, int64_t rows, const PackedMatrix& w, Tensor& y, bool add) {
  const int64_t n = w.n(), k = w.k();
  if (rows == 0 || n == 0) return;
  const ProductKernels& product = product_kernels(kernels, w.dtype());
  const weir::cpu::Multiply multiply_tiles = multiply_kernel(kernels, w);
  const int64_t steps = num_steps(k, w.dtype()), tiles = num_tiles(n), input_steps = panel_steps(kernels, k, w.dtype());
  const Panels all = kernels.panels(rows);
  const Arena::Scope scope(ctx.arena);
  const bool is_packed = x.panels != nullptr;
  uint32_t* const packed =
      is_packed ? nullptr : static_cast<uint32_t*>(ctx.arena.bytes(static_cast<size_t>(all.total_room() * input_steps) * sizeof(uint32_t)));
  const uint32_t* const panels = is_packed ? x.panels : packed;

  const auto pack = [&](int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p)
      product.pack_panel(x.floats + all.begin(p) * x.stride, x.stride, all.size(p), all.room(p), k, w.input_scale(),
                         packed + all.begin(p) * input_steps);
  };
  const bool alone = rows * n * k <= kMultiplyAlone;
  const int threads = alone ? 1 : ctx.pool.size();
  const int64_t blocks = num_blocks(all, input_steps, tiles, threads);
  // Threads own contiguous runs of tiles, so each reads its weights as one stream. Runs of pairs, unless that would idle a thread.
  const int64_t unit = tiles >= int64_t{4} * threads ? 2 : 1, units = ceil_div(tiles, unit);
  const auto multiply = [&](int thread) {
    const int64_t first = blocks * units * thread / threads, last = blocks * units * (thread + 1) / threads;
    for (int64_t item = first; item < last;) {
      const int64_t block = item / units, end = std::min(last, (block + 1) * units);
      const int64_t tile_end = std::min(tiles, (end - block * units) * unit);
      for (int64_t t = (item - block * units) * unit; t < tile_end; t += 2) {
        const bool both = t + 1 < tile_end;
        const int columns = static_cast<int>(std::min<int64_t>(n - t * kTileColumns, both ? 2 * kTileColumns : kTileColumns));
        const TilePair here{tile(w, t), tile(w, both ? t + 1 : t)}, next{tile(w, t + 2), tile(w, t + 3)};
        const int64_t first_panel = all.count * block / blocks, row = all.begin(first_panel);
        const PanelRun run{panels + row * input_steps, all, first_panel, all.count * (block + 1) / blocks, input_steps};
        float* to = y.data<float>() + row * y.row_stride() + t * kTileColumns;
        multiply_tiles(run, here, next, steps, to, y.row_stride(), columns, add);
      }
      item = end;
    }
  };

  const bool pack_alone = alone || is_packed || rows * k <= kPackAlone;
  if (pack_alone && !is_packed) pack(0, all.count);
  if (alone) return multiply(0);
  ctx.pool.run([&](int thread) {
    if (!pack_alone) {
      pack(all.count * thread / threads, all.count * (thread + 1) / threads);
      ctx.pool.barrier();
    }
    multiply(thread);
  });
}

}  // namespace

void linear_cpu(const LinearKernels& kernels, Context& ctx, const Tensor& x, const PackedMatrix& w, Tensor& y, bool add) {
  linear_cpu(kernels, ctx, Input{.floats = x.data<float>(), .stride = x.row_stride()}, x.dim(0), w, y, add);
}

void linear_cpu(const LinearKernels& kernels, Context& ctx, const RoundedRows& x, const PackedMatrix& w, Tensor& y, bool add) {
  linear_cpu(kernels, ctx, Input{.panels = x.steps(InputForm{w.dtype(), w.input_scale(), /*by_rows=*/false})}, x.rows(), w, y, add);
}

}  // namespace weir::ops
