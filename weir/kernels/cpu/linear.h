// Kernels of matrix products with packed weights; ops/linear_cpu.h builds linear(), linear_add() and experts_add() from them.
// Everything is made of 4-byte *steps* of the summation index k: a pair (2s, 2s + 1) of BF16, one F32, or four I8. What k lacks to whole
// steps is padded with zero.
//
//   tile   16 output columns (weight rows) of a packed matrix: [steps][16]
//   panel  up to 12 input rows that are multiplied together, a *group*: [steps][rows]
//
// I8 is the W8A8 scheme: q = round(x / s_x) per row of the input, integers multiplied exactly, y = (float(Σ q · w + correction) · s_w) ·
// s_x. A panel holds q + 128 as unsigned bytes, which is what the instructions want; `correction` takes 128 · Σ w back, and adds what a
// static scheme adds. Behind the steps of the sum come kInt8ExtraSteps more, which `steps` counts:
//   tile    [16] I32 correction, then [16] F32 s_w
//   panel   [rows] F32 s_x, then [rows] unused
//
// One output element is always the sum over s = 0, 1, … in that order in one accumulator, whatever the size of the group and whichever
// columns share the call. So its bits depend on its row, its column and the instruction set alone.
// All kernels are single-threaded, allocate nothing and touch nothing outside the ranges named here.
#pragma once

#include <cstdint>

namespace weir::cpu {

enum class Isa : uint8_t;

constexpr int kTileColumns = 16;
constexpr int kGroupRows = 12;
constexpr int kInt8ExtraSteps = 2;

// How rows become I8. scale 0: each row by its own, max|x| / 127 (dynamic, symmetric). Else q = round(x / scale + offset), clamped to
// [-128, 127], and s_x is 1 (static: the factor is part of s_w). A row with NaN or infinity gives rows of those.
struct InputScale {
  float scale = 0;
  float offset = 0;
  bool operator==(const InputScale&) const = default;
};

// What to prefetch while a product of n steps is computed, one step of each tile at a time: the steps from `near` on during the first
// n - ahead_steps, those from `far` on during the rest. Only hints: any address will do.
struct Ahead {
  const uint32_t *near0, *near1;
  const uint32_t *far0, *far1;
};
// How far ahead of its use a weight is asked for. Few rows (always the only group, so the weights are used once) keep up with the memory
// when the weights come just in time and into L1 alone; with more, arithmetic and memory take turns being late, and 16 KiB waiting in L2
// let both work all the time. docs/performance.md has the measurements.
constexpr bool reads_once(int rows) { return rows <= 4; }
constexpr int64_t ahead_steps(int rows) { return reads_once(rows) ? 32 : 128; }

// Kernels that depend on the type of the weights.
struct ProductKernels {
  // panel := rows x[r · stride … + k), r < rows <= 12, rounded to the weights' type (nearest even). `scale` matters to I8 only.
  void (*pack_panel)(const float* x, int64_t stride, int rows, int64_t k, const InputScale& scale, uint32_t* panel);

  // y[r, c] (= or +=) Σ_s panel[s, r] · tile[s, c] for r < rows <= 12 and c < columns <= 32; columns 16 … 31 are those of tile1.
  // Both tiles are read whole; tile1 may be tile0 when columns <= 16.
  void (*multiply)(const uint32_t* panel, const uint32_t* tile0, const uint32_t* tile1, int64_t steps, int rows, float* y, int64_t y_stride,
                   int columns, bool add, const Ahead& ahead);

  // panel := silu(gate[r, c]) · up[r, c] for c < columns <= 16, rounded as pack_panel does; gate and up have rows of `stride`.
  // Writes whole steps, the last one padded with zero. Null for I8, which needs a row whole before it can be rounded: see silu_mul.
  void (*silu_mul_panel)(const float* gate, const float* up, int64_t stride, int rows, int columns, uint32_t* panel);
};

struct LinearKernels {
  ProductKernels bf16, f32, i8;
  // out[r, c] := silu(gate[r, c]) · up[r, c] for c < columns <= 16.
  void (*silu_mul)(const float* gate, const float* up, int64_t stride, int rows, int columns, float* out, int64_t out_stride);
  // panel[s, r] := row[r][s]: a panel of rows that pack_panel converted one by one.
  void (*gather_panel)(const uint32_t* const* row, int rows, int64_t steps, uint32_t* panel);
  // y[c] += Σ_i weight[i] · row[i][c], summed in the order of i from 0 and then added to y.
  void (*add_weighted)(const float* const* row, const float* weight, int64_t count, int64_t columns, float* y);
};

extern const LinearKernels kLinearScalar, kLinearAvx2, kLinearAvx512;

const LinearKernels& linear_kernels(Isa isa);
const LinearKernels& linear_kernels();  // of active_isa()

}  // namespace weir::cpu
