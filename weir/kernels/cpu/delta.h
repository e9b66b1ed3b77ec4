// The gated delta rule inside one block of at most 32 tokens: the dot products of a key head, then the rest for each value head that uses
// it, or a range of its columns (columns never mix).
//
// Order of every sum, the same for one token and for many, hence the same bits however a sequence is cut (per instruction set):
//   a[d] = Σ_c k_i[c] S[c, d] and b[d] = Σ_c q_i[c] S[c, d]: c = 0, 1, … with one multiply-add each
//   k_i·k_j, q_i·k_j: one fixed tree that depends on k_dim only
//   u[d] = β (v[d] - exp(Γ_i) a[d] - Σ_j exp(Γ_i - Γ_j)(k_i·k_j) u_j[d]),  o[d] = exp(Γ_i) b[d] + Σ_j …: from left to right, j = 0, 1, …
// The vector kernels put neighbouring columns d into lanes for all but the dot products k·k and q·k. AMX sums over c in an order of its own
// (delta_amx.cpp), the same for one token and for many.
#pragma once

#include <cstdint>

namespace weir::cpu {

enum class Isa : uint8_t;  // isa.h, not included: files built for one instruction set see no library header

constexpr int64_t kMaxDeltaBlock = 32;

// A state lies in F32 rows, `stride` apart, or, where the kernels say so, tiled: in panels of kDeltaPanel columns one behind the other,
// each k_dim x kDeltaPanel elements of 4 bytes (or 2 if narrow) in an order that only the kernels know.
constexpr int64_t kDeltaPanel = 64;

// k_k[t, j] = k_i·k_j for j < i and q_k[t, j] = q_i·k_j for j <= i, where i = num_old + t. What lies right of that is not meaningful.
struct DeltaDots {
  int64_t k_dim;
  int64_t num_old, num_new;  // log entries before, tokens to process; together <= 32
  const float* old_keys;     // [num_old, k_dim].  num_new > 1: keys follow them directly
  const float* keys;         // [num_new, k_dim] normalised
  const float* queries;      // [num_new, k_dim] normalised and scaled
  float *k_k, *q_k;          // [num_new, 32]
  uint16_t* halves;          // delta_halves(): what block() wants to know of keys and queries besides, in whatever form
};

struct DeltaBlock {
  int64_t k_dim, columns;
  int64_t num_old, num_new;  // as in DeltaDots
  const float* keys;         // [num_new, k_dim]
  const float* queries;      // [num_new, k_dim]
  const float *k_k, *q_k;    // of DeltaDots
  const uint16_t* halves;    // of DeltaDots
  const float* next_keys;    // log that will be read behind this one, asked for early when num_new is 1; any address
  const float* wanted;       // what will be read behind this besides, asked for meanwhile when num_new is more than 1
  int64_t wanted_stride;     // [num_new, columns]
  const float* decays;       // [num_old + num_new] Γ
  const float* betas;        // [num_new]
  const float* values;
  int64_t values_stride;  // [num_new, columns]
  const void* state;      // [k_dim, columns] before the block; null: zeros, whose products are left out
  bool narrow;            // a tiled state in BF16
  int64_t stride;         // of the log's updates, and of the state's rows
  float* updates;         // [num_old + num_new, columns], the new ones are written
  float* out;
  int64_t out_stride;  // [num_new, columns]
  float* scratch;      // delta_scratch_floats()
};

// The weights of two triangles and the products with the state.
constexpr int64_t delta_scratch_floats(int64_t columns) { return kMaxDeltaBlock * (2 * kMaxDeltaBlock + 2 * columns); }
constexpr int64_t delta_halves(int64_t k_dim) { return 4 * kMaxDeltaBlock * k_dim; }

// state_out = exp(Γ_last) state_in + Σ_j exp(Γ_last - Γ_j) k_j ⊗ u_j over the `count` entries of a log.  state_out may be state_in.
struct DeltaFold {
  int64_t k_dim, columns, count;  // tiled states: count is kMaxDeltaBlock
  const void* keys;               // of fold_keys()
  const float* decays;            // [count] Γ
  const float* updates;           // [count, columns], rows `stride` apart
  const void* state_in;           // null: zeros
  void* state_out;                // [k_dim, columns]
  bool narrow;                    // tiled states in BF16
  int64_t stride;                 // of updates, and of the states' rows
  float* scratch;                 // delta_scratch_floats()
};

struct DeltaKernels {
  void (*dots)(const DeltaDots&);
  void (*block)(const DeltaBlock&);
  // The keys of a block, rows of k_dim, for its folds; may lie in `scratch`, delta_halves().
  const void* (*fold_keys)(const float* keys, int64_t k_dim, uint16_t* scratch);
  void (*fold)(const DeltaFold&);
  // The rows [k_dim, columns] of a tiled state; null: states are not tiled.
  void (*rows_of)(const void* state, bool narrow, int64_t k_dim, int64_t columns, float* rows);
  bool tiled() const { return rows_of != nullptr; }
};

const DeltaKernels& delta_kernels(Isa isa, int64_t k_dim, int64_t v_dim);

namespace scalar {
extern const DeltaKernels kDelta;
}
namespace avx2 {
extern const DeltaKernels kDelta;
}
namespace avx512 {
extern const DeltaKernels kDelta;
}
namespace amx {
extern const DeltaKernels kDelta;  // for k_dim in 32s and v_dim in panels
}

}  // namespace weir::cpu
