// Products on the tile registers of AMX: 16 rows by 16 columns by 16 steps in one instruction of 16 cycles.
//
// Panels have room for 16 rows, or as many as the only panel has: [steps / 16][room][16], so that 16 steps of all rows are one register
// load. A tile of the weights is such a load already. Registers: sums of 2 panels x 2 tiles (0 to 3), two panels' steps (4, 5), two
// tiles' steps (6, 7).
//
// TDPBF16PS adds, for each output, the 16 products of even k and those of odd k apart (fused, in order), and their sum to the register:
// one fixed order over k again, but another one than that of AVX-512. So everything, a single row too, is multiplied here.
//
// From the Intel optimization reference manual, chapter 20 (tile blocking, prefetching, configuring rarely).
#include <cstdint>

#include "weir/kernels/cpu/coded_simd.h"
#include "weir/kernels/cpu/linear.h"
#include "weir/kernels/cpu/rows_avx512.h"
#include "weir/kernels/cpu/tiles_amx.h"
#include "weir/kernels/cpu/vec.h"

namespace weir::cpu {
namespace {

constexpr int kBlockSteps = 16;                     // steps of a register
constexpr int kBlock = kBlockSteps * kTileColumns;  // 4-byte elements of a full one
constexpr int kPairColumns = 2 * kTileColumns;
constexpr int64_t kFewPanels = 4;     // so many are multiplied with all of the weights, two at a time (if coded, two); more, in runs of
constexpr int64_t kRunPanels = 32;    // whose sums wait in L2 while a part of the weights stays in L1:
constexpr int64_t kPartBlocks = 8;    // 2 tiles x 8 KB, beside as much of 2 panels
constexpr int64_t kAheadBlocks = 16;  // of its use a weight is asked for from memory when it is used once,
constexpr int64_t kNearBlocks = 2;    // and from L2
constexpr int64_t kRowBytes = kBlockSteps * sizeof(uint32_t);

struct Bf16 {
  static constexpr int kExtraSteps = 0;
  static constexpr bool kSumsAreResults = true;
  template <int sum, int panel, int tile>
  static void dot() {
    dot_bf16<sum, panel, tile>();
  }
  static __m512 sums(const uint32_t* from) { return _mm512_loadu_ps(from); }
};

struct I8 {
  static constexpr int kExtraSteps = kInt8ExtraSteps;
  static constexpr bool kSumsAreResults = false;
  template <int sum, int panel, int tile>
  static void dot() {
    dot_i8<sum, panel, tile>();
  }
  static __m512i sums(const uint32_t* from) { return _mm512_loadu_si512(from); }
};

int64_t num_blocks(int64_t steps) { return (steps + kBlockSteps - 1) / kBlockSteps; }

// The last block of two tiles, when it is not whole: a copy, since behind its steps lies something else.
class LastBlock {
 public:
  LastBlock(const TilePair& tiles, int64_t steps) {
    const int64_t rest = steps % kBlockSteps;
    if (rest == 0) return;
    copy(tiles.tile0 + (steps - rest) * kTileColumns, rest, tiles_[0]);
    copy(tiles.tile1 + (steps - rest) * kTileColumns, rest, tiles_[1]);
  }
  TilePair tiles() const { return {tiles_[0], tiles_[1]}; }

 private:
  static void copy(const uint32_t* from, int64_t steps, uint32_t* to) {
    for (int64_t s = 0; s < kBlockSteps; ++s)
      _mm512_storeu_si512(to + s * kTileColumns, s < steps ? _mm512_loadu_si512(from + s * kTileColumns) : _mm512_setzero_si512());
  }
  alignas(64) uint32_t tiles_[2][kBlock];
};

// `total` things divided among `count` turns, without a division in each.
struct Share {
  int64_t begin, end;
};
class Shares {
 public:
  Shares(int64_t total, int64_t count) : count_(count), each_(total / count), rest_(total % count) {}
  Share next() {
    const int64_t begin = done_;
    done_ += each_;
    left_over_ += rest_;
    if (left_over_ >= count_) left_over_ -= count_, ++done_;
    return {begin, done_};
  }

 private:
  const int64_t count_, each_, rest_;
  int64_t done_ = 0, left_over_ = 0;
};

// Two tiles as they are.
class PlainTiles {
 public:
  static constexpr int64_t kBlockWords = kBlock;
  static constexpr int64_t kMostAtOnce = kFewPanels;
  static constexpr bool kIsForeseen = true;
  static int64_t lines(int64_t steps) { return steps; }  // of 64 bytes
  static int64_t header_words(int64_t) { return 0; }

  PlainTiles(const TilePair& tiles, int64_t steps) : tiles_(tiles), whole_(steps / kBlockSteps), last_(tiles, steps) {}

  // body(block, its weights)
  template <class Body>
  void each(int64_t begin, int64_t end, Body body) const {
    const int64_t whole_end = end < whole_ ? end : whole_;
    for (int64_t b = begin; b < whole_end; ++b) body(b, TilePair{tiles_.tile0 + b * kBlock, tiles_.tile1 + b * kBlock});
    if (whole_end < end) body(whole_end, last_.tiles());
  }

 private:
  const TilePair tiles_;
  const int64_t whole_;  // blocks, all or all but the last
  const LastBlock last_;
};

// Two tiles that are decoded on the way to the registers, one block ahead of its use. A part stays decoded until the next one is.
class CodedTiles {
 public:
  static constexpr int64_t kBlockWords = kBlockSteps / kGroupSteps * kGroupWords;
  static constexpr int64_t kMostAtOnce = 2;  // more than are multiplied at a time would have them decoded again
  static constexpr bool kIsForeseen = false;
  static int64_t lines(int64_t steps) { return coded_words(steps) / kTileColumns; }
  static int64_t header_words(int64_t steps) { return coded_header_words(steps); }

  CodedTiles(const TilePair& tiles, int64_t steps) : tile_{{tiles.tile0, steps}, {tiles.tile1, steps}}, steps_(steps) {}

  // The same, for a part or for all blocks.
  template <class Body>
  void each(int64_t begin, int64_t end, Body body) {
    if (begin < decoded_ - kPartBlocks) decoded_ = 0;  // from the beginning again
    if (begin == decoded_) decode_next();
    for (int64_t b = begin; b < end; ++b) {
      if (b + 1 == decoded_ && b + 1 < end) decode_next();
      body(b, at(b));
    }
  }

 private:
  TilePair at(int64_t b) const { return {plain_[b % kPartBlocks][0], plain_[b % kPartBlocks][1]}; }

  void decode_next() {
    const int64_t step = decoded_ * kBlockSteps;
#pragma GCC unroll 2
    for (int t = 0; t < 2; ++t) {
      uint32_t* const to = plain_[decoded_ % kPartBlocks][t];
      if (step + kBlockSteps <= steps_) {
        tile_[t].decode(step, kBlockSteps / kGroupSteps, to);
      } else {
        const int64_t groups = coded_groups(steps_ - step);
        tile_[t].decode(step, groups, to);
        for (int64_t s = groups * kGroupSteps; s < kBlockSteps; ++s) _mm512_storeu_si512(to + s * kTileColumns, _mm512_setzero_si512());
      }
    }
    ++decoded_;
  }

  CodedTile<VectorDecoder> tile_[2];
  const int64_t steps_;
  int64_t decoded_ = 0;  // blocks, of which the last ones are in
  alignas(64) uint32_t plain_[kPartBlocks][2][kBlock];
};

// Lines [first, end) of both tiles, into L2.
void prefetch_lines(const TilePair& tiles, int64_t first, int64_t end) {
#pragma GCC unroll 1
  for (const uint32_t* line = tiles.tile0 + first * kTileColumns; line != tiles.tile0 + end * kTileColumns; line += kTileColumns)
    asm volatile("prefetcht1 (%0)" : : "r"(line));
#pragma GCC unroll 1
  for (const uint32_t* line = tiles.tile1 + first * kTileColumns; line != tiles.tile1 + end * kTileColumns; line += kTileColumns)
    asm volatile("prefetcht1 (%0)" : : "r"(line));
}

// `words` that are wanted later, into L2, and as many that are wanted soon, from there into L1, line by line in turns. Where tiles are
// loaded from L1 and not from L2, the memory delivers a tenth more; unrolled, so that more of these are under way, as much less.
void prefetch_stream(const uint32_t* later, const uint32_t* soon, int64_t words) {
  const uint32_t* const end = later + words;
#pragma GCC unroll 1
  for (; later != end; later += kTileColumns, soon += kTileColumns) {
    asm volatile("prefetcht1 (%0)" : : "r"(later));
    asm volatile("prefetcht0 (%0)" : : "r"(soon));
  }
}

// y (= or +=) the sums of `rows` rows, [rows][32], made floats. `extra` points behind the steps of the sum: of the tiles, and of row 0.
template <class Type>
void finish(const uint32_t* sums, int rows, const TilePair& extra, const uint32_t* panel_extra, float* y, int64_t y_stride, int columns,
            bool add) {
  const __mmask16 mask0 = first(columns), mask1 = first(columns > kTileColumns ? columns - kTileColumns : 0);
  for (int r = 0; r < rows; ++r) {
    float* out = y + r * y_stride;
    __m512 left = finished(Type::sums(sums + r * kPairColumns), extra.tile0, panel_extra + r);
    __m512 right = finished(Type::sums(sums + r * kPairColumns + kTileColumns), extra.tile1, panel_extra + r);
    if (add) {
      left = _mm512_add_ps(_mm512_maskz_loadu_ps(mask0, out), left);
      right = _mm512_add_ps(_mm512_maskz_loadu_ps(mask1, out + kTileColumns), right);
    }
    _mm512_mask_storeu_ps(out, mask0, left);
    _mm512_mask_storeu_ps(out + kTileColumns, mask1, right);
  }
}

constexpr int64_t kSumBytes = kPairColumns * sizeof(uint32_t);  // of a row of sums

// Rows of 32 sums: of a second panel they follow those of the first.
struct Sums {
  void* data;
  int64_t row_bytes;
  template <int panel>
  char* tile(int index) const {
    return static_cast<char*>(data) + panel * kMaxPanelRows * row_bytes + index * kTileColumns * static_cast<int64_t>(sizeof(uint32_t));
  }
};

template <int panels>
void zero_sums() {
  zero_tile<0>();
  zero_tile<1>();
  if constexpr (panels == 2) {
    zero_tile<2>();
    zero_tile<3>();
  }
}

template <int panels>
void load_sums(const Sums& from) {
  load_tile<0>(from.tile<0>(0), from.row_bytes);
  load_tile<1>(from.tile<0>(1), from.row_bytes);
  if constexpr (panels == 2) {
    load_tile<2>(from.tile<1>(0), from.row_bytes);
    load_tile<3>(from.tile<1>(1), from.row_bytes);
  }
}

template <int panels>
void store_sums(const Sums& to) {
  store_tile<0>(to.tile<0>(0), to.row_bytes);
  store_tile<1>(to.tile<0>(1), to.row_bytes);
  if constexpr (panels == 2) {
    store_tile<2>(to.tile<1>(0), to.row_bytes);
    store_tile<3>(to.tile<1>(1), to.row_bytes);
  }
}

// Where block b of two tiles lies or, behind their last one, that of the next two.
template <class Tiles>
struct Stream {
  Stream(const TilePair& here, const TilePair& next, int64_t steps) : next(next), blocks(num_blocks(steps)) {
    const int64_t header = Tiles::header_words(steps);
    first = {here.tile0 + header, here.tile1 + header};
    ahead = blocks < kAheadBlocks ? blocks : kAheadBlocks;
    near = ahead < kNearBlocks ? ahead : kNearBlocks;
  }
  TilePair at(int64_t b) const {
    const bool is_here = b < blocks;
    const TilePair& tiles = is_here ? first : next;
    const int64_t words = (is_here ? b : b - blocks) * Tiles::kBlockWords;
    return {tiles.tile0 + words, tiles.tile1 + words};
  }
  TilePair later(int64_t b) const { return at(b + ahead); }
  TilePair soon(int64_t b) const { return at(b + near); }

  // For two panels. Plain tiles are asked for at the pace at which they are multiplied: the hardware foresees that.
  void ask_for_both(int64_t b) const {
    if constexpr (Tiles::kIsForeseen) return prefetch_lines(first, b * kBlockSteps, (b + 1) * kBlockSteps);
    prefetch_stream(later(b).tile0, soon(b).tile0, Tiles::kBlockWords);
    prefetch_stream(later(b).tile1, soon(b).tile1, Tiles::kBlockWords);
  }

  const TilePair& next;
  const int64_t blocks;
  TilePair first;
  int64_t ahead, near;
};

// The only panel: its weights are used once, and the sums stay in registers.
template <class Type, class Tiles>
void multiply_once(const uint32_t* panel, int room, Tiles& weights, const Stream<Tiles>& stream, const Sums& to) {
  configure_tiles(TileUse::kProduct, room);
  zero_sums<1>();
  weights.each(0, stream.blocks, [&](int64_t b, const TilePair& here) {
    const TilePair later = stream.later(b), soon = stream.soon(b);
    prefetch_stream(later.tile0, soon.tile0, Tiles::kBlockWords);
    load_tile<4>(panel + b * room * kBlockSteps, kRowBytes);
    load_tile<6>(here.tile0, kRowBytes);
    Type::template dot<0, 4, 6>();
    prefetch_stream(later.tile1, soon.tile1, Tiles::kBlockWords);
    load_tile<7>(here.tile1, kRowBytes);
    Type::template dot<1, 4, 7>();
  });
  store_sums<1>(to);
}

// Some of the blocks that a sum has, [first, end) of `all`.
struct Range {
  int64_t first, end, all;
};

// Blocks of `panels` = 1 or 2 full panels, `panel_size` apart, added to the sums of the blocks before, into `to`. What is wanted soon is
// asked for meanwhile: fetch(b) some weights, and y, where results will go.
template <class Type, int panels, class Weights, class Fetch>
void multiply_part(const uint32_t* panel, int64_t panel_size, Weights& weights, const Range& range, Fetch fetch, const float* y,
                   int64_t y_stride, const Sums& before, const Sums& to) {
  if (range.first == 0)
    zero_sums<panels>();
  else
    load_sums<panels>(before);
  constexpr int kRows = panels * kMaxPanelRows;
  for (int64_t r = range.first * kRows / range.all; r < range.end * kRows / range.all; ++r) {
    __builtin_prefetch(y + r * y_stride, 1, 2);
    __builtin_prefetch(y + r * y_stride + kTileColumns, 1, 2);
  }
  weights.each(range.first, range.end, [&](int64_t b, const TilePair& here) {
    fetch(b);
    load_tile<4>(panel + b * kBlock, kRowBytes);
    load_tile<6>(here.tile0, kRowBytes);
    Type::template dot<0, 4, 6>();
    load_tile<7>(here.tile1, kRowBytes);
    Type::template dot<1, 4, 7>();
    if constexpr (panels == 2) {
      load_tile<5>(panel + panel_size + b * kBlock, kRowBytes);
      Type::template dot<2, 5, 6>();
      Type::template dot<3, 5, 7>();
    }
  });
  store_sums<panels>(to);
}

// A product of one run of panels with two tiles.
template <class Type, class Tiles>
class Product {
 public:
  Product(const PanelRun& run, const TilePair& tiles, const TilePair& next, int64_t steps, float* y, int64_t y_stride, int columns,
          bool add)
      : run_(run),
        here_(tiles),
        next_(next),
        steps_(steps),
        blocks_(num_blocks(steps)),
        weights_(tiles, steps),
        y_(y),
        y_stride_(y_stride),
        columns_(columns),
        add_(add) {}

  void run() {
    if (run_.all.count == 1) {
      const bool is_y = sums_are_results(0);
      multiply_once<Type>(run_.panel(0), run_.all.room(0), weights_, Stream<Tiles>(here_, next_, steps_),
                          is_y ? results(0) : Sums{sums_, kSumBytes});
      return is_y ? void() : finish_panels(0, 1, sums_);
    }
    configure_tiles(TileUse::kProduct, kMaxPanelRows);
    if (run_.last - run_.first <= Tiles::kMostAtOnce)
      few();
    else
      for (int64_t p = run_.first; p < run_.last; p += kRunPanels) part_by_part(p, p + kRunPanels < run_.last ? p + kRunPanels : run_.last);
  }

 private:
  static constexpr int64_t kPairSums = 2 * kMaxPanelRows * kPairColumns;

  // The first two panels read the weights from memory. Two more find them in L2, and ask for a part of the next ones.
  void few() {
    const Range all{0, blocks_, blocks_};
    const Stream<Tiles> stream(here_, next_, steps_);
    const auto these = [&](int64_t b) { stream.ask_for_both(b); };
    const auto quarter = [&](int64_t b) { prefetch_lines(next_, b * kBlockSteps / 4, (b + 1) * kBlockSteps / 4); };
    multiply_pair(run_.first, run_.last, all, these, sums_);
    if (run_.first + 2 < run_.last) multiply_pair(run_.first + 2, run_.last, all, quarter, sums_ + kPairSums);
  }

  // All panels with a part of the weights, which stays in L1, then with the next part; meanwhile the next weights are asked for evenly.
  void part_by_part(int64_t begin, int64_t end) {
    const int64_t pairs = (end - begin + 1) / 2;
    Shares lines(end == run_.last ? Tiles::lines(steps_) : 0, blocks_ * pairs);
    for (Range part{0, 0, blocks_}; part.first < blocks_; part.first = part.end) {
      part.end = part.first + kPartBlocks < blocks_ ? part.first + kPartBlocks : blocks_;
      const auto fetch = [&](int64_t) {
        const Share share = lines.next();
        prefetch_lines(next_, share.begin, share.end);
      };
      for (int64_t i = 0; i < pairs; ++i) multiply_pair(begin + 2 * i, end, part, fetch, sums_ + i * kPairSums);
    }
  }

  // Panels p and, below `end`, p + 1.
  template <class Fetch>
  void multiply_pair(int64_t p, int64_t end, const Range& range, Fetch fetch, uint32_t* sums) {
    const int64_t panels = p + 1 < end ? 2 : 1, panel_size = kMaxPanelRows * run_.steps;
    const bool is_last = range.end == blocks_, is_y = is_last && sums_are_results(p + panels - 1);
    const Sums before{sums, kSumBytes}, to = is_y ? results(p) : before;
    if (panels == 2)
      multiply_part<Type, 2>(run_.panel(p), panel_size, weights_, range, fetch, row(p), y_stride_, before, to);
    else
      multiply_part<Type, 1>(run_.panel(p), panel_size, weights_, range, fetch, row(p), y_stride_, before, to);
    if (is_last && !is_y) finish_panels(p, p + panels, sums);
  }

  void finish_panels(int64_t first, int64_t end, const uint32_t* sums) {
    const TilePair extra{here_.tile0 + steps_ * kTileColumns, here_.tile1 + steps_ * kTileColumns};
    for (int64_t p = first; p < end; ++p, sums += kMaxPanelRows * kPairColumns)
      finish<Type>(sums, run_.all.size(p), extra, run_.panel(p) + blocks_ * kBlockSteps * run_.all.room(p), row(p), y_stride_, columns_,
                   add_);
  }

  // Sums of the panels up to `last` may be stored as results: all there are in a tile, as they are.
  bool sums_are_results(int64_t last) const {
    return Type::kSumsAreResults && !add_ && columns_ == kPairColumns && run_.all.size(last) == run_.all.room(last);
  }
  Sums results(int64_t p) const { return {row(p), y_stride_ * static_cast<int64_t>(sizeof(float))}; }

  float* row(int64_t p) const { return y_ + run_.row(p) * y_stride_; }

  const PanelRun& run_;
  const TilePair &here_, &next_;
  const int64_t steps_, blocks_;
  Tiles weights_;
  float* const y_;
  const int64_t y_stride_;
  const int columns_;
  const bool add_;
  alignas(64) uint32_t sums_[kRunPanels * kMaxPanelRows * kPairColumns];
};

template <class Type, class Tiles>
void multiply(const PanelRun& run, const TilePair& tiles, const TilePair& next, int64_t steps, float* y, int64_t y_stride, int columns,
              bool add) {
  Product<Type, Tiles>(run, tiles, next, steps - Type::kExtraSteps, y, y_stride, columns, add).run();
}

// F32, for comparisons: AMX has no such product. At most 8 rows by 32 columns at a time, in the order of AVX-512.
template <int rows>
void multiply_f32_rows(const uint32_t* panel, int room, const TilePair& tiles, int64_t steps, uint32_t* sums) {
  __m512 left[rows], right[rows];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) left[r] = right[r] = _mm512_setzero_ps();
  for (int64_t s = 0; s < steps; ++s) {
    const uint32_t* at = panel + s / kBlockSteps * room * kBlockSteps + s % kBlockSteps;
    const __m512 b0 = _mm512_loadu_ps(tiles.tile0 + s * kTileColumns), b1 = _mm512_loadu_ps(tiles.tile1 + s * kTileColumns);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      const __m512 a = _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(at[r * kBlockSteps])));
      left[r] = _mm512_fmadd_ps(a, b0, left[r]);
      right[r] = _mm512_fmadd_ps(a, b1, right[r]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
    _mm512_storeu_ps(sums + r * kPairColumns, left[r]);
    _mm512_storeu_ps(sums + r * kPairColumns + kTileColumns, right[r]);
  }
}

using F32Rows = void (*)(const uint32_t* panel, int room, const TilePair& tiles, int64_t steps, uint32_t* sums);
constexpr F32Rows kF32Rows[] = {nullptr,
                                multiply_f32_rows<1>,
                                multiply_f32_rows<2>,
                                multiply_f32_rows<3>,
                                multiply_f32_rows<4>,
                                multiply_f32_rows<5>,
                                multiply_f32_rows<6>,
                                multiply_f32_rows<7>,
                                multiply_f32_rows<8>};

void multiply_f32(const PanelRun& run, const TilePair& tiles, const TilePair&, int64_t steps, float* y, int64_t y_stride, int columns,
                  bool add) {
  alignas(64) uint32_t sums[kMaxPanelRows * kPairColumns];
  for (int64_t p = run.first; p < run.last; ++p) {
    const int size = run.all.size(p), room = run.all.room(p);
    for (int r = 0; r < size; r += 8)
      kF32Rows[size - r < 8 ? size - r : 8](run.panel(p) + r * kBlockSteps, room, tiles, steps, sums + r * kPairColumns);
    finish<Bf16>(sums, size, tiles, nullptr, y + run.row(p) * y_stride, y_stride, columns, add);
  }
}

// The panel of rows whose steps [s, s + 16) are block(r, s).
template <class Block>
void store_panel(int rows, int room, int64_t steps, uint32_t* panel, Block block) {
  for (int r = 0; r < rows; ++r)
    for (int64_t s = 0; s < steps; s += kBlockSteps) _mm512_storeu_si512(panel + s * room + r * kBlockSteps, block(r, s));
}

void pack_panel_bf16(const float* x, int64_t stride, int rows, int room, int64_t k, const InputScale&, uint32_t* panel) {
  store_panel(rows, room, (k + 1) / 2, panel, [=](int r, int64_t s) { return bf16_steps(x + r * stride + 2 * s, k - 2 * s); });
}

void pack_panel_f32(const float* x, int64_t stride, int rows, int room, int64_t k, const InputScale&, uint32_t* panel) {
  store_panel(rows, room, k, panel, [=](int r, int64_t s) { return _mm512_maskz_loadu_epi32(first(k - s), x + r * stride + s); });
}

void pack_panel_i8(const float* x, int64_t stride, int rows, int room, int64_t k, const InputScale& input, uint32_t* panel) {
  const int64_t steps = (k + 3) / 4;
  uint32_t* extra = panel + num_blocks(steps) * kBlockSteps * room;
  for (int r = 0; r < rows; ++r) {
    const float* row = x + r * stride;
    const RowScale scale = row_scale(row, k, input);
    const Quantiser quantiser{_mm512_set1_ps(scale.scale), _mm512_set1_ps(input.offset)};
    store_panel(1, room, steps, panel + r * kBlockSteps, [&](int, int64_t s) { return quantiser.sixty_four(row + 4 * s, k - 4 * s); });
    __builtin_memcpy(extra + r, &scale.factor, sizeof(scale.factor));
    extra[room + r] = 0;
  }
}

template <int extra_steps>
void gather_panel(const uint32_t* const* row, int rows, int room, int64_t steps, uint32_t* panel) {
  const int64_t sum_steps = steps - extra_steps;
  store_panel(rows, room, sum_steps, panel, [=](int r, int64_t s) { return _mm512_loadu_si512(row[r] + s); });
  for (int64_t s = sum_steps; s < steps; ++s)
    for (int r = 0; r < rows; ++r) panel[s * room + r] = row[r][s];
}

// Where the steps of `column` of row r begin, when a step has `per_step` columns.
uint32_t* step_of(uint32_t* panel, int r, int room, int64_t column, int per_step) {
  const int64_t s = column / per_step;
  return panel + s / kBlockSteps * kBlockSteps * room + r * kBlockSteps + s % kBlockSteps;
}

void silu_mul_panel_bf16(const float* gate, const float* up, int64_t stride, int rows, int room, int64_t column, int64_t width,
                         uint32_t* panel) {
  const __mmask16 mask = first(width - column);
  const bool ends_inside = column % 32 == 0 && column + 16 >= width;  // the other half of the block is padding
  for (int r = 0; r < rows; ++r) {
    const __m512i pairs =
        reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(_mm512_setzero_ps(), silu_mul(gate + r * stride, up + r * stride, mask)));
    uint32_t* to = step_of(panel, r, room, column, 2);
    _mm512_mask_storeu_epi32(to, first(ends_inside ? 16 : 8), pairs);
  }
}

void silu_mul_panel_f32(const float* gate, const float* up, int64_t stride, int rows, int room, int64_t column, int64_t width,
                        uint32_t* panel) {
  const __mmask16 mask = first(width - column);
  for (int r = 0; r < rows; ++r) _mm512_storeu_ps(step_of(panel, r, room, column, 1), silu_mul(gate + r * stride, up + r * stride, mask));
}

}  // namespace

const LinearKernels kLinearAmx = {
    .panel_rows = kMaxPanelRows,
    .panels_are_even = false,
    .panel_align = kBlockSteps,
    .memory_bound_rows = 64,
    .bf16 = {pack_panel_bf16, gather_panel<0>, multiply<Bf16, PlainTiles>, silu_mul_panel_bf16},
    .f32 = {pack_panel_f32, gather_panel<0>, multiply_f32, silu_mul_panel_f32},
    .i8 = {pack_panel_i8, gather_panel<kInt8ExtraSteps>, multiply<I8, PlainTiles>, nullptr},
    .multiply_coded = multiply<Bf16, CodedTiles>,
    .silu_mul = silu_mul_rows,
    .scatter_add = scatter_add,
};

}  // namespace weir::cpu
