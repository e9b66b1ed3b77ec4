// Experts on the CPU. Token choices are sorted by expert, so every chosen expert's weights are read once for all its rows:
//
//   sort        choices (t, k) -> rows 0 … P of the sorted order, expert after expert
//   gate_up     the panels of an expert's rows -> silu(gate) · up, straight into the panels of the second product
//   requantise  only of I8: a row's scale needs the whole row, so gate_up leaves floats, which become panels here
//   down        -> y[t] += weight[t, k] · result of (t, k), expert after expert, so that a token's results are summed by rising expert
//
// All threads walk through the phases together with a barrier between them. gate_up is shared out in contiguous runs of tiles over all
// experts, cut where the estimated cost is equal; in down every thread owns a range of columns: its part of y, which is read and written
// for each expert, stays in the core's own cache, and its weights are one stream per expert. The inputs of gate_up are gathered by the
// thread that needs them, as much as its own cache holds: of all experts they are top_k times as many as there are tokens.
#include <algorithm>
#include <span>

#include "weir/ops/linear_cpu.h"

namespace weir::ops {
namespace {

// Inputs of an expert that are gathered at a time.
constexpr int64_t kGatherBytes = int64_t{1} << 20;
// Rows whose sums wait in a core's own cache for what is made of them.
constexpr int64_t kSumRows = 256;

struct Chosen {
  const PackedMatrix* gate_up;
  const PackedMatrix* down;
  int64_t begin, rows;  // in the sorted order
  Panels panels;
  int64_t first_panel;
  int64_t width, tiles;    // I and its tiles
  int64_t steps;           // of the first product's weights
  int64_t input_steps;     // of its panels
  const uint32_t* inputs;  // of all tokens: in the form of the first product or, if that has an input scale of its own, F32
  bool is_static;          // it has one
  int64_t down_steps;      // of the second product's weights
  int64_t hidden_steps;    // of its panels
  uint32_t* hidden;        // which lie here
  float* middle;           // [rows][width] before they become panels of I8, else null
};

// What a thread gathers.
struct Gathered {
  uint32_t* panels;
  uint32_t* rounded;  // rows of a panel as an input scale of their own rounds them
};

class Experts {
 public:
  Experts(const LinearKernels& kernels, Context& ctx, const RoundedRows& x, const Routing& routing, const ExpertWeights& experts, Tensor& y)
      : kernels_(kernels),
        ctx_(ctx),
        x_(x),
        y_(y),
        weights_(routing.weights),
        tokens_(x.rows()),
        choices_(routing.ids.dim(1)),
        dim_(x.k()) {
    sort(routing.ids, experts);
  }

  void run() {
    if (rows_ == 0) return;
    const int threads = ctx_.pool.size();
    const int64_t panel_steps = any_static_ ? kernels_.panel_rows * most_input_steps_ : 0;
    const Gathered gathered{take<uint32_t>(threads * gathered_steps_), take<uint32_t>(threads * panel_steps)};
    ctx_.pool.run([&](int thread) {
      const auto from = [&](int64_t n) { return n * thread / threads; };
      const auto to = [&](int64_t n) { return n * (thread + 1) / threads; };
      gate_up(thread, threads, {gathered.panels + thread * gathered_steps_, gathered.rounded + thread * panel_steps});
      ctx_.pool.barrier();
      if (any_middle_) {
        requantise(from(num_panels_), to(num_panels_));
        ctx_.pool.barrier();
      }
      // Runs of pairs of tiles, unless that would idle a thread.
      const int64_t tiles = num_tiles(dim_), unit = tiles >= int64_t{4} * threads ? 2 : 1, units = ceil_div(tiles, unit);
      down(from(units) * unit, std::min(to(units) * unit, tiles));
    });
  }

 private:
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
    int64_t next = 0;
    for (int64_t e = 0; e < num_experts; ++e) {
      if (begins[e + 1] == begins[e]) continue;
      Chosen& c = chosen_[static_cast<size_t>(next++)];
      c.gate_up = &experts.gate_up[static_cast<size_t>(e)];
      c.down = &experts.down[static_cast<size_t>(e)];
      c.begin = begins[e];
      c.rows = begins[e + 1] - begins[e];
      c.width = c.down->k();
      c.tiles = num_tiles(c.width);
      c.first_panel = num_panels_;
      c.panels = kernels_.panels(c.rows);
      num_panels_ += c.panels.count;
      WEIR_CHECK(c.gate_up->k() == dim_ && c.gate_up->n() == 2 * c.width && c.down->n() == dim_, "expert ", e, ": gate_up [",
                 c.gate_up->n(), ", ", c.gate_up->k(), "], down [", c.down->n(), ", ", c.down->k(), "], hidden ", dim_);
      take_panels(c);
    }

    token_of_ = take<int32_t>(rows_);
    factor_of_ = take<float>(rows_);
    for (int64_t t = 0; t < tokens_; ++t) {
      for (int64_t k = 0; k < choices_; ++k) {
        const int64_t e = id(t, k);
        if (e < 0) continue;
        const int64_t row = begins[e]++;
        token_of_[row] = static_cast<int32_t>(t);
        factor_of_[row] = weights_.data<float>()[t * weights_.row_stride() + k];
      }
    }
  }

  void take_panels(Chosen& c) {
    const DType in = c.gate_up->dtype(), out = c.down->dtype();
    c.steps = num_steps(dim_, in);
    c.input_steps = panel_steps(kernels_, dim_, in);
    c.is_static = c.gate_up->input_scale().scale != 0;
    c.inputs = x_.steps(InputForm{c.is_static ? DType::kF32 : in, {}, /*by_rows=*/true});
    c.down_steps = num_steps(c.width, out);
    c.hidden_steps = panel_steps(kernels_, c.width, out);
    c.hidden = take<uint32_t>(c.panels.total_room() * c.hidden_steps);
    c.middle = out == DType::kI8 ? take<float>(c.rows * c.width) : nullptr;
    any_middle_ |= c.middle != nullptr;
    any_static_ |= c.is_static;
    most_input_steps_ = std::max(most_input_steps_, c.input_steps);
    gathered_steps_ = std::max(gathered_steps_, std::min(panels_at_once(c), c.panels.count) * kernels_.panel_rows * c.input_steps);
  }

  int64_t panels_at_once(const Chosen& c) const {
    return std::max<int64_t>(1, kGatherBytes / (kernels_.panel_rows * c.input_steps * static_cast<int64_t>(sizeof(uint32_t))));
  }

  // The inputs of panels [first, last).
  PanelRun gather(const Chosen& c, int64_t first, int64_t last, const Gathered& to) const {
    const ProductKernels& product = product_kernels(kernels_, c.gate_up->dtype());
    const PanelRun run{to.panels, c.panels, first, last, c.input_steps};
    for (int64_t p = first; p < last; ++p) {
      const int64_t row = c.begin + c.panels.begin(p);
      const uint32_t* inputs[weir::cpu::kMaxPanelRows];
      for (int r = 0; r < c.panels.size(p); ++r) inputs[r] = input_row(c, row + r, to.rounded + r * c.input_steps);
      product.gather_panel(inputs, c.panels.size(p), c.panels.room(p), c.input_steps, to.panels + run.row(p) * c.input_steps);
    }
    return run;
  }

  const uint32_t* input_row(const Chosen& c, int64_t row, uint32_t* rounded) const {
    const int64_t token = token_of_[row];
    if (!c.is_static) return c.inputs + token * c.input_steps;
    const auto* floats = reinterpret_cast<const float*>(c.inputs) + token * panel_steps(kernels_, dim_, DType::kF32);
    product_kernels(kernels_, c.gate_up->dtype()).pack_panel(floats, dim_, 1, 1, dim_, c.gate_up->input_scale(), rounded);
    return rounded;
  }

  void requantise(int64_t begin, int64_t end) const {
    for (const Chosen& c : chosen_) {
      if (c.middle == nullptr) continue;
      const ProductKernels& product = product_kernels(kernels_, c.down->dtype());
      const int64_t first = std::max<int64_t>(begin - c.first_panel, 0), last = std::min(end - c.first_panel, c.panels.count);
      for (int64_t p = first; p < last; ++p)
        product.pack_panel(c.middle + c.panels.begin(p) * c.width, c.width, c.panels.size(p), c.panels.room(p), c.width,
                           c.down->input_scale(), c.hidden + c.panels.begin(p) * c.hidden_steps);
    }
  }

  // Calls body(expert, first, last) with this thread's share of the units of all experts, in order: a unit of expert c costs cost(c).
  template <class Units, class Cost, class Body>
  void share(int thread, int threads, Units units, Cost cost, Body body) const {
    int64_t total = 0, before = 0;
    for (const Chosen& c : chosen_) total += units(c) * cost(c);
    const int64_t low = total / threads * thread, high = thread + 1 == threads ? total : total / threads * (thread + 1);
    for (const Chosen& c : chosen_) {
      const auto at = [&](int64_t bound) {
        return std::clamp<int64_t>(ceil_div(std::max<int64_t>(bound - before, 0), cost(c)), 0, units(c));
      };
      if (const int64_t first = at(low), last = at(high); first < last) body(c, first, last);
      before += units(c) * cost(c);
    }
  }

  void gate_up(int thread, int threads, const Gathered& to) const {
    const auto units = [](const Chosen& c) { return c.tiles; };
    const auto cost = [&](const Chosen& c) { return std::max<int64_t>(c.rows, kernels_.memory_bound_rows) * c.steps; };
    share(thread, threads, units, cost, [&](const Chosen& c, int64_t first, int64_t last) {
      const int64_t at_once = panels_at_once(c);
      for (int64_t p = 0; p < c.panels.count; p += at_once) {
        const PanelRun inputs = gather(c, p, std::min(p + at_once, c.panels.count), to);
        for (int64_t t = first; t < last; ++t) gate_up_tile(c, inputs, t);
      }
    });
  }

  // The expert that is multiplied after c.
  const Chosen& following(const Chosen& c) const {
    const auto next = static_cast<size_t>(&c - chosen_.data()) + 1;
    return chosen_[std::min(next, chosen_.size() - 1)];
  }

  static TilePair gate_and_up(const Chosen& c, int64_t t) { return {tile(*c.gate_up, t), tile(*c.gate_up, c.width / kTileColumns + t)}; }

  // Columns [16 t, 16 t + 16) of silu(gate) · up for some panels of the expert.
  void gate_up_tile(const Chosen& c, const PanelRun& inputs, int64_t t) const {
    const weir::cpu::Multiply multiply = multiply_kernel(kernels_, *c.gate_up);
    const DType out_type = c.down->dtype();
    const int columns = static_cast<int>(std::min<int64_t>(kTileColumns, c.width - t * kTileColumns));
    // The up rows begin inside a tile when the width is no multiple of 16; then they span two, and a second product fetches the other.
    const int64_t up = (c.width + t * kTileColumns) / kTileColumns, skip = c.width % kTileColumns;
    const bool spans = skip + columns > kTileColumns;
    const uint32_t *gate_tile = tile(*c.gate_up, t), *up_tile = tile(*c.gate_up, up);
    const uint32_t* next_tile = spans ? tile(*c.gate_up, up + 1) : up_tile;
    alignas(64) float sums[kSumRows][3 * kTileColumns];
    const TilePair here{gate_tile, up_tile}, next = gate_and_up(t + 1 < c.tiles ? c : following(c), (t + 1) % c.tiles);
    const int64_t at_once = kSumRows / kernels_.panel_rows;
    for (int64_t first = inputs.first; first < inputs.last; first += at_once) {
      const int64_t last = std::min(first + at_once, inputs.last);
      const PanelRun run{inputs.panel(first), c.panels, first, last, c.input_steps};
      const TilePair& soon = last < inputs.last ? here : next;
      multiply(run, here, soon, c.steps, sums[0], 3 * kTileColumns, 2 * kTileColumns, false);
      if (spans) multiply(run, {next_tile, next_tile}, soon, c.steps, sums[0] + 2 * kTileColumns, 3 * kTileColumns, kTileColumns, false);
      for (int64_t p = first; p < last; ++p) {
        const float *gate = sums[c.panels.begin(p) - c.panels.begin(first)], *up_sums = gate + kTileColumns + skip;
        const int rows = c.panels.size(p);
        if (c.middle != nullptr)
          kernels_.silu_mul(gate, up_sums, 3 * kTileColumns, rows, columns, c.middle + c.panels.begin(p) * c.width + t * kTileColumns,
                            c.width);
        else
          product_kernels(kernels_, out_type)
              .silu_mul_panel(gate, up_sums, 3 * kTileColumns, rows, c.panels.room(p), t * kTileColumns, c.width,
                              c.hidden + c.panels.begin(p) * c.hidden_steps);
      }
    }
  }

  // y += the second products of this thread's tiles [first, last), of all rows.
  void down(int64_t first, int64_t last) const {
    for (const Chosen& c : chosen_) {
      for (int64_t t = first; t < last; t += 2) {
        const TilePair here{tile(*c.down, t), tile(*c.down, t + 1 < last ? t + 1 : t)};
        const PackedMatrix& after = t + 2 < last ? *c.down : *following(c).down;
        const int64_t next = t + 2 < last ? t + 2 : first;
        down_tiles(c, here, {tile(after, next), tile(after, next + 1)}, t,
                   static_cast<int>(std::min<int64_t>((t + 1 < last ? 2 : 1) * kTileColumns, dim_ - t * kTileColumns)));
      }
    }
  }

  // Columns [16 t, 16 t + columns) for the rows of c.
  void down_tiles(const Chosen& c, const TilePair& here, const TilePair& next, int64_t t, int columns) const {
    const weir::cpu::Multiply multiply = multiply_kernel(kernels_, *c.down);
    alignas(64) float sums[kSumRows][2 * kTileColumns];
    const int64_t at_once = kSumRows / kernels_.panel_rows;
    for (int64_t p = 0; p < c.panels.count; p += at_once) {
      const int64_t end = std::min(p + at_once, c.panels.count);
      const PanelRun run{c.hidden + c.panels.begin(p) * c.hidden_steps, c.panels, p, end, c.hidden_steps};
      multiply(run, here, end < c.panels.count ? here : next, c.down_steps, sums[0], 2 * kTileColumns, columns, false);
      const int64_t row = c.begin + c.panels.begin(p);
      kernels_.scatter_add(sums[0], 2 * kTileColumns, c.panels.begin(end) - c.panels.begin(p), columns, factor_of_ + row, token_of_ + row,
                           y_.data<float>() + t * kTileColumns, y_.row_stride());
    }
  }

  const LinearKernels& kernels_;
  Context& ctx_;
  const RoundedRows& x_;
  Tensor& y_;
  const Tensor& weights_;
  const int64_t tokens_, choices_, dim_;
  int64_t rows_ = 0, num_panels_ = 0;
  std::span<Chosen> chosen_;     // by rising expert
  int32_t* token_of_ = nullptr;  // [P]
  float* factor_of_ = nullptr;   // [P]
  bool any_middle_ = false;      // some expert's second product is I8
  bool any_static_ = false;      // some expert's first product has an input scale of its own
  int64_t most_input_steps_ = 0, gathered_steps_ = 0;
};

}  // namespace

void experts_add_cpu(const LinearKernels& kernels, Context& ctx, const RoundedRows& x, const Routing& routing, const ExpertWeights& experts,
                     Tensor& y) {
  const Arena::Scope scope(ctx.arena);
  Experts(kernels, ctx, x, routing, experts, y).run();
}

}  // namespace weir::ops
