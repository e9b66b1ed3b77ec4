// The vector kernels of delta.h, for the instruction set of the file that includes this one.
#pragma once

#include "weir/kernels/cpu/delta.h"
#include "weir/kernels/cpu/elementwise_lanes.h"

namespace weir::cpu {
namespace {

// Accumulators of one register tile: kTileRows x kTileVectors, with room left for a row of the other factor and its broadcasts.
#ifdef __AVX512F__
constexpr int64_t kTileRows = 6, kTileVectors = 4;
#else
constexpr int64_t kTileRows = 6, kTileVectors = 2;
#endif

template <int kRows, int kVectors>
struct Tile {
  Vec at[kRows][kVectors];
};

// body(r, v) for every vector of a tile, unrolled.
template <int kRows, int kVectors, class Body>
inline void for_tile(Body body) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) body(r, v);
}

// out[r][0 … 3] = x[r]·y[0 … 3]: one vector of partial sums for each, added up by the tree of sum_of().
template <int kRows>
inline void dots_of(const float* const (&x)[kRows], const float* const (&y)[4], int64_t n, float* const (&out)[kRows]) {
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

void dots(const DeltaDots& d) {
  constexpr int64_t width = kMaxDeltaBlock;
  const auto key = [&](int64_t j) {  // beyond the last one: any that may be read
    j = at_most(j, d.num_old + d.num_new - 1);
    return j < d.num_old ? d.old_keys + j * d.k_dim : d.keys + (j - d.num_old) * d.k_dim;
  };
  for (int64_t t = 0; t < d.num_new; t += 2) {
    const int64_t next = at_most(t + 1, d.num_new - 1);
    const float* const left[4] = {d.keys + t * d.k_dim, d.queries + t * d.k_dim, d.keys + next * d.k_dim, d.queries + next * d.k_dim};
    float* const out[4] = {d.k_k + t * width, d.q_k + t * width, d.k_k + next * width, d.q_k + next * width};
    for (int64_t j = 0; j <= d.num_old + next; j += 4) {
      const float* const right[4] = {key(j), key(j + 1), key(j + 2), key(j + 3)};
      if (d.num_new == 1) {
        dots_of<2>({left[0], left[1]}, right, d.k_dim, {out[0] + j, out[1] + j});
      } else {
        dots_of<4>(left, right, d.k_dim, {out[0] + j, out[1] + j, out[2] + j, out[3] + j});
      }
    }
  }
}

// What a value head makes of the dot products, and of its decays, in scratch.
struct Weights {
  float *k_k, *q_k;                  // rows of kMaxDeltaBlock: -exp(Γ_i - Γ_j)(k_i·k_j) and exp(Γ_i - Γ_j)(q_i·k_j)
  float from_start[kMaxDeltaBlock];  // exp(Γ_i) of the new tokens
};

inline void weights_of(const DeltaBlock& b, Weights& w) {
  w.k_k = b.scratch, w.q_k = b.scratch + kMaxDeltaBlock * kMaxDeltaBlock;
  for_lanes(b.num_new, [&](int64_t t, auto mask) { store(w.from_start + t, exp_ps(load(b.decays + b.num_old + t, mask)), mask); });
  for (int64_t t = 0; t < b.num_new; ++t) {
    const Vec decay = broadcast(b.decays[b.num_old + t]);
    for_lanes(b.num_old + t + 1, [&](int64_t j, auto mask) {
      const Vec weight = exp_ps(sub(decay, load(b.decays + j, mask)));
      const int64_t at = t * kMaxDeltaBlock + j;
      store(w.k_k + at, sub(zero(), mul(weight, load(b.k_k + at, mask))), mask);
      store(w.q_k + at, mul(weight, load(b.q_k + at, mask)), mask);
    });
  }
}

// u[r, :] += Σ_p k[r, p] b[p, :] and o[r, :] += Σ_p q[r, p] b[p, :], p = 0, 1, …; rows of k and q `row` apart, of b `b_row`. meanwhile(p)
// asks for what is wanted next.
template <int kRows, int kVectors, class M, class Meanwhile>
inline void add_products(Tile<kRows, kVectors>& u, Tile<kRows, kVectors>& o, const float* k, const float* q, int64_t row, const float* b,
                         int64_t b_row, int64_t depth, M mask, Meanwhile meanwhile) {
  for (int64_t p = 0; p < depth; ++p, b += b_row) {
    meanwhile(p);
    Vec right[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) right[v] = load(b + v * kLanes, mask);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec key = broadcast(k[r * row + p]), query = broadcast(q[r * row + p]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        u.at[r][v] = fma(key, right[v], u.at[r][v]);
        o.at[r][v] = fma(query, right[v], o.at[r][v]);
      }
    }
  }
}

// Tokens [t, t + kRows), both products at once: with the state, which read_state(u, o) makes, with the log, then with the tokens
// themselves, all in registers. in_log(j) asks for what is wanted next.
template <int kRows, int kVectors, class M, class ReadState, class InLog>
inline void tokens_tile(const DeltaBlock& b, const Weights& w, int64_t t, int64_t column, M mask, ReadState read_state, InLog in_log) {
  constexpr int64_t width = kMaxDeltaBlock;
  const int64_t i = b.num_old + t;
  const float *const k_k = w.k_k + t * width, *const q_k = w.q_k + t * width;
  float* const updates = b.updates + column;
  Tile<kRows, kVectors> u, o;
  read_state(u, o);
  for_tile<kRows, kVectors>([&](int r, int v) {
    const Vec decay = broadcast(w.from_start[t + r]);
    u.at[r][v] = fnma(decay, u.at[r][v], load(b.values + (t + r) * b.values_stride + column + v * kLanes, mask));
    o.at[r][v] = mul(decay, o.at[r][v]);
  });
  add_products(u, o, k_k, q_k, width, updates, b.stride, i, mask, in_log);
#pragma GCC unroll 8
  for (int s = 0; s < kRows; ++s)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const Vec update = mul(broadcast(b.betas[t + s]), u.at[s][v]);
      store(updates + (i + s) * b.stride + v * kLanes, update, mask);
#pragma GCC unroll 8
      for (int r = s + 1; r < kRows; ++r) u.at[r][v] = fma(broadcast(k_k[r * width + i + s]), update, u.at[r][v]);
#pragma GCC unroll 8
      for (int r = s; r < kRows; ++r) o.at[r][v] = fma(broadcast(q_k[r * width + i + s]), update, o.at[r][v]);
    }
  for_tile<kRows, kVectors>([&](int r, int v) { store(b.out + (t + r) * b.out_stride + column + v * kLanes, o.at[r][v], mask); });
}

// read_state() of tokens_tile() from rows; in_state(c) asks for what is wanted next.
template <class M, class InState>
inline auto from_rows(const DeltaBlock& b, int64_t t, int64_t column, M mask, InState in_state) {
  return [&b, t, column, mask, in_state]<int kRows, int kVectors>(Tile<kRows, kVectors>& u, Tile<kRows, kVectors>& o) {
    for_tile<kRows, kVectors>([&](int r, int v) { u.at[r][v] = o.at[r][v] = zero(); });
    if (b.state == nullptr) return;
    const float* const state = static_cast<const float*>(b.state) + column;
    add_products(u, o, b.keys + t * b.k_dim, b.queries + t * b.k_dim, b.k_dim, state, b.stride, b.k_dim, mask, in_state);
  };
}

// A decoding sequence finds nothing in the cache. The state is asked for some rows ahead, as the hardware stops at every page, and while
// the memory delivers it the log, then the next heads' keys; while the log is added, what lies behind the state: the next head's. Without a
// state, the next head's log.
template <int kVectors, class M>
inline void token_columns(const DeltaBlock& b, const Weights& w, int64_t column, M mask) {
  constexpr int64_t kAhead = 16;
  const auto fetch_row = [](const float* p) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) fetch(p + v * kLanes);
  };
  const float* const updates = b.updates + column;
  const float* const ahead = (b.state == nullptr ? updates : static_cast<const float*>(b.state) + column) + kAhead * b.stride;
  const float* const behind = b.state == nullptr ? updates + kMaxDeltaBlock * b.stride : ahead + b.k_dim * b.stride;
  const auto in_state = [&](int64_t c) {
    fetch_row(ahead + c * b.stride);
    if (c < b.num_old) {
      fetch_row(updates + c * b.stride);
    } else if (c < 2 * b.num_old) {
      fetch_row(b.next_keys + (c - b.num_old) * b.k_dim);
    }
  };
  const auto in_log = [&](int64_t j) { fetch_row(behind + j * b.stride); };
  tokens_tile<1, kVectors>(b, w, 0, column, mask, from_rows(b, 0, column, mask, in_state), in_log);
}

void token(const DeltaBlock& b, const Weights& w) {
  constexpr int kVectors = kLanes == 16 ? 8 : 4;
  int64_t column = 0;
  for (; column + kVectors * kLanes <= b.columns; column += kVectors * kLanes) token_columns<kVectors>(b, w, column, All{});
  for (; column + 2 * kLanes <= b.columns; column += 2 * kLanes) token_columns<2>(b, w, column, All{});
  for (; column < b.columns; column += kLanes) token_columns<1>(b, w, column, first_lanes(b.columns - column));
}

// Asks for what is wanted behind tokens [begin, end).
inline void fetch_wanted(const DeltaBlock& b, int64_t begin, int64_t end, int64_t column, int64_t columns) {
  for (int64_t t = begin; t < end; ++t)
    for (int64_t d = column; d < column + columns; d += 16) fetch(b.wanted + t * b.wanted_stride + d);
}

template <int kVectors, class M>
inline void tokens_columns(const DeltaBlock& b, const Weights& w, int64_t column, M mask) {
  constexpr int64_t kRows = kTileRows / 2;
  const auto nothing = [](int64_t) {};
  int64_t t = 0;
  for (; t + kRows <= b.num_new; t += kRows) {
    fetch_wanted(b, t, t + kRows, column, kVectors * kLanes);
    tokens_tile<kRows, kVectors>(b, w, t, column, mask, from_rows(b, t, column, mask, nothing), nothing);
  }
  for (; t + 2 <= b.num_new; t += 2) tokens_tile<2, kVectors>(b, w, t, column, mask, from_rows(b, t, column, mask, nothing), nothing);
  for (; t < b.num_new; ++t) tokens_tile<1, kVectors>(b, w, t, column, mask, from_rows(b, t, column, mask, nothing), nothing);
}

void block(const DeltaBlock& b) {
  Weights w;
  weights_of(b, w);
  if (b.num_new == 1) return token(b, w);
  int64_t column = 0;
  for (; column + kTileVectors * kLanes <= b.columns; column += kTileVectors * kLanes) tokens_columns<kTileVectors>(b, w, column, All{});
  for (; column < b.columns; column += kLanes) tokens_columns<1>(b, w, column, first_lanes(b.columns - column));
}

// A state that comes from memory is asked for a tile ahead: the hardware does not foresee parts of rows.
template <int kRows, int kVectors, class M>
inline void fold_tile(const DeltaFold& f, Vec decay, int64_t c, int64_t column, M mask) {
  const int64_t at = c * f.stride + column;
  const auto* const in = static_cast<const float*>(f.state_in);
  auto* const out = static_cast<float*>(f.state_out);
  Tile<kRows, kVectors> sum;
  for_tile<kRows, kVectors>(
      [&](int r, int v) { sum.at[r][v] = in == nullptr ? zero() : mul(decay, load(in + at + r * f.stride + v * kLanes, mask)); });
  if (in != nullptr) for_tile<kRows, kVectors>([&](int r, int v) { fetch(in + at + (kRows + r) * f.stride + v * kLanes); });
  const float *key = static_cast<const float*>(f.keys) + c, *update = f.scratch + column;
  for (int64_t j = 0; j < f.count; ++j, key += f.k_dim, update += f.columns) {
    Vec right[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) right[v] = load(update + v * kLanes, mask);
    for_tile<kRows, kVectors>([&](int r, int v) { sum.at[r][v] = fma(broadcast(key[r]), right[v], sum.at[r][v]); });
  }
  for_tile<kRows, kVectors>([&](int r, int v) { store(out + at + r * f.stride + v * kLanes, sum.at[r][v], mask); });
}

template <int kVectors, class M>
inline void fold_columns(const DeltaFold& f, Vec decay, int64_t column, M mask) {
  int64_t c = 0;
  for (; c + kTileRows <= f.k_dim; c += kTileRows) fold_tile<kTileRows, kVectors>(f, decay, c, column, mask);
  for (; c + 2 <= f.k_dim; c += 2) fold_tile<2, kVectors>(f, decay, c, column, mask);
  for (; c < f.k_dim; ++c) fold_tile<1, kVectors>(f, decay, c, column, mask);
}

// exp(Γ_last - Γ_j) of a log.
inline void fold_weights(const DeltaFold& f, float* weights) {
  const Vec last = broadcast(f.decays[f.count - 1]);
  for_lanes(f.count, [&](int64_t j, auto mask) { store(weights + j, exp_ps(sub(last, load(f.decays + j, mask))), mask); });
}

inline const void* fold_keys(const float* keys, int64_t, uint16_t*) { return keys; }

inline void fold(const DeltaFold& f) {
  const Vec decay = exp_ps(broadcast(f.decays[f.count - 1]));
  float weights[kMaxDeltaBlock];
  fold_weights(f, weights);
  for (int64_t j = 0; j < f.count; ++j)
    for_lanes(f.columns, [&](int64_t d, auto mask) {
      store(f.scratch + j * f.columns + d, mul(broadcast(weights[j]), load(f.updates + j * f.stride + d, mask)), mask);
    });
  int64_t column = 0;
  for (; column + kTileVectors * kLanes <= f.columns; column += kTileVectors * kLanes) fold_columns<kTileVectors>(f, decay, column, All{});
  for (; column < f.columns; column += kLanes) fold_columns<1>(f, decay, column, first_lanes(f.columns - column));
}

}  // namespace
}  // namespace weir::cpu
