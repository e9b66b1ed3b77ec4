// Experts on the CPU. Token choices are sorted by expert, so every chosen expert's weights are read once for all its rows:
//
//   sort        choices (t, k) -> rows 0 … P of the sorted order, expert after expert
//   convert     x -> the weights' type, once per token
//   gather      the panels of each expert's rows
//   gate_up     panels -> silu(gate) · up, straight into the panels of the second product
//   down        -> results [P, columns], a block of columns at a time so that they stay in the cache
//   combine     y[t] += Σ_k weight[t, k] · result of (t, k), in the order of k
//
// All threads walk through the phases together with a barrier between them. Within a phase every thread owns a contiguous share of the
// weights' tiles, cut where the estimated cost is equal.
#include <algorithm>
#include <span>

#include "weir/ops/linear_cpu.h"

namespace weir::ops {
namespace {

// Below this many elements one thread converts or gathers alone, faster than a barrier.
constexpr int64_t kConvertAlone = 16 * 1024;
// Results of the second product that are kept before they are combined.
constexpr int64_t kResultBytes = int64_t{8} << 20;
// From about this many rows on, a product costs arithmetic rather than reading the weights.
constexpr int64_t kMemoryBoundRows = 8;
constexpr int64_t kCombineColumns = 256;

struct Chosen {
  const PackedMatrix* gate_up;
  const PackedMatrix* down;
  int64_t begin, rows;    // in the sorted order
  int64_t first_group;
  int64_t width, tiles;   // I and its tiles
  int64_t hidden_steps;   // of the second product
  uint32_t* hidden;       // its panels: group g begins at hidden + Groups::begin(g) * hidden_steps
  int64_t cost_rows() const { return std::max(rows, kMemoryBoundRows); }
};

class Experts {
 public:
  Experts(const LinearKernels& kernels, Context& ctx, const Tensor& x, const Routing& routing, const ExpertWeights& experts, Tensor& y)
      : kernels_(kernels), ctx_(ctx), x_(x), y_(y), weights_(routing.weights), tokens_(x.dim(0)), choices_(routing.ids.dim(1)), dim_(x.dim(1)) {
    sort(routing.ids, experts);
  }

  void run() {
    if (rows_ == 0) return;
    const int threads = ctx_.pool.size();
    const bool convert_alone = tokens_ * dim_ <= kConvertAlone, gather_alone = rows_ * dim_ <= kConvertAlone;
    const int64_t block = std::clamp<int64_t>(kResultBytes / static_cast<int64_t>(sizeof(float)) / rows_ / kPair * kPair, kPair,
                                              ceil_div(dim_, kPair) * kPair);
    results_ = take<float>(rows_ * block);
    if (convert_alone) convert(0, tokens_);
    if (convert_alone && gather_alone) gather(0, num_groups_);
    ctx_.pool.run([&](int thread) {
      const auto from = [&](int64_t n) { return n * thread / threads; };
      const auto to = [&](int64_t n) { return n * (thread + 1) / threads; };
      if (!convert_alone) {
        convert(from(tokens_), to(tokens_));
        ctx_.pool.barrier();
      }
      if (!(convert_alone && gather_alone)) {
        gather(from(num_groups_), to(num_groups_));
        ctx_.pool.barrier();
      }
      gate_up(thread, threads);
      for (int64_t column = 0; column < dim_; column += block) {
        const int64_t columns = std::min(block, dim_ - column);
        ctx_.pool.barrier();
        down(thread, threads, column, columns, block);
        ctx_.pool.barrier();
        const int64_t pieces = tokens_ * ceil_div(columns, kCombineColumns);
        combine(thread, from(pieces), to(pieces), column, columns, block);
      }
    });
  }

 private:
  static constexpr int64_t kPair = 2 * kTileColumns;

  template <class T>
  T* take(int64_t count) {
    return static_cast<T*>(ctx_.arena.bytes(static_cast<size_t>(count) * sizeof(T)));
  }

  void sort(const Tensor& ids, const ExpertWeights& experts) {
    const auto num_experts = static_cast<int64_t>(experts.down.size());
    auto* begins = take<int64_t>(num_experts + 1);
    std::fill(begins, begins + num_experts + 1, 0);
    const auto id = [&](int64_t t, int64_t k) -> int64_t {
      const int32_t e = ids.data<int32_t>()[t * ids.row_stride() + k];
      return e < 0 || e >= num_experts ? -1 : e;
    };
    for (int64_t t = 0; t < tokens_; ++t)
      for (int64_t k = 0; k < choices_; ++k)
        if (const int64_t e = id(t, k); e >= 0) ++begins[e + 1];
    int64_t num_chosen = 0;
    for (int64_t e = 0; e < num_experts; ++e) {
      num_chosen += begins[e + 1] > 0;
      begins[e + 1] += begins[e];
    }
    rows_ = begins[num_experts];
    if (rows_ == 0) return;

    chosen_ = {take<Chosen>(num_chosen), static_cast<size_t>(num_chosen)};
    int64_t next = 0, hidden_steps = 0;
    for (int64_t e = 0; e < num_experts; ++e) {
      if (begins[e + 1] == begins[e]) continue;
      Chosen& c = chosen_[static_cast<size_t>(next++)];
      c.gate_up = &experts.gate_up[static_cast<size_t>(e)];
      c.down = &experts.down[static_cast<size_t>(e)];
      type_ = c.down->dtype();
      c.begin = begins[e];
      c.rows = begins[e + 1] - begins[e];
      c.width = c.down->k();
      c.tiles = num_tiles(c.width);
      c.hidden_steps = num_steps(c.width, type_);
      c.first_group = num_groups_;
      num_groups_ += Groups(c.rows).count;
      hidden_steps += c.rows * c.hidden_steps;
      WEIR_CHECK(c.gate_up->k() == dim_ && c.gate_up->n() == 2 * c.width && c.down->n() == dim_ && c.gate_up->dtype() == type_, "expert ", e,
                 ": gate_up [", c.gate_up->n(), ", ", c.gate_up->k(), "], down [", c.down->n(), ", ", c.down->k(), "], hidden ", dim_);
    }
    for (const Chosen& c : chosen_) WEIR_CHECK(c.down->dtype() == type_, "experts of different types");
    steps_ = num_steps(dim_, type_);
    inputs_ = take<uint32_t>(tokens_ * steps_);
    panels_ = take<uint32_t>(rows_ * steps_);
    auto* hidden = take<uint32_t>(hidden_steps);
    for (Chosen& c : chosen_) {
      c.hidden = hidden;
      hidden += c.rows * c.hidden_steps;
    }

    token_of_ = take<int32_t>(rows_);
    row_of_ = take<int32_t>(tokens_ * choices_);
    for (int64_t t = 0; t < tokens_; ++t) {
      for (int64_t k = 0; k < choices_; ++k) {
        const int64_t e = id(t, k), row = e < 0 ? -1 : begins[e]++;
        row_of_[t * choices_ + k] = static_cast<int32_t>(row);
        if (row >= 0) token_of_[row] = static_cast<int32_t>(t);
      }
    }
    terms_ = take<const float*>(ctx_.pool.size() * choices_);
    factors_ = take<float>(ctx_.pool.size() * choices_);
  }

  void convert(int64_t begin, int64_t end) {
    const ProductKernels& product = product_kernels(kernels_, type_);
    for (int64_t t = begin; t < end; ++t) product.pack_panel(x_.data<float>() + t * x_.row_stride(), x_.row_stride(), 1, dim_, inputs_ + t * steps_);
  }

  void gather(int64_t begin, int64_t end) {
    for (const Chosen& c : chosen_) {
      const Groups groups(c.rows);
      const int64_t first = std::max<int64_t>(begin - c.first_group, 0), last = std::min(end - c.first_group, groups.count);
      for (int64_t g = first; g < last; ++g) {
        const int64_t row = c.begin + groups.begin(g);
        const uint32_t* inputs[kGroupRows];
        for (int r = 0; r < groups.size(g); ++r) inputs[r] = inputs_ + token_of_[row + r] * steps_;
        kernels_.gather_panel(inputs, groups.size(g), steps_, panels_ + row * steps_);
      }
    }
  }

  // Calls body(expert, first, last) with this thread's share of the units of all experts, in order: a unit of expert c costs cost(c).
  template <class Units, class Cost, class Body>
  void share(int thread, int threads, Units units, Cost cost, Body body) const {
    int64_t total = 0, before = 0;
    for (const Chosen& c : chosen_) total += units(c) * cost(c);
    const int64_t low = total / threads * thread, high = thread + 1 == threads ? total : total / threads * (thread + 1);
    for (const Chosen& c : chosen_) {
      const auto at = [&](int64_t bound) { return std::clamp<int64_t>(ceil_div(std::max<int64_t>(bound - before, 0), cost(c)), 0, units(c)); };
      if (const int64_t first = at(low), last = at(high); first < last) body(c, first, last);
      before += units(c) * cost(c);
    }
  }

  void gate_up(int thread, int threads) const {
    const auto units = [](const Chosen& c) { return c.tiles; };
    const auto cost = [](const Chosen& c) { return c.cost_rows(); };
    share(thread, threads, units, cost, [&](const Chosen& c, int64_t first, int64_t last) {
      for (int64_t t = first; t < last; ++t) gate_up_tile(c, t);
    });
  }

  // Columns [16 t, 16 t + 16) of silu(gate) · up for all rows of the expert.
  void gate_up_tile(const Chosen& c, int64_t t) const {
    const ProductKernels& product = product_kernels(kernels_, type_);
    const int columns = static_cast<int>(std::min<int64_t>(kTileColumns, c.width - t * kTileColumns));
    // The up rows begin inside a tile when the width is no multiple of 16; then they span two, and a second product fetches the other.
    const int64_t up = (c.width + t * kTileColumns) / kTileColumns, skip = c.width % kTileColumns;
    const bool spans = skip + columns > kTileColumns;
    const uint32_t *gate_tile = tile(*c.gate_up, t), *up_tile = tile(*c.gate_up, up);
    const uint32_t* next_tile = spans ? tile(*c.gate_up, up + 1) : up_tile;
    alignas(64) float sums[kGroupRows][3 * kTileColumns];
    const Groups groups(c.rows);
    for (int64_t g = 0; g < groups.count; ++g) {
      const uint32_t* panel = panels_ + (c.begin + groups.begin(g)) * steps_;
      const int rows = groups.size(g);
      product.multiply(panel, gate_tile, up_tile, steps_, rows, sums[0], 3 * kTileColumns, 2 * kTileColumns, false);
      if (spans) product.multiply(panel, next_tile, next_tile, steps_, rows, sums[0] + 2 * kTileColumns, 3 * kTileColumns, kTileColumns, false);
      product.silu_mul_panel(sums[0], sums[0] + kTileColumns + skip, 3 * kTileColumns, rows, columns,
                             c.hidden + groups.begin(g) * c.hidden_steps + num_steps(t * kTileColumns, type_) * rows);
    }
  }

  void down(int thread, int threads, int64_t column, int64_t columns, int64_t stride) const {
    const ProductKernels& product = product_kernels(kernels_, type_);
    const auto units = [&](const Chosen&) { return ceil_div(columns, kPair); };
    const auto cost = [](const Chosen& c) { return c.cost_rows() * c.hidden_steps; };
    share(thread, threads, units, cost, [&](const Chosen& c, int64_t first, int64_t last) {
      const Groups groups(c.rows);
      for (int64_t u = first; u < last; ++u) {
        const int64_t t = column / kTileColumns + 2 * u;
        const int width = static_cast<int>(std::min(kPair, columns - u * kPair));
        const uint32_t *tile0 = tile(*c.down, t), *tile1 = width > kTileColumns ? tile(*c.down, t + 1) : tile0;
        for (int64_t g = 0; g < groups.count; ++g)
          product.multiply(c.hidden + groups.begin(g) * c.hidden_steps, tile0, tile1, c.hidden_steps, groups.size(g),
                           results_ + (c.begin + groups.begin(g)) * stride + u * kPair, stride, width, false);
      }
    });
  }

  // Pieces of kCombineColumns columns of one token, token after token.
  void combine(int thread, int64_t begin, int64_t end, int64_t column, int64_t columns, int64_t stride) {
    const int64_t pieces = ceil_div(columns, kCombineColumns);
    const float** terms = terms_ + thread * choices_;
    float* factors = factors_ + thread * choices_;
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t t = piece / pieces, offset = piece % pieces * kCombineColumns;
      int64_t count = 0;
      for (int64_t k = 0; k < choices_; ++k) {
        const int64_t row = row_of_[t * choices_ + k];
        if (row < 0) continue;
        terms[count] = results_ + row * stride + offset;
        factors[count++] = weights_.data<float>()[t * weights_.row_stride() + k];
      }
      kernels_.add_weighted(terms, factors, count, std::min(kCombineColumns, columns - offset),
                            y_.data<float>() + t * y_.row_stride() + column + offset);
    }
  }

  const LinearKernels& kernels_;
  Context& ctx_;
  const Tensor& x_;
  Tensor& y_;
  const Tensor& weights_;
  const int64_t tokens_, choices_, dim_;
  DType type_ = DType::kBF16;
  int64_t steps_ = 0;                 // of the first product
  int64_t rows_ = 0, num_groups_ = 0;
  std::span<Chosen> chosen_;          // by rising expert
  int32_t* token_of_ = nullptr;       // [P]
  int32_t* row_of_ = nullptr;         // [T, K], -1: no expert
  uint32_t* inputs_ = nullptr;        // [T][steps]
  uint32_t* panels_ = nullptr;        // [P][steps], in panels of each expert's groups
  float* results_ = nullptr;          // [P][block of columns]
  const float** terms_ = nullptr;     // [threads][K]
  float* factors_ = nullptr;
};

}  // namespace

void experts_add_cpu(const LinearKernels& kernels, Context& ctx, const Tensor& x, const Routing& routing, const ExpertWeights& experts,
                     Tensor& y) {
  const Arena::Scope scope(ctx.arena);
  Experts(kernels, ctx, x, routing, experts, y).run();
}

}  // namespace weir::ops
