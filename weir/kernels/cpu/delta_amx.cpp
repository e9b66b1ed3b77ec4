// The gated delta rule with its products with the state, and its folds, on the tile registers of AMX. Those multiply BF16, of which a float
// makes two halves: x = high + low, but for 2^-17 |x| at most. A product of floats is low·high' + high·high' + high·low'; the sum over 32
// steps of one of these is added at a time, whatever the number of tokens. What a head's tokens do with the log is that of AVX-512.
//
// A state is kept in its halves, in the order in which it is multiplied: [v_dim / 64][k_dim / 32][4 tiles of 16 columns][high, low][16
// pairs of rows][16 columns][2 rows]. A narrow one is its high half alone, and the products with the low one are left out.
#include "weir/kernels/cpu/delta_simd.h"
#include "weir/kernels/cpu/tiles_amx.h"

namespace weir::cpu::amx {
namespace {

constexpr int64_t kSteps = 32;        // rows of the state in a tile
constexpr int64_t kTileHalves = 512;  // BF16 in a tile
constexpr int64_t kPanelTiles = kDeltaPanel / 16;
static_assert(kMaxDeltaBlock == kSteps, "a block's tokens are the steps of a tile, too");

constexpr int64_t halves_of(bool narrow) { return narrow ? 1 : 2; }

// BF16 of two rows, side by side.
inline __m512i paired(Vec even, Vec odd) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3,
                                         18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(odd, even)));
}
inline Vec even_of(__m512i pair) { return _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16)); }
inline Vec odd_of(__m512i pair) { return _mm512_castsi512_ps(_mm512_and_si512(pair, _mm512_set1_epi32(-65536))); }

struct Halves {
  __m512i high, low;
};
inline Halves halves_of(Vec even, Vec odd) {
  const __m512i high = paired(even, odd);
  return {high, paired(sub(even, even_of(high)), sub(odd, odd_of(high)))};
}

// 16 x 16 words.
inline void transpose(__m512i (&r)[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  __m512i u[16];  // u[4 i + k]: in lane L, words 4 L + k of rows 4 i … 4 i + 3
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    u[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]), u[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    u[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]), u[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    const __m512i upper_even = _mm512_shuffle_i32x4(u[k], u[4 + k], 0x88), upper_odd = _mm512_shuffle_i32x4(u[k], u[4 + k], 0xdd);
    const __m512i lower_even = _mm512_shuffle_i32x4(u[8 + k], u[12 + k], 0x88), lower_odd = _mm512_shuffle_i32x4(u[8 + k], u[12 + k], 0xdd);
    r[k] = _mm512_shuffle_i32x4(upper_even, lower_even, 0x88), r[8 + k] = _mm512_shuffle_i32x4(upper_even, lower_even, 0xdd);
    r[4 + k] = _mm512_shuffle_i32x4(upper_odd, lower_odd, 0x88), r[12 + k] = _mm512_shuffle_i32x4(upper_odd, lower_odd, 0xdd);
  }
}

// Keys and queries as rows of one matrix, [2 num_new, k_dim]: its high half, then, delta_halves() / 2 behind, its low one.
void dots_and_halves(const DeltaDots& d) {
  dots(d);
  const auto split = [&](const float* x, uint16_t* high) {
    uint16_t* const low = high + delta_halves(d.k_dim) / 2;
    for (int64_t i = 0; i < d.num_new * d.k_dim; i += kLanes) {
      const Vec value = load(x + i);
      store_bf16(low + i, sub(value, store_bf16(high + i, value)));
    }
  };
  split(d.keys, d.halves);
  split(d.queries, d.halves + d.num_new * d.k_dim);
}

template <int tile>
inline void load_state(const uint16_t* state) {
  load_tile<tile>(state, 64);
}

// sums [rows][kDeltaPanel] := rows [row, row + 16 blocks) of keys and queries · a panel of the state; of its tiles those from `tile` on, 4
// with one block and 2 with two. meanwhile(here) asks for what is wanted next, once for every tile or pair of tiles of the state.
template <int blocks, bool narrow, class Meanwhile>
void times_panel(const DeltaBlock& b, int64_t row, const uint16_t* panel, int64_t tile, float* sums, Meanwhile meanwhile) {
  constexpr int64_t kNext = halves_of(narrow) * kTileHalves;
  const int64_t row_bytes = b.k_dim * static_cast<int64_t>(sizeof(uint16_t)), low = delta_halves(b.k_dim) / 2;
  const uint16_t* x = b.halves + row * b.k_dim;
  const uint16_t* s = panel + tile * kNext;
  zero_tile<0>(), zero_tile<1>(), zero_tile<2>(), zero_tile<3>();
  for (int64_t c = 0; c < b.k_dim; c += kSteps, x += kSteps, s += kPanelTiles * kNext) {
    if constexpr (blocks == 1) {
      load_tile<4>(x + low, row_bytes), load_tile<5>(x, row_bytes);
      const auto add_tile = [&]<int sum>() {
        const uint16_t* const here = s + sum * kNext;
        meanwhile(here);
        load_state<6>(here);
        dot_bf16<sum, 4, 6>(), dot_bf16<sum, 5, 6>();
        if constexpr (!narrow) {
          load_state<7>(here + kTileHalves);
          dot_bf16<sum, 5, 7>();
        }
      };
      add_tile.template operator()<0>();
      add_tile.template operator()<1>();
      add_tile.template operator()<2>();
      add_tile.template operator()<3>();
    } else {
      const uint16_t* const x1 = x + 16 * b.k_dim;
      const auto add = [] { dot_bf16<0, 4, 6>(), dot_bf16<1, 4, 7>(), dot_bf16<2, 5, 6>(), dot_bf16<3, 5, 7>(); };
      meanwhile(s);
      load_state<6>(s), load_state<7>(s + kNext);
      load_tile<4>(x + low, row_bytes), load_tile<5>(x1 + low, row_bytes);
      add();
      load_tile<4>(x, row_bytes), load_tile<5>(x1, row_bytes);
      add();
      if constexpr (!narrow) {
        load_state<6>(s + kTileHalves), load_state<7>(s + kNext + kTileHalves);
        add();
      }
    }
  }
  constexpr int64_t kRow = kDeltaPanel * sizeof(float);
  float* const out = sums + row * kDeltaPanel + tile * 16;
  store_tile<0>(out, kRow), store_tile<1>(out + 16, kRow);
  if constexpr (blocks == 1) {
    store_tile<2>(out + 32, kRow), store_tile<3>(out + 48, kRow);
  } else {
    store_tile<2>(out + 16 * kDeltaPanel, kRow), store_tile<3>(out + 16 * kDeltaPanel + 16, kRow);
  }
}

// read_state() of tokens_tile() from the sums of all tokens from t on with a panel.
inline auto from_sums(const DeltaBlock& b, const float* sums, int64_t t) {
  return [&b, sums, t]<int kRows, int kVectors>(Tile<kRows, kVectors>& u, Tile<kRows, kVectors>& o) {
    for_tile<kRows, kVectors>([&](int r, int v) {
      // Eight vectors are those of two panels, whose sums lie one behind the other.
      const float* at = sums + v / kPanelTiles * 2 * b.num_new * kDeltaPanel + v % kPanelTiles * kLanes;
      u.at[r][v] = load(at + (t + r) * kDeltaPanel), o.at[r][v] = load(at + (b.num_new + t + r) * kDeltaPanel);
    });
  };
}

inline const uint16_t* panel_of(const DeltaBlock& b, int64_t column) {
  return static_cast<const uint16_t*>(b.state) + column * b.k_dim * halves_of(b.narrow);
}

// A decoding sequence finds nothing in the cache. Its state, one piece for all heads, is asked for some tiles ahead and into L1, as
// tiles are loaded from there a tenth faster; beside it the log, then the next heads' keys.
template <bool narrow, int panels>
void token_panels(const DeltaBlock& b, const Weights& w, int64_t column, float* sums) {
  constexpr int64_t kNext = halves_of(narrow) * kTileHalves, kAhead = 8 * kTileHalves;
  const float *const log = b.updates + column, *line = log;
  const int64_t row = panels * kDeltaPanel, tiles = panels * kPanelTiles * b.k_dim / kSteps;
  const int64_t lines = (2 * b.num_old * row / kLanes + tiles - 1) / tiles;  // for each tile of the state
  for (int p = 0; p < panels; ++p) {
    times_panel<1, narrow>(b, 0, panel_of(b, column + p * kDeltaPanel), 0, sums + p * 2 * kDeltaPanel, [&](const uint16_t* here) {
#pragma GCC unroll 1
      for (int64_t i = 0; i < kNext; i += 32) asm volatile("prefetcht0 (%0)" : : "r"(here + kAhead + i));
#pragma GCC unroll 1
      for (int64_t i = 0; i < lines; ++i, line += kLanes) {
        if (line == log + b.num_old * row) line = b.next_keys;
        fetch(line);
      }
    });
  }
  tokens_tile<1, panels * kPanelTiles>(b, w, 0, column, All{}, from_sums(b, sums, 0), [](int64_t) {});
}

template <bool narrow>
void token_tiled(const DeltaBlock& b, const Weights& w, float* sums) {
  int64_t column = 0;
  for (; column + 2 * kDeltaPanel <= b.columns; column += 2 * kDeltaPanel) token_panels<narrow, 2>(b, w, column, sums);
  if (column < b.columns) token_panels<narrow, 1>(b, w, column, sums);
}

// Of a panel, whole tiles.
inline int64_t rows_of_sums(const DeltaBlock& b) { return (2 * b.num_new + 15) / 16 * 16; }

template <bool narrow>
void tokens_tiled(const DeltaBlock& b, const Weights& w, float* sums) {
  constexpr int64_t kRows = kTileRows / 2;
  const int64_t rows = 2 * b.num_new;
  // All products first: sums that were stored just now are waited for.
  for (int64_t column = 0; column < b.columns; column += kDeltaPanel) {
    const uint16_t* const panel = panel_of(b, column);
    float* const to = sums + rows_of_sums(b) * column;
    int64_t asked = 0;
    const int64_t calls = (rows + 31) / 32 * 2 * b.k_dim / kSteps, at_once = (b.num_new + calls - 1) / calls;
    const auto meanwhile = [&](const uint16_t*) {
      const int64_t end = at_most(b.num_new, asked + at_once);
      fetch_wanted(b, asked, end, column, kDeltaPanel);
      asked = end;
    };
    for (int64_t row = 0; row < rows; row += 32) {
      if (rows - row > 16) {
        times_panel<2, narrow>(b, row, panel, 0, to, meanwhile);
        times_panel<2, narrow>(b, row, panel, 2, to, meanwhile);
      } else {
        times_panel<1, narrow>(b, row, panel, 0, to, meanwhile);
      }
    }
  }
  const auto nothing = [](int64_t) {};
  for (int64_t column = 0; column < b.columns; column += kDeltaPanel) {
    const float* const from = sums + rows_of_sums(b) * column;
    int64_t t = 0;
    for (; t + kRows <= b.num_new; t += kRows) tokens_tile<kRows, kPanelTiles>(b, w, t, column, All{}, from_sums(b, from, t), nothing);
    for (; t + 2 <= b.num_new; t += 2) tokens_tile<2, kPanelTiles>(b, w, t, column, All{}, from_sums(b, from, t), nothing);
    for (; t < b.num_new; ++t) tokens_tile<1, kPanelTiles>(b, w, t, column, All{}, from_sums(b, from, t), nothing);
  }
}

void block_tiled(const DeltaBlock& b) {
  if (b.state == nullptr) return block(b);
  Weights w;
  weights_of(b, w);
  float* const sums = b.scratch + 2 * kMaxDeltaBlock * kMaxDeltaBlock;
  configure_tiles(TileUse::kProduct, static_cast<int>(at_most(16, 2 * b.num_new)));
  if (b.num_new == 1) return b.narrow ? token_tiled<true>(b, w, sums) : token_tiled<false>(b, w, sums);
  return b.narrow ? tokens_tiled<true>(b, w, sums) : tokens_tiled<false>(b, w, sums);
}

// The transposed keys of a block: [k_dim / 16][high, low], each a tile [16 rows of the state][32 tokens].
const void* transposed_keys(const float* keys, int64_t k_dim, uint16_t* form) {
  uint16_t* out = form;
  for (int64_t c = 0; c < k_dim; c += 16, out += 2 * kTileHalves) {
    __m512i high[16], low[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      const float* const key = keys + 2 * i * k_dim + c;
      const Halves pair = halves_of(load(key), load(key + k_dim));
      high[i] = pair.high, low[i] = pair.low;
    }
    transpose(high), transpose(low);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      _mm512_storeu_si512(out + i * 32, high[i]);
      _mm512_storeu_si512(out + kTileHalves + i * 32, low[i]);
    }
  }
  return form;
}

// exp(Γ_last - Γ_j) u_j in halves: [columns / 16][high, low], each a tile [16 pairs of tokens][16 columns][2].
void weighted_updates(const DeltaFold& f, uint16_t* form) {
  float weights[kMaxDeltaBlock];
  fold_weights(f, weights);
  for (int64_t j = 0; j < kMaxDeltaBlock; j += 2) {
    const Vec even = broadcast(weights[j]), odd = broadcast(weights[j + 1]);
    const float* const update = f.updates + j * f.stride;
    uint16_t* out = form + j / 2 * 32;
    for (int64_t d = 0; d < f.columns; d += 16, out += 2 * kTileHalves) {
      const Halves pair = halves_of(mul(even, load(update + d)), mul(odd, load(update + d + f.stride)));
      _mm512_storeu_si512(out, pair.high);
      _mm512_storeu_si512(out + kTileHalves, pair.low);
    }
  }
}

// One tile of a state, [16 pairs of rows][16 columns]: in · decay + sums [32 rows][32].
template <bool narrow>
void fold_state(const uint16_t* in, Vec decay, const float* sums, uint16_t* out) {
#pragma GCC unroll 4
  for (int64_t i = 0; i < 16; ++i, out += 32) {
    Vec even = load(sums + 2 * i * 32), odd = load(sums + (2 * i + 1) * 32);
    if (in != nullptr) {
      const __m512i high = _mm512_loadu_si512(in + i * 32);
      Vec old_even = even_of(high), old_odd = odd_of(high);
      if constexpr (!narrow) {
        const __m512i low = _mm512_loadu_si512(in + kTileHalves + i * 32);
        old_even = add(old_even, even_of(low)), old_odd = add(old_odd, odd_of(low));
      }
      even = fma(decay, old_even, even), odd = fma(decay, old_odd, odd);
    }
    if constexpr (narrow) {
      _mm512_storeu_si512(out, paired(even, odd));
    } else {
      const Halves pair = halves_of(even, odd);
      _mm512_storeu_si512(out, pair.high);
      _mm512_storeu_si512(out + kTileHalves, pair.low);
    }
  }
}

template <bool narrow>
void fold_tiled(const DeltaFold& f) {
  constexpr int64_t kNext = halves_of(narrow) * kTileHalves;
  auto* const updates = reinterpret_cast<uint16_t*>(f.scratch);
  weighted_updates(f, updates);
  const Vec decay = exp_ps(broadcast(f.decays[kMaxDeltaBlock - 1]));
  configure_tiles(TileUse::kProduct, 16);
  const auto* in = static_cast<const uint16_t*>(f.state_in);
  auto* out = static_cast<uint16_t*>(f.state_out);
  alignas(64) float sums[32 * 32];
  for (int64_t d = 0; d < f.columns; d += kDeltaPanel) {
    const auto* key = static_cast<const uint16_t*>(f.keys);
    for (int64_t c = 0; c < f.k_dim; c += kSteps, key += 2 * 2 * kTileHalves)
      for (int64_t tile = 0; tile < kPanelTiles; tile += 2, out += 2 * kNext) {
        const uint16_t* const update = updates + (d / 16 + tile) * 2 * kTileHalves;
        const auto load_updates = [&](int64_t half) { load_tile<6>(update + half, 64), load_tile<7>(update + 2 * kTileHalves + half, 64); };
        const auto load_keys = [&](int64_t half) { load_tile<4>(key + half, 64), load_tile<5>(key + 2 * kTileHalves + half, 64); };
        const auto add = [] { dot_bf16<0, 4, 6>(), dot_bf16<1, 4, 7>(), dot_bf16<2, 5, 6>(), dot_bf16<3, 5, 7>(); };
        if (in != nullptr)
          for (int64_t i = 0; i < 2 * kNext; i += 32) fetch(in + 2 * kNext + i);
        zero_tile<0>(), zero_tile<1>(), zero_tile<2>(), zero_tile<3>();
        load_updates(0), load_keys(kTileHalves), add();
        load_keys(0), add();
        load_updates(kTileHalves), add();
        float* const lower = sums + 16 * 32;
        store_tile<0>(sums, 128), store_tile<1>(sums + 16, 128), store_tile<2>(lower, 128), store_tile<3>(lower + 16, 128);
        fold_state<narrow>(in, decay, sums, out);
        fold_state<narrow>(in == nullptr ? nullptr : in + kNext, decay, sums + 16, out + kNext);
        if (in != nullptr) in += 2 * kNext;
      }
  }
}

void fold_any(const DeltaFold& f) { f.narrow ? fold_tiled<true>(f) : fold_tiled<false>(f); }

void rows_of(const void* state, bool narrow, int64_t k_dim, int64_t columns, float* rows) {
  const auto* pair = static_cast<const uint16_t*>(state);
  for (int64_t d = 0; d < columns; d += kDeltaPanel)
    for (int64_t c = 0; c < k_dim; c += kSteps)
      for (int64_t tile = 0; tile < kPanelTiles; ++tile, pair += halves_of(narrow) * kTileHalves)
        for (int64_t i = 0; i < 16; ++i) {
          const __m512i high = _mm512_loadu_si512(pair + i * 32);
          const __m512i low = narrow ? _mm512_setzero_si512() : _mm512_loadu_si512(pair + kTileHalves + i * 32);
          float* const out = rows + (c + 2 * i) * columns + d + tile * 16;
          store(out, add(even_of(high), even_of(low)));
          store(out + columns, add(odd_of(high), odd_of(low)));
        }
}

}  // namespace

const DeltaKernels kDelta = {dots_and_halves, block_tiled, transposed_keys, fold_any, rows_of};

}  // namespace weir::cpu::amx
