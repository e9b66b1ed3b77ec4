// What linear_scalar.cpp, linear_avx2.cpp and linear_avx512.cpp share: panels of up to 12 rows, [steps][rows], multiplied one after
// another. Everything here is static, so no copy made for a newer CPU can be the one the linker keeps.
#pragma once

#include <cstdint>

#include "weir/kernels/cpu/coded.h"
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

// What becomes of a sum: y is it, or has it added, or is what it began with (not of I8, and all 32 columns).
enum class Sum : uint8_t { kStored, kAdded, kContinued };

// Kernel of one panel.
using MultiplyPanel = void (*)(const uint32_t* panel, const uint32_t* tile0, const uint32_t* tile1, int64_t steps, int rows, float* y,
                               int64_t y_stride, int columns, Sum sum, const Ahead& ahead);

// ProductKernels::multiply from it.
template <MultiplyPanel one>
void multiply_panels(const PanelRun& run, const TilePair& tiles, const TilePair& next, int64_t steps, float* y, int64_t y_stride,
                     int columns, bool add) {
  for (int64_t p = run.first; p < run.last; ++p)
    one(run.panel(p), tiles.tile0, tiles.tile1, steps, run.all.size(p), y + run.row(p) * y_stride, y_stride, columns,
        add ? Sum::kAdded : Sum::kStored, ahead_of(run, p, steps, tiles, next));
}

// The same for coded tiles: a part of them is decoded into L1 and multiplied with some panels, whose sums go on with the next part.
template <MultiplyPanel one, class Decoder>
void multiply_coded(const PanelRun& run, const TilePair& tiles, const TilePair& next, int64_t steps, float* y, int64_t y_stride,
                    int columns, bool add) {
  constexpr int64_t kPartSteps = 64, kPanels = 8, kPart = kPartSteps * kTileColumns;
  alignas(64) uint32_t plain[2][kPart];
  alignas(64) float sums[kPanels * kStepPanelRows][2 * kTileColumns];
  for (int64_t first = run.first; first < run.last; first += kPanels) {
    const int64_t last = run.last - first < kPanels ? run.last : first + kPanels;
    CodedTile<Decoder> tile0(tiles.tile0, steps), tile1(tiles.tile1, steps);
    for (int64_t s = 0; s < steps; s += kPartSteps) {
      const int64_t part = steps - s < kPartSteps ? steps - s : kPartSteps;
      tile0.decode(s, coded_groups(part), plain[0]);
      tile1.decode(s, coded_groups(part), plain[1]);
      const bool is_last = s + part == steps;
      const uint32_t *soon0 = is_last ? next.tile0 : tile0.at(s + part), *soon1 = is_last ? next.tile1 : tile1.at(s + part);
      for (int64_t p = first; p < last; ++p) {
        const int64_t ahead = ahead_steps(run.all.size(p)), near = part > ahead ? (part - ahead) * kTileColumns : 0;
        one(run.panel(p) + s * run.all.size(p), plain[0], plain[1], part, run.all.size(p), sums[run.row(p) - run.row(first)],
            2 * kTileColumns, 2 * kTileColumns, s == 0 ? Sum::kStored : Sum::kContinued, Ahead{soon0, soon1, soon0 + near, soon1 + near});
      }
    }
    for (int64_t r = run.row(first); r < run.row(last); ++r)
      for (int c = 0; c < columns; ++c) {
        float& to = y[r * y_stride + c];
        to = add ? to + sums[r - run.row(first)][c] : sums[r - run.row(first)][c];
      }
  }
}

// Columns of the 16 that begin at `column`.
inline int columns_from(int64_t column, int64_t width) { return static_cast<int>(width - column < 16 ? width - column : 16); }

}  // namespace
}  // namespace weir::cpu
