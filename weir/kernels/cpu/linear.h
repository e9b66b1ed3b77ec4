// Kernels of matrix products with packed weights; ops/linear_cpu.h builds linear(), linear_add() and experts_add() from them.
// Everything is made of 4-byte *steps* of the summation index k: a pair (2s, 2s + 1) of BF16, one F32, or four I8. What k lacks to whole
// steps is padded with zero.
//
//   tile   16 output columns (weight rows) of a packed matrix: [steps][16], the same for every instruction set
//   panel  input rows that are multiplied together, at most kernels.panel_rows; its layout is the kernels' own, in whole multiples of
//          kernels.panel_align steps a row (the rest is zero). Panels of an input lie one after another: `Panels` says which rows each has.
//
// I8 is the W8A8 scheme: q = round(x / s_x) per row of the input, integers multiplied exactly, y = (float(Σ q · w + correction) · s_w) ·
// s_x. A panel holds q + 128 as unsigned bytes, which is what the instructions want; `correction` takes 128 · Σ w back, and adds what a
// static scheme adds. Behind the steps of the sum come kInt8ExtraSteps more, which `steps` counts:
//   tile    [16] I32 correction, then [16] F32 s_w
//   panel   F32 s_x of each row, then as much unused
//
// BF16 weights may be coded (coded.h): their tiles are shorter, the results are those of the plain ones, bit for bit.
//
// One output element is always the sum over s = 0, 1, … in one fixed order, whatever the size of the panel and whichever
// columns share the call. So its bits depend on its row, its column and the instruction set alone.
// All kernels are single-threaded, allocate nothing and touch nothing outside the ranges named here.
#pragma once

#include <cstdint>

namespace weir::cpu {

enum class Isa : uint8_t;

constexpr int kTileColumns = 16;
constexpr int kMaxPanelRows = 16;  // of any instruction set
constexpr int kInt8ExtraSteps = 2;

// How rows become I8. scale 0: each row by its own, max|x| / 127 (dynamic, symmetric). Else q = round(x / scale + offset), clamped to
// [-128, 127], and s_x is 1 (static: the factor is part of s_w). A row with NaN or infinity gives rows of those.
struct InputScale {
  float scale = 0;
  float offset = 0;
  bool operator==(const InputScale&) const = default;
};

// How `rows` rows are divided into panels.
struct Panels {
  int64_t rows = 0, count = 0;
  int full_rows = 0;  // 0: panels are nearly equal

  // The first row of a panel; of the one behind the last, `rows`.
  int64_t begin(int64_t panel) const {
    if (full_rows == 0) return panel * rows / count;
    return panel * full_rows < rows ? panel * full_rows : rows;
  }
  int size(int64_t panel) const { return static_cast<int>(begin(panel + 1) - begin(panel)); }
  // Rows that a panel has room for: when there are several of a full size, the last one too has that size.
  int room(int64_t panel) const { return full_rows == 0 || count == 1 ? size(panel) : full_rows; }
  int64_t total_room() const { return full_rows == 0 || count == 1 ? rows : count * full_rows; }
};

// Panels [first, last) of an input, `steps` per row, of which `data` is the first.
struct PanelRun {
  const uint32_t* data;
  Panels all;
  int64_t first, last;
  int64_t steps;
  int64_t row(int64_t p) const { return all.begin(p) - all.begin(first); }  // of the run, at which panel p begins
  const uint32_t* panel(int64_t p) const { return data + row(p) * steps; }
};

// Two tiles that are multiplied together.
struct TilePair {
  const uint32_t *tile0, *tile1;
};

using Multiply = void (*)(const PanelRun& run, const TilePair& tiles, const TilePair& next, int64_t steps, float* y, int64_t y_stride,
                          int columns, bool add);

// Kernels that depend on the type of the weights. rows <= room <= panel_rows are those of a panel.
struct ProductKernels {
  // panel := rows x[r · stride … + k), r < rows, rounded to the weights' type (nearest even). `scale` matters to I8 only.
  void (*pack_panel)(const float* x, int64_t stride, int rows, int room, int64_t k, const InputScale& scale, uint32_t* panel);

  // The same panel from rows that pack_panel converted one by one (room 1), of `steps` each.
  void (*gather_panel)(const uint32_t* const* row, int rows, int room, int64_t steps, uint32_t* panel);

  // y[r, c] (= or +=) Σ_s panel[s, r] · tile[s, c] for the rows r of the run's panels, of which y is the first, and c < columns <= 32;
  // columns 16 … 31 are those of tile1. Tiles have `steps` steps (if coded, so many when decoded) and are read whole; tile1 may be tile0
  // when columns <= 16. `next` is prefetched for the call that follows: a hint, any address will do.
  Multiply multiply;

  // Columns [column, column + 16) of a panel with `width` columns := silu(gate[r, c]) · up[r, c], rounded as pack_panel does; gate and up
  // begin at `column` and have rows of `stride`. Null for I8, which needs a row whole before it can be rounded: see silu_mul.
  void (*silu_mul_panel)(const float* gate, const float* up, int64_t stride, int rows, int room, int64_t column, int64_t width,
                         uint32_t* panel);
};

struct LinearKernels {
  int panel_rows;         // at most
  bool panels_are_even;   // 13 rows are 7 + 6, because a panel of one would not keep the multipliers busy; else 12 + 1
  int panel_align;        // steps
  int memory_bound_rows;  // from about this many rows on, a product costs arithmetic rather than reading the weights
  ProductKernels bf16, f32, i8;
  Multiply multiply_coded;  // of BF16
  // out[r, c] := silu(gate[r, c]) · up[r, c] for c < columns <= 16.
  void (*silu_mul)(const float* gate, const float* up, int64_t stride, int rows, int columns, float* out, int64_t out_stride);
  // y[token[r], c] += factor[r] · x[r, c] for c < columns <= 32, row after row.
  void (*scatter_add)(const float* x, int64_t stride, int64_t rows, int columns, const float* factor, const int32_t* token, float* y,
                      int64_t y_stride);

  Panels panels(int64_t rows) const { return {rows, (rows + panel_rows - 1) / panel_rows, panels_are_even ? 0 : panel_rows}; }
};

extern const LinearKernels kLinearScalar, kLinearAvx2, kLinearAvx512, kLinearAmx;

const LinearKernels& linear_kernels(Isa isa);
const LinearKernels& linear_kernels();  // of active_isa()

}  // namespace weir::cpu
