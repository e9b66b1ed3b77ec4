// What linear_scalar.cpp, linear_avx2.cpp and linear_avx512.cpp share: panels of up to 12 rows, [steps][rows], multiplied one after
// another. Everything here is static, so no copy made for a newer CPU can be the one the linker keeps.
#pragma once

#include <cstdint>

#include "weir/kernels/cpu/linear.h"

namespace weir::cpu {

// Whether weights that are read once should be prefetched past the outer caches: faster on AMD, three times slower on Intel. In linear.cpp.
bool prefetches_past_caches();

namespace {

constexpr int kStepPanelRows = 12;

// What to prefetch while a product of n steps is computed, one step of each tile at a time: the steps from `near` on during the first
// n - ahead_steps, those from `far` on during the rest. Only hints: any address will do.
struct Ahead {
  const uint32_t *near0, *near1;
  const uint32_t *far0, *far1;
};

// How far ahead of its use a weight is asked for. Few rows (always the only panel, so the weights are used once) keep up with the memory
// when the weights come just in time and into L1 alone; with more, arithmetic and memory take turns being late, and 16 KiB waiting in L2
// let both work all the time. docs/performance.md has the measurements.
constexpr bool reads_once(int rows) { return rows <= 4; }
constexpr int64_t ahead_steps(int rows) { return reads_once(rows) ? 32 : 128; }

// The only panel reads its own tiles a little ahead; otherwise the last two panels fetch the next pair, so that its first panel finds it in
// the cache and the memory works while the others compute.
inline Ahead ahead_of(const PanelRun& run, int64_t panel, int64_t steps, const TilePair& here, const TilePair& next) {
  const int64_t ahead = ahead_steps(run.all.size(panel)), distance = ahead * kTileColumns;
  const int64_t near = (steps > ahead ? steps - ahead : 0) * kTileColumns;
  Ahead out{here.tile0 + distance, here.tile1 + distance, next.tile0, next.tile1};
  if (run.last - run.first >= 2 && panel == run.last - 2) out.near0 = next.tile0, out.far0 = next.tile0 + near;
  if (run.last - run.first >= 2 && panel == run.last - 1) out.near1 = next.tile1, out.far1 = next.tile1 + near;
  return out;
}

// ProductKernels::multiply from a kernel of one panel.
template <void (*one)(const uint32_t* panel, const uint32_t* tile0, const uint32_t* tile1, int64_t steps, int rows, float* y,
                      int64_t y_stride, int columns, bool add, const Ahead& ahead)>
void multiply_panels(const PanelRun& run, const TilePair& tiles, const TilePair& next, int64_t steps, float* y, int64_t y_stride,
                     int columns, bool add) {
  for (int64_t p = run.first; p < run.last; ++p)
    one(run.panel(p), tiles.tile0, tiles.tile1, steps, run.all.size(p), y + run.row(p) * y_stride, y_stride, columns, add,
        ahead_of(run, p, steps, tiles, next));
}

// Columns of the 16 that begin at `column`.
inline int columns_from(int64_t column, int64_t width) { return static_cast<int>(width - column < 16 ? width - column : 16); }

}  // namespace
}  // namespace weir::cpu
