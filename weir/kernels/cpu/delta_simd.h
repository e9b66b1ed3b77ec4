// The vector kernels of delta.h, for the instruction set of the file that includes this one.
#pragma once

#include "weir/kernels/cpu/delta.h"
#include "weir/kernels/cpu/elementwise_lanes.h"

namespace weir::cpu {
namespace {

// out[r, :] = start + Σ_p a[r, p] b[p, :], p = 0, 1, …, where start is 0, in[r, :] or scale[r] · in[r, :].
struct Product {
  int64_t rows, columns, depth;
  const float* a;
  int64_t a_row, a_depth;
  const float* b;
  int64_t b_row;
  const float* in;  // null: 0
  int64_t in_row;
  const float* scale;  // of `in`; null: 1
  int64_t scale_row;   // 0: the same for all rows
  float* out;
  int64_t out_row;
};

// Accumulators of one register tile: kTileRows x kTileVectors, with room left for a row of b and a broadcast.
#ifdef __AVX512F__
constexpr int64_t kTileRows = 6, kTileVectors = 4;
#else
constexpr int64_t kTileRows = 6, kTileVectors = 2;
#endif

template <int kRows, int kVectors, class M>
inline void product_tile(const Product& x, int64_t row, int64_t column, M mask) {
  Vec sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = x.in == nullptr ? zero() : load(x.in + (row + r) * x.in_row + column + v * kLanes, mask);
      if (x.in != nullptr && x.scale != nullptr) sum[r][v] = mul(sum[r][v], broadcast(x.scale[(row + r) * x.scale_row]));
    }
  const float* a = x.a + row * x.a_row;
  const float* b = x.b + column;
  for (int64_t p = 0; p < x.depth; ++p, a += x.a_depth, b += x.b_row) {
    Vec right[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) right[v] = load(b + v * kLanes, mask);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec left = broadcast(a[r * x.a_row]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] = fma(left, right[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) store(x.out + (row + r) * x.out_row + column + v * kLanes, sum[r][v], mask);
}

template <int kVectors, class M>
void product_columns(const Product& x, int64_t column, M mask) {
  int64_t row = 0;
  for (; row + kTileRows <= x.rows; row += kTileRows) product_tile<kTileRows, kVectors>(x, row, column, mask);
  switch (x.rows - row) {
    case 5: return product_tile<5, kVectors>(x, row, column, mask);
    case 4: return product_tile<4, kVectors>(x, row, column, mask);
    case 3: return product_tile<3, kVectors>(x, row, column, mask);
    case 2: return product_tile<2, kVectors>(x, row, column, mask);
    case 1: return product_tile<1, kVectors>(x, row, column, mask);
    default: return;
  }
}

void product(const Product& x) {
  int64_t column = 0;
  for (; column + kTileVectors * kLanes <= x.columns; column += kTileVectors * kLanes) product_columns<kTileVectors>(x, column, All{});
  for (; column + kLanes <= x.columns; column += kLanes) product_columns<1>(x, column, All{});
  if (column < x.columns) product_columns<1>(x, column, first_lanes(x.columns - column));
}

// out[r][0 … 3] = x[r]·y[0 … 3]: one vector of partial sums for each, added up by the tree of sum_of().
template <int kRows>
inline void dots(const float* const (&x)[kRows], const float* const (&y)[4], int64_t n, float* const (&out)[kRows]) {
  Vec sum[kRows][4];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < 4; ++j) sum[r][j] = zero();
  for_lanes(n, [&](int64_t i, auto mask) {
    Vec right[4];
#pragma GCC unroll 8
    for (int j = 0; j < 4; ++j) right[j] = load(y[j] + i, mask);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec left = load(x[r] + i, mask);
#pragma GCC unroll 8
      for (int j = 0; j < 4; ++j) sum[r][j] = fma(left, right[j], sum[r][j]);
    }
  });
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) _mm_storeu_ps(out[r], sums_of(sum[r][0], sum[r][1], sum[r][2], sum[r][3]));
}

inline int64_t at_most(int64_t x, int64_t limit) { return x < limit ? x : limit; }

// k_k[t, j] = -exp(Γ_i - Γ_j)(k_i·k_j) for j < i and q_k[t, j] = exp(Γ_i - Γ_j)(q_i·k_j) for j <= i, i = num_old + t; rows of
// kMaxDeltaBlock. decays: of old and new entries. What lies right of that in the rows is not meaningful.
void weights_of(const DeltaBlock& b, const float* decays, float* k_k, float* q_k) {
  const int64_t count = b.num_old + b.num_new;
  const auto key = [&](int64_t j) {  // beyond the last one: any that may be read
    j = at_most(j, count - 1);
    return j < b.num_old ? b.old_keys + j * b.k_dim : b.keys + (j - b.num_old) * b.k_dim;
  };
  for (int64_t t = 0; t < b.num_new; t += 2) {
    const int64_t next = at_most(t + 1, b.num_new - 1);
    const float* const left[4] = {b.keys + t * b.k_dim, b.queries + t * b.k_dim, b.keys + next * b.k_dim, b.queries + next * b.k_dim};
    const int64_t width = kMaxDeltaBlock, last = b.num_old + next;
    for (int64_t j = 0; j <= last; j += 4) {
      const float* const right[4] = {key(j), key(j + 1), key(j + 2), key(j + 3)};
      if (b.num_new == 1) {
        dots<2>({left[0], left[1]}, right, b.k_dim, {k_k + j, q_k + j});
      } else {
        dots<4>(left, right, b.k_dim, {k_k + t * width + j, q_k + t * width + j, k_k + next * width + j, q_k + next * width + j});
      }
    }
    for (int64_t row = t; row <= next; ++row) {
      const Vec decay = broadcast(b.decays[row]);
      for_lanes(b.num_old + row + 1, [&](int64_t j, auto mask) {
        const Vec weight = exp_ps(sub(decay, load(decays + j, mask)));
        float *k = k_k + row * width + j, *q = q_k + row * width + j;
        store(k, sub(zero(), mul(weight, load(k, mask))), mask);
        store(q, mul(weight, load(q, mask)), mask);
      });
    }
  }
}

// Asks for a line that is wanted soon, in L2: what L1 waits for would keep its few misses busy. Any address will do.
inline void fetch(const float* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T1); }

// One token: both products with the state in one pass over it, then the log. kVectors vectors of columns stay in registers. A decoding
// sequence finds none of it in the cache, so while the memory delivers the state it is asked for the log, and while the log is added, for
// what lies behind the state and behind the log's keys: the next head's.
template <int kVectors, class M>
inline void token_columns(const DeltaBlock& b, const float* k_k, const float* q_k, float decay, int64_t column, M mask) {
  Vec u[kVectors], o[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) u[v] = o[v] = zero();
  const float* state = b.state == nullptr ? b.updates + column : b.state + column;  // never read when null
  const float* update = b.updates + column;
  const int64_t depth = b.state == nullptr ? 0 : b.k_dim;
  for (int64_t c = 0; c < depth; ++c, state += b.stride) {
    const Vec k = broadcast(b.keys[c]), q = broadcast(b.queries[c]);
    if (c < b.num_old) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) fetch(update + c * b.stride + v * kLanes);
    } else if (c - b.num_old < b.num_old) {
      const float* next_keys = b.old_keys + (kMaxDeltaBlock + c - b.num_old) * b.k_dim;
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) fetch(next_keys + v * kLanes);
    }
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const Vec s = load(state + v * kLanes, mask);
      u[v] = fma(k, s, u[v]);
      o[v] = fma(q, s, o[v]);
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    u[v] = fnma(broadcast(decay), u[v], load(b.values + column + v * kLanes, mask));
    o[v] = mul(broadcast(decay), o[v]);
  }
  for (int64_t j = 0; j < b.num_old; ++j, update += b.stride, state += b.stride) {
    const Vec k = broadcast(k_k[j]), q = broadcast(q_k[j]);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) fetch(state + v * kLanes);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const Vec x = load(update + v * kLanes, mask);
      u[v] = fma(k, x, u[v]);
      o[v] = fma(q, x, o[v]);
    }
  }
  const Vec beta = broadcast(b.betas[0]), q = broadcast(q_k[b.num_old]);
  float* const new_update = b.updates + b.num_old * b.stride + column;
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    u[v] = mul(beta, u[v]);
    store(new_update + v * kLanes, u[v], mask);
    store(b.out + column + v * kLanes, fma(q, u[v], o[v]), mask);
  }
}

void token(const DeltaBlock& b, const float* k_k, const float* q_k, float decay) {
  constexpr int kVectors = kLanes == 16 ? 8 : 4;
  int64_t column = 0;
  for (; column + kVectors * kLanes <= b.columns; column += kVectors * kLanes) token_columns<kVectors>(b, k_k, q_k, decay, column, All{});
  for (; column + 2 * kLanes <= b.columns; column += 2 * kLanes) token_columns<2>(b, k_k, q_k, decay, column, All{});
  for (; column < b.columns; column += kLanes) token_columns<1>(b, k_k, q_k, decay, column, first_lanes(b.columns - column));
}

// The triangle inside a group of rows [first, first + kRows): k_k and q_k point at its first row and first column.
template <int kRows, class M>
inline void triangle_columns(const float* k_k, const float* q_k, const float* betas, float* u, int64_t u_row, const float* o, int64_t o_row,
                             float* out, int64_t out_row, M mask) {
  Vec x[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) x[r] = load(u + r * u_row, mask);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    x[r] = mul(broadcast(betas[r]), x[r]);
    store(u + r * u_row, x[r], mask);
#pragma GCC unroll 8
    for (int s = r + 1; s < kRows; ++s) x[s] = fma(broadcast(k_k[s * kMaxDeltaBlock + r]), x[r], x[s]);
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    Vec y = load(o + r * o_row, mask);
#pragma GCC unroll 8
    for (int j = 0; j <= r; ++j) y = fma(broadcast(q_k[r * kMaxDeltaBlock + j]), x[j], y);
    store(out + r * out_row, y, mask);
  }
}

template <int kRows>
void triangle(const DeltaBlock& b, int64_t t, const float* k_k, const float* q_k, const float* o) {
  const int64_t i = b.num_old + t, corner = t * kMaxDeltaBlock + i;
  for_lanes(b.columns, [&](int64_t column, auto mask) {
    triangle_columns<kRows>(k_k + corner, q_k + corner, b.betas + t, b.updates + i * b.stride + column, b.stride,
                            o + t * b.columns + column, b.columns, b.out + t * b.out_stride + column, b.out_stride, mask);
  });
}

void block(const DeltaBlock& b) {
  float* const k_k = b.scratch;
  float* const q_k = k_k + kMaxDeltaBlock * kMaxDeltaBlock;
  float* const o = q_k + kMaxDeltaBlock * kMaxDeltaBlock;  // [num_new, columns]
  float decays[kMaxDeltaBlock], from_start[kMaxDeltaBlock];
  __builtin_memcpy(decays, b.old_decays, static_cast<unsigned long>(b.num_old) * sizeof(float));
  __builtin_memcpy(decays + b.num_old, b.decays, static_cast<unsigned long>(b.num_new) * sizeof(float));
  for_lanes(b.num_new, [&](int64_t t, auto mask) { store(from_start + t, exp_ps(load(b.decays + t, mask)), mask); });
  weights_of(b, decays, k_k, q_k);
  if (b.num_new == 1) return token(b, k_k, q_k, from_start[0]);

  float* const updates = b.updates + b.num_old * b.stride;
  // Wanted behind the two products; rows far apart, which the hardware does not foresee.
  for (int64_t t = 0; t < b.num_new; ++t)
    for (int64_t d = 0; d < b.columns; d += 16) {
      fetch(b.values + t * b.values_stride + d);
      __builtin_prefetch(b.out + t * b.out_stride + d, 1, 2);
    }
  const int64_t depth = b.state == nullptr ? 0 : b.k_dim;
  const float* state = b.state == nullptr ? b.updates : b.state;  // never read when null
  product({b.num_new, b.columns, depth, b.keys, b.k_dim, 1, state, b.stride, nullptr, 0, nullptr, 0, updates, b.stride});
  product({b.num_new, b.columns, depth, b.queries, b.k_dim, 1, state, b.stride, nullptr, 0, nullptr, 0, o, b.columns});
  for (int64_t t = 0; t < b.num_new; ++t) {
    const Vec decay = broadcast(from_start[t]);
    for_lanes(b.columns, [&](int64_t d, auto mask) {
      float *u = updates + t * b.stride + d, *y = o + t * b.columns + d;
      store(u, fnma(decay, load(u, mask), load(b.values + t * b.values_stride + d, mask)), mask);
      store(y, mul(decay, load(y, mask)), mask);
    });
  }
  for (int64_t t = 0; t < b.num_new; t += kTileRows) {
    const int64_t rows = at_most(kTileRows, b.num_new - t), width = kMaxDeltaBlock, before = b.num_old + t;
    float* const u = updates + t * b.stride;
    float* const y = o + t * b.columns;
    product({rows, b.columns, before, k_k + t * width, width, 1, b.updates, b.stride, u, b.stride, nullptr, 0, u, b.stride});
    product({rows, b.columns, before, q_k + t * width, width, 1, b.updates, b.stride, y, b.columns, nullptr, 0, y, b.columns});
    switch (rows) {
      case 6: triangle<6>(b, t, k_k, q_k, o); break;
      case 5: triangle<5>(b, t, k_k, q_k, o); break;
      case 4: triangle<4>(b, t, k_k, q_k, o); break;
      case 3: triangle<3>(b, t, k_k, q_k, o); break;
      case 2: triangle<2>(b, t, k_k, q_k, o); break;
      default: triangle<1>(b, t, k_k, q_k, o); break;
    }
  }
}

void fold(const DeltaFold& f) {
  const float last = f.decays[f.count - 1];
  float weights[kMaxDeltaBlock], decay[kLanes];
  for_lanes(f.count, [&](int64_t j, auto mask) { store(weights + j, exp_ps(sub(broadcast(last), load(f.decays + j, mask))), mask); });
  store(decay, exp_ps(broadcast(last)));
  for (int64_t j = 0; j < f.count; ++j)
    for_lanes(f.columns, [&](int64_t d, auto mask) {
      store(f.scratch + j * f.columns + d, mul(broadcast(weights[j]), load(f.updates + j * f.stride + d, mask)), mask);
    });
  product({f.k_dim, f.columns, f.count, f.keys, 1, f.k_dim, f.scratch, f.columns, f.state_in, f.stride, decay, 0, f.state_out, f.stride});
}

}  // namespace
}  // namespace weir::cpu
