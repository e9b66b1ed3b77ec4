#include "weir/bench/kernel_cases.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <random>

#include "weir/ops/attention.h"
#include "weir/ops/delta_net.h"
#include "weir/ops/elementwise.h"
#include "weir/ops/linear.h"

namespace weir::bench {
namespace {

using ops::Context, ops::ExpertWeights, ops::PackedMatrix, ops::Routing, ops::Rows;

constexpr int64_t kArenaBytes = int64_t{16} << 30;  // of address space
constexpr float kEps = 1e-6f;
constexpr int64_t kMostHeadRows = 64;  // logits are made for so many positions at a time

double real(int64_t value) { return static_cast<double>(value); }

Tensor random_tensor(Shape shape, uint32_t seed = 7) {
  std::mt19937 rng(seed);
  std::uniform_real_distribution<float> any(-0.1f, 0.1f);
  Tensor out = Tensor::zeros(shape, DType::kF32);
  for (int64_t i = 0; i < out.numel(); ++i) out.data<float>()[i] = any(rng);
  return out;
}

Tensor ints(const std::vector<int32_t>& values) {
  Tensor out = Tensor::zeros({static_cast<int64_t>(values.size())}, DType::kI32);
  std::copy(values.begin(), values.end(), out.data<int32_t>());
  return out;
}

// The same few rows again and again: billions of random numbers would take longer than the measurement.
void fill(ThreadPool& pool, PackedMatrix& w) {
  constexpr int64_t kRows = 64;
  if (w.dtype() == DType::kI8) {
    Tensor bytes = Tensor::zeros({kRows, w.k()}, DType::kI8);
    for (int64_t i = 0; i < bytes.numel(); ++i) bytes.data<int8_t>()[i] = static_cast<int8_t>(i * 37 % 251 - 125);
    const std::vector<float> scales(kRows, 1e-3f);
    for (int64_t row = 0; row < w.n(); row += kRows) {
      const int64_t count = std::min(kRows, w.n() - row);
      w.pack_rows(pool, row, bytes.rows(0, count), {.scale = std::span(scales).first(static_cast<size_t>(count)), .bias = {}});
    }
    return;
  }
  const Tensor rows = random_tensor({kRows, w.k()});
  for (int64_t row = 0; row < w.n(); row += kRows) w.pack_rows(pool, row, rows.rows(0, std::min(kRows, w.n() - row)));
  WEIR_CHECK(w.is_whole(), w.n(), " x ", w.k());
}

class Cases {
 public:
  Cases(const ModelConfig& model, const CaseOptions& options, ThreadPool& pool, const std::function<void(const KernelCase&)>& visit)
      : model_(model), options_(options), ctx_{pool, arena_}, visit_(visit) {}

  void run() {
    const ModelConfig& m = model_;
    const ops::DeltaShape shape = delta_shape();
    const int64_t q = m.heads * m.head_dim, kv = m.kv_heads * m.head_dim, value = m.v_heads * m.v_dim;
    for (const DType type : options_.types) {
      linear("delta net in", type, shape.channels() + value + 2 * m.v_heads, m.hidden);
      linear("delta net out", type, m.hidden, value);
      linear("attention in", type, 2 * q + 2 * kv, m.hidden);
      linear("attention out", type, m.hidden, q);
      // Quantised models keep these as floats.
      if (m.moe() && type != DType::kI8) linear("router", type, m.num_experts + 1, m.hidden);
      if (type != DType::kI8) linear("head", type, m.vocab_size, m.hidden, kMostHeadRows);
      experts(type);
    }
    delta_net();
    attention();
    elementwise();
  }

 private:
  bool wanted(const std::string& kernel) const { return kernel.find(options_.filter) != std::string::npos; }
  ops::DeltaShape delta_shape() const { return {model_.k_heads, model_.v_heads, model_.k_dim, model_.v_dim}; }
  ops::WeightCoding coding(DType type) const { return type == DType::kBF16 ? options_.coding : ops::WeightCoding::kPlain; }
  int64_t packed_bytes(int64_t n, int64_t k, DType type) const { return PackedMatrix::packed_bytes(n, k, type, coding(type)); }
  int64_t most_tokens() const { return *std::max_element(options_.tokens.begin(), options_.tokens.end()); }

  void linear(const std::string& what, DType type, int64_t n, int64_t k, int64_t most = kMaxCaseTokens) {
    const std::string kernel = what == "head" ? what : "linear, " + what;
    if (!wanted(kernel)) return;
    std::string shape = concat(n, " x ", k);
    const int64_t rows_that_fit = std::max<int64_t>(16, options_.memory / std::max<int64_t>(1, k * element_size(type)) / 16 * 16);
    if (n > rows_that_fit) n = rows_that_fit, shape += concat(", ", n, " rows of it");
    const int64_t bytes = packed_bytes(n, k, type);
    std::vector<PackedMatrix> matrices;
    for (int64_t i = 0; i < std::max<int64_t>(1, options_.memory / bytes); ++i)
      fill(ctx_.pool, matrices.emplace_back(n, k, type, ops::InputScale{}, coding(type)));
    const Tensor x = random_tensor({std::min(most_tokens(), most), k});
    size_t next = 0;
    for (const int64_t tokens : options_.tokens) {
      if (tokens > most) continue;
      visit_({kernel, shape, type, tokens, [&, tokens] {
                const Arena::Scope scope(arena_);
                ops::linear(ctx_, x.rows(0, tokens), matrices[next++ % matrices.size()]);
                return Cost{real(bytes), 2.0 * real(tokens * n * k)};
              }});
    }
  }

  // As in a model: every token chooses top_k of the routed experts and the shared one.
  void experts(DType type) {
    const ModelConfig& m = model_;
    const int64_t count = m.moe() ? m.num_experts : 0, width = m.moe() ? m.expert_intermediate : m.dense_intermediate, hidden = m.hidden;
    const int64_t shared_width = m.moe() ? m.shared_intermediate : width;
    const std::string kernel = m.moe() ? "experts" : "feed-forward";
    if (!wanted(kernel)) return;
    const auto bytes_of = [&](int64_t w) { return packed_bytes(2 * w, hidden, type) + packed_bytes(hidden, w, type); };
    const int64_t stored = std::clamp<int64_t>(options_.memory / bytes_of(width) - 1, std::min<int64_t>(1, count), count);
    ExpertWeights weights;
    if (stored > 0) {
      weights.gate_up = PackedMatrix::many(stored, 2 * width, hidden, type, coding(type));
      weights.down = PackedMatrix::many(stored, hidden, width, type, coding(type));
    }
    for (PackedMatrix& w : weights.gate_up) fill(ctx_.pool, w);
    for (PackedMatrix& w : weights.down) fill(ctx_.pool, w);
    for (int64_t e = stored; e < count; ++e) {  // share the storage of one of those
      weights.gate_up.push_back(weights.gate_up[static_cast<size_t>(e % stored)]);
      weights.down.push_back(weights.down[static_cast<size_t>(e % stored)]);
    }
    fill(ctx_.pool, weights.gate_up.emplace_back(2 * shared_width, hidden, type, ops::InputScale{}, coding(type)));
    fill(ctx_.pool, weights.down.emplace_back(hidden, shared_width, type, ops::InputScale{}, coding(type)));

    const std::string shape = count > 0 ? concat(m.top_k, " of ", count, ", ", width, " x ", hidden) : concat(width, " x ", hidden);
    const Tensor x = random_tensor({most_tokens(), hidden});
    Tensor y = Tensor::zeros({most_tokens(), hidden}, DType::kF32);
    for (const int64_t tokens : options_.tokens) {
      const std::vector<Choice> choices = draw_choices(tokens, count);
      const double shared_bytes = real(bytes_of(shared_width)), expert_bytes = real(bytes_of(width));
      const double operations = 6.0 * real(tokens * hidden) * (real(m.top_k * (count > 0 ? width : 0)) + real(shared_width));
      size_t next = 0;
      visit_({kernel, shape, type, tokens, [&, tokens] {
                const Choice& choice = choices[next++ % choices.size()];
                const Arena::Scope scope(arena_);
                Tensor out = y.rows(0, tokens);
                ops::experts_add(ctx_, x.rows(0, tokens), choice.routing, weights, out);
                return Cost{shared_bytes + real(choice.distinct) * expert_bytes, operations};
              }});
    }
  }

  struct Choice {
    Routing routing;
    int64_t distinct = 0;  // routed experts chosen
  };
  std::vector<Choice> draw_choices(int64_t tokens, int64_t count) const {
    const int64_t top_k = count > 0 ? model_.top_k : 0;
    std::mt19937 rng(3);
    std::vector<Choice> out(tokens <= kMostSequences ? 16 : 2);
    std::vector<int32_t> all(static_cast<size_t>(count));
    std::iota(all.begin(), all.end(), 0);
    for (Choice& choice : out) {
      choice.routing = {Tensor::zeros({tokens, top_k + 1}, DType::kI32), Tensor::zeros({tokens, top_k + 1}, DType::kF32)};
      std::vector<bool> seen(static_cast<size_t>(count));
      for (int64_t t = 0; t < tokens; ++t) {
        auto* ids = choice.routing.ids.data<int32_t>() + t * (top_k + 1);
        for (int64_t k = 0; k < top_k; ++k) {  // the first top_k of a shuffle
          const auto other = static_cast<size_t>(k) + rng() % static_cast<size_t>(count - k);
          std::swap(all[static_cast<size_t>(k)], all[other]);
          ids[k] = all[static_cast<size_t>(k)];
          seen[static_cast<size_t>(ids[k])] = true;
        }
        ids[top_k] = static_cast<int32_t>(count);
      }
      choice.distinct = std::count(seen.begin(), seen.end(), true);
      std::fill_n(choice.routing.weights.data<float>(), choice.routing.weights.numel(), 0.1f);
    }
    return out;
  }

  // Rows of one step: `tokens` sequences with one token each, or one sequence with all of them, that begin at `start`. Slots and pages are
  // taken in turns from [0, slots) and [0, pages).
  Rows rows_of(int64_t tokens, int64_t start, int64_t pages, int64_t first_slot, int64_t slots) const {
    const bool decoding = tokens <= kMostSequences;
    const int64_t count = decoding ? tokens : 1, length = decoding ? 1 : tokens, held = (start + length + 15) / 16;
    std::vector<int32_t> begins, starts, slot_ids;
    Rows rows;
    rows.page_table = Tensor::zeros({count, pages > 0 ? held : 0}, DType::kI32);
    for (int64_t r = 0; r < count; ++r) {
      begins.push_back(static_cast<int32_t>(r * length));
      starts.push_back(static_cast<int32_t>(start));
      slot_ids.push_back(static_cast<int32_t>((first_slot + r) % slots));
      for (int64_t p = 0; p < rows.page_table.dim(1); ++p)
        rows.page_table.data<int32_t>()[r * held + p] = static_cast<int32_t>((r * held + p) % pages);
    }
    begins.push_back(static_cast<int32_t>(tokens));
    rows.row_starts = ints(begins), rows.starts = ints(starts);
    rows.state_write = ints(slot_ids);
    rows.state_read = start > 0 ? rows.state_write : ints(std::vector<int32_t>(static_cast<size_t>(count), -1));
    rows.snapshots = Tensor::zeros({0, 3}, DType::kI32);
    return rows;
  }

  // Decoding reads the state and half a log, the middle of what a block sees; in the second block, as the first one's state is not read.
  void delta_net() {
    if (!wanted("delta net core") || model_.count(LayerKind::kDeltaNet) == 0) return;
    constexpr int64_t kHalf = ops::kDeltaBlock / 2, kBefore = ops::kDeltaBlock + kHalf;
    const ops::DeltaNet net{delta_shape(),
                            random_tensor({model_.conv_kernel, delta_shape().channels()}),
                            random_tensor({model_.v_heads}),
                            random_tensor({model_.v_heads}),
                            random_tensor({model_.v_dim}),
                            kEps};
    const ops::DeltaShape& s = net.shape;
    const int64_t slot_bytes = 4 * (s.slot_floats(DType::kF32) + ops::conv_ring(model_.conv_kernel) * s.channels());
    const int64_t slots = std::max(kMostSequences, std::min<int64_t>(1024, options_.memory / slot_bytes));
    Tensor pool = ops::make_delta_pool(slots + 1, s);  // the last one is the prompts'
    Tensor ring = ops::make_conv_pool(slots + 1, s.channels(), model_.conv_kernel);
    const int64_t width = s.channels() + s.values() + 2 * s.v_heads;
    const Tensor projection = random_tensor({std::max(most_tokens(), kBefore), width});
    const auto run = [&](int64_t tokens, const Rows& rows) {
      const Arena::Scope scope(arena_);
      ops::delta_net(ctx_, projection.rows(0, tokens), net, ring, pool, rows);
    };
    for (int64_t slot = 0; slot < slots; ++slot) {
      Rows rows = rows_of(kBefore, 0, 0, slot, slots);  // one row of a block and a half
      rows.row_starts = ints({0, static_cast<int32_t>(kBefore)});
      rows.starts = ints({0}), rows.page_table = Tensor::zeros({1, 0}, DType::kI32);
      rows.state_read = ints({-1}), rows.state_write = ints({static_cast<int32_t>(slot)});
      run(kBefore, rows);
    }
    const std::string shape = concat(s.k_heads, "/", s.v_heads, " heads of ", s.k_dim, " x ", s.v_dim);
    for (const int64_t tokens : options_.tokens) {
      const bool decoding = tokens <= kMostSequences;
      // Multiply-adds of a token and value head: two products with the state, on average half a block of earlier updates, and its share of
      // folding a block; keys are compared once for the heads that share them.
      const double per_head = 2.0 * real(s.k_dim * s.v_dim) + 2.0 * real(kHalf * s.v_dim) + (decoding ? 0.0 : real(s.k_dim * s.v_dim));
      const double around = (2.0 * real(model_.conv_kernel) + 20) * real(s.channels()) + 24 * real(s.values());
      const double operations =
          2.0 * (real(tokens * s.v_heads) * per_head + real(tokens * s.k_heads * 2 * kHalf * s.k_dim)) + real(tokens) * around;
      const double state = 4.0 * real(s.v_heads * s.k_dim * s.v_dim), inputs = 4.0 * real(model_.conv_kernel * s.channels()),
                   log = 2.0 * real(ops::kDeltaBlock * (s.k_heads * s.k_dim + s.v_heads * s.v_dim));
      std::vector<Rows> turns;
      if (!decoding) turns.push_back(rows_of(tokens, 0, 0, slots, slots + 1));
      for (int64_t first = 0; decoding && first < slots; first += tokens) turns.push_back(rows_of(tokens, kBefore, 0, first, slots));
      size_t next = 0;
      visit_({"delta net core", shape, DType::kF32, tokens, [&, tokens, decoding] {
                run(tokens, turns[next++ % turns.size()]);
                return Cost{decoding ? real(tokens) * (state + log + inputs) : state, operations};
              }});
    }
  }

  void attention() {
    if (!wanted("paged attention") || model_.count(LayerKind::kAttention) == 0) return;
    const ModelConfig& m = model_;
    for (const DType type : {DType::kBF16, DType::kF32, DType::kI8}) {
      if (std::find(options_.types.begin(), options_.types.end(), type) == options_.types.end()) continue;
      const int64_t page_bytes = 2 * m.kv_heads * 16 * ops::kv_head_bytes(m.head_dim, type);
      const int64_t longest = std::max(options_.context, most_tokens());
      const int64_t pages = std::max<int64_t>(1, std::min(options_.memory / page_bytes, kMostSequences * ((longest + 15) / 16)));
      Tensor pool = ops::make_kv_pool(pages, m.kv_heads, m.head_dim, type);
      std::memset(pool.raw(), 0x3c, static_cast<size_t>(pool.nbytes()));  // small numbers, in memory of their own
      const Tensor q = random_tensor({most_tokens(), m.heads, m.head_dim});
      for (const int64_t tokens : options_.tokens) {
        const bool decoding = tokens <= kMostSequences;
        const int64_t context = std::max(options_.context, tokens), start = context - (decoding ? 1 : tokens);
        const Rows rows = rows_of(tokens, start, pages, 0, 1);
        const double keys = decoding ? real(tokens * context) : real(tokens * start) + real(tokens * (tokens + 1)) / 2;
        const double bytes = real((decoding ? tokens : 1) * context * page_bytes / 16);
        visit_({"paged attention", concat(m.heads, "/", m.kv_heads, " heads of ", m.head_dim, ", ", context, " tokens"), type, tokens,
                [&, tokens] {
                  const Arena::Scope scope(arena_);
                  ops::paged_attention(ctx_, q.rows(0, tokens), pool, rows, 0.1f);
                  return Cost{bytes, 4.0 * keys * real(m.heads * m.head_dim)};
                }});
      }
    }
  }

  // These touch activations, which a step has in its caches; rates above the memory's are the caches'.
  void elementwise() {
    const ModelConfig& m = model_;
    const int64_t most = most_tokens(), q = m.heads * m.head_dim, half = m.rotary_pairs;
    const auto visit = [&](const char* kernel, const std::string& shape, double floats_per_token, double operations_per_token,
                           const std::function<void(int64_t)>& run) {
      if (!wanted(kernel)) return;
      for (const int64_t tokens : options_.tokens)
        visit_({kernel, shape, DType::kF32, tokens, [&, tokens] {
                  const Arena::Scope scope(arena_);
                  run(tokens);
                  return Cost{4.0 * floats_per_token * real(tokens), operations_per_token * real(tokens)};
                }});
    };
    const Tensor x = random_tensor({most, std::max({m.hidden, 2 * q, 2 * m.v_heads, m.num_experts + 1})});
    // Most read columns of a wider projection, some a tensor of their own.
    const auto input = [&](int64_t tokens, int64_t columns) { return x.rows(0, tokens).columns(0, columns); };
    const auto dense = [&](int64_t tokens, int64_t columns) { return Tensor(const_cast<void*>(x.raw()), {tokens, columns}, DType::kF32); };
    const Tensor w = random_tensor({std::max({m.hidden, m.head_dim, m.v_heads})});
    const auto weight = [&](int64_t size) { return w.rows(0, size); };
    visit("norm", concat(m.hidden), 2 * real(m.hidden), 4 * real(m.hidden),
          [&](int64_t t) { ops::rms_norm(ctx_, dense(t, m.hidden), weight(m.hidden), kEps); });

    const ops::RopeTable rope{random_tensor({most, half}), random_tensor({most, half})};
    visit("norm and rotate", concat(m.heads, " heads of ", m.head_dim), 2 * real(q), 7 * real(q), [&](int64_t t) {
      ops::norm_rope(ctx_, input(t, 2 * q), m.heads, m.head_dim, 2 * m.head_dim, weight(m.head_dim), kEps,
                     {rope.cos.rows(0, t), rope.sin.rows(0, t)});
    });
    Tensor o = random_tensor({most, q});
    visit("gate heads", concat(m.heads, " heads of ", m.head_dim), 3 * real(q), 20 * real(q), [&](int64_t t) {
      Tensor heads = Tensor(o.raw(), {t, q}, DType::kF32);
      ops::gate_heads(ctx_, heads, input(t, 2 * q), m.heads, m.head_dim, 2 * m.head_dim);
    });
    visit("delta gates", concat(m.v_heads, " heads"), 4 * real(m.v_heads), 40 * real(m.v_heads),
          [&](int64_t t) { ops::delta_gates(ctx_, input(t, 2 * m.v_heads), weight(m.v_heads), weight(m.v_heads)); });
    if (!m.moe()) return;
    visit("choose experts", concat(m.top_k, " of ", m.num_experts), real(m.num_experts), 2 * real(m.num_experts),
          [&](int64_t t) { ops::route(ctx_, dense(t, m.num_experts + 1), m.num_experts, m.top_k, /*shared_gate=*/true); });
  }

  const ModelConfig& model_;
  const CaseOptions& options_;
  Arena arena_{static_cast<size_t>(kArenaBytes)};
  Context ctx_;
  const std::function<void(const KernelCase&)>& visit_;
};

}  // namespace

void each_kernel_case(const ModelConfig& model, const CaseOptions& options, ThreadPool& pool,
                      const std::function<void(const KernelCase&)>& visit) {
  Cases(model, options, pool, visit).run();
}

}  // namespace weir::bench
