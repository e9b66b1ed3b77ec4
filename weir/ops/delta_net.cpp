#include "weir/ops/delta_net.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "weir/kernels/cpu/delta.h"
#include "weir/kernels/cpu/elementwise.h"
#include "weir/kernels/cpu/isa.h"
#include "weir/ops/not_built.h"

namespace weir::ops {
namespace {

static_assert(kDeltaBlock == cpu::kMaxDeltaBlock);

size_t bytes(int64_t floats) { return static_cast<size_t>(floats) * sizeof(float); }

// What a slot says of itself: its state is the one before token `block`, its log goes up to token `end`.
struct SlotHeader {
  int32_t block, end;
};

// Where the parts of a slot lie.
struct Slots {
  Slots(const Tensor& pool, const DeltaShape& s)
      : pool_floats(static_cast<float*>(const_cast<void*>(pool.raw()))), shape(s), state_type(pool.dtype()) {}
  float* pool_floats;
  const DeltaShape& shape;
  DType state_type;
  float* begin(int64_t slot) const { return pool_floats + slot * shape.slot_floats(state_type); }
  SlotHeader header(int64_t slot) const {
    SlotHeader out;
    std::memcpy(&out, begin(slot), sizeof out);
    return out;
  }
  void set_header(int64_t slot, SlotHeader header) const { std::memcpy(begin(slot), &header, sizeof header); }
  bool readable_at(int64_t slot, int64_t position) const {
    const SlotHeader h = header(slot);
    return position >= h.block && position <= h.block + kDeltaBlock && position >= h.end - kConvHistory && position <= h.end;
  }
  bool narrow() const { return state_type == DType::kBF16; }
  float* state(int64_t slot, int64_t v_head) const { return begin(slot) + kSlotHeaderFloats + v_head * shape.k_dim * shape.v_dim; }
  uint16_t* narrow_state(int64_t slot, int64_t v_head) const {
    return reinterpret_cast<uint16_t*>(begin(slot) + kSlotHeaderFloats) + v_head * shape.k_dim * shape.v_dim;
  }
  float* keys(int64_t slot, int64_t k_head) const {
    return begin(slot) + kSlotHeaderFloats + shape.state_floats(state_type) + k_head * kDeltaBlock * shape.k_dim;
  }
  float* updates(int64_t slot, int64_t v_head) const { return keys(slot, shape.k_heads) + v_head * kDeltaBlock * shape.v_dim; }
  float* decays(int64_t slot, int64_t v_head) const { return updates(slot, shape.v_heads) + v_head * kDeltaBlock; }
};

void check_shape(const DeltaShape& s) {
  WEIR_CHECK(s.k_heads >= 1 && s.v_heads >= 1 && s.v_heads % s.k_heads == 0 && s.k_dim >= 1 && s.v_dim >= 1, "delta net of ", s.k_heads,
             " and ", s.v_heads, " heads of ", s.k_dim, " and ", s.v_dim);
}

// A slot in elements of its pool.
int64_t slot_width(const DeltaShape& shape, DType state) { return shape.slot_floats(state) * int64_t{sizeof(float)} / element_size(state); }

void check_pool(const Tensor& pool, const DeltaShape& shape) {
  WEIR_CHECK((pool.dtype() == DType::kF32 || pool.dtype() == DType::kBF16) && pool.dense() && pool.rank() == 2 &&
                 pool.dim(1) == slot_width(shape, pool.dtype()),
             "delta pool ", pool.shape().str(), " of ", name(pool.dtype()), " for slots of ", slot_width(shape, pool.dtype()));
}

int64_t block_start(int64_t position) { return position == 0 ? 0 : (position - 1) / kDeltaBlock * kDeltaBlock; }

// One call of gated_delta_rule on the CPU, in three passes: prepare what the heads of a group share, run every (row, value head),
// then log the keys and decays. The last pass waits for all heads because they read the old log of the same slot.
class DeltaStep {
 public:
  DeltaStep(Context& ctx, const Tensor& qkv, const DeltaGates& gates, Tensor& pool, const DeltaShape& shape, const Rows& rows, Tensor& out)
      : ctx_(ctx),
        qkv_(qkv),
        gates_(gates),
        shape_(shape),
        rows_(rows),
        slots_(pool, shape),
        tokens_(qkv.dim(0)),
        group_(shape.v_heads / shape.k_heads),
        out_(out),
        elementwise_(cpu::elementwise_kernels(cpu::active_isa())),
        delta_(cpu::delta_kernels(cpu::active_isa())) {}

  void run() {
    const Arena::Scope scope(ctx_.arena);
    queries_ = ctx_.arena.empty({shape_.k_heads, tokens_, shape_.k_dim}).data<float>();
    keys_ = ctx_.arena.empty({shape_.k_heads, tokens_, shape_.k_dim}).data<float>();
    decays_ = ctx_.arena.empty({shape_.v_heads, tokens_}).data<float>();
    betas_ = ctx_.arena.empty({shape_.v_heads, tokens_}).data<float>();
    ctx_.pool.parallel_for(tokens_, min_items(2 * shape_.k_heads * shape_.k_dim, 16'384),
                           [&](int64_t begin, int64_t end, int) { normalise(begin, end); });
    ctx_.pool.parallel_for(shape_.v_heads, min_items(tokens_, 8'192), [&](int64_t begin, int64_t end, int) { sum_decays(begin, end); });
    run_heads();
    ctx_.pool.parallel_for(rows_.num_rows() * shape_.k_heads, min_items(kDeltaBlock * shape_.k_dim, 65'536),
                           [&](int64_t begin, int64_t end, int) {
                             for (int64_t i = begin; i < end; ++i) store_logs(i / shape_.k_heads, i % shape_.k_heads);
                           });
  }

 private:
  // Items per thread that outweigh waking one.
  static int64_t min_items(int64_t cost, int64_t worth) { return std::max<int64_t>(1, worth / std::max<int64_t>(1, cost)); }

  int32_t read_slot(int64_t r) const { return rows_.state_read.data<int32_t>()[r]; }
  int32_t write_slot(int64_t r) const { return rows_.state_write.data<int32_t>()[r]; }

  void normalise(int64_t begin, int64_t end) {
    const int64_t dim = shape_.k_dim;
    const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
    for (int64_t t = begin; t < end; ++t) {
      const float* row = qkv_.data<float>() + t * qkv_.row_stride();
      for (int64_t h = 0; h < shape_.k_heads; ++h) {
        elementwise_.l2_normalise(row + h * dim, queries_ + (h * tokens_ + t) * dim, dim, scale);
        elementwise_.l2_normalise(row + (shape_.k_heads + h) * dim, keys_ + (h * tokens_ + t) * dim, dim, 1.0f);
      }
    }
  }

  // Γ and β of value heads [begin, end), transposed to [head, token].
  void sum_decays(int64_t begin, int64_t end) {
    for (int64_t h = begin; h < end; ++h)
      for (int64_t r = 0; r < rows_.num_rows(); ++r) {
        const Row row = row_of(rows_, r);
        float sum = row.start % kDeltaBlock == 0 ? 0.0f : slots_.decays(read_slot(r), h)[row.start % kDeltaBlock - 1];
        for (int64_t i = 0; i < row.count; ++i) {
          const int64_t t = row.token + i;
          const float g = gates_.g.data<float>()[t * gates_.g.row_stride() + h];
          sum = (row.start + i) % kDeltaBlock == 0 ? g : sum + g;
          decays_[h * tokens_ + t] = sum;
          betas_[h * tokens_ + t] = gates_.beta.data<float>()[t * gates_.beta.row_stride() + h];
        }
      }
  }

  void run_heads() {
    const int64_t items = rows_.num_rows() * shape_.v_heads, threads = ctx_.pool.size();
    // Columns of a state are independent: when heads are too few for the threads, each head is split.
    const int64_t wanted = items > 0 ? std::clamp<int64_t>(threads / items, 1, 4) : 1;
    const int64_t width = std::max<int64_t>(32, (shape_.v_dim + 16 * wanted - 1) / (16 * wanted) * 16);
    const int64_t parts = (shape_.v_dim + width - 1) / width;
    const int64_t floats = cpu::delta_scratch_floats(std::min(width, shape_.v_dim)) + kDeltaBlock * shape_.k_dim +
                           (slots_.narrow() ? shape_.k_dim * shape_.v_dim : 0);
    const Tensor scratch = ctx_.arena.empty({threads, floats});
    const auto item = [&](int64_t i, int thread) {
      const int64_t part = i % parts, head = i / parts % shape_.v_heads, r = i / parts / shape_.v_heads;
      const int64_t column = part * width;
      run_head(r, head, column, std::min(width, shape_.v_dim - column), scratch.data<float>() + thread * floats);
    };
    const int64_t least = min_items(2 * shape_.k_dim * std::min(width, shape_.v_dim), 65'536);
    if (tokens_ == rows_.num_rows() || tokens_ * shape_.v_heads <= least) {  // equal items
      ctx_.pool.parallel_for(items * parts, least, [&](int64_t begin, int64_t end, int thread) {
        for (int64_t i = begin; i < end; ++i) item(i, thread);
      });
    } else {
      ctx_.pool.parallel_items(items * parts, item);
    }
  }

  // Columns [column, column + width) of value head h of row r.
  void run_head(int64_t r, int64_t h, int64_t column, int64_t width, float* scratch) {
    const Row row = row_of(rows_, r);
    const int64_t k_head = h / group_, stride = shape_.v_dim, k_dim = shape_.k_dim;
    const int64_t read = row.start == 0 ? write_slot(r) : read_slot(r), write = write_slot(r);
    const bool narrow = slots_.narrow();
    float* const packed_keys = scratch;
    float* const widened = scratch + kDeltaBlock * k_dim;  // [k_dim, v_dim], of a narrow state
    float* const kernel_scratch = widened + (narrow ? k_dim * stride : 0);
    float* const state_out = narrow ? widened : slots_.state(write, h) + column;
    float* const updates = slots_.updates(write, h) + column;
    // Before the block, null at the beginning of a sequence (zeros); moves to state_out at the first fold. A narrow state is computed with
    // widened, and the write slot always holds it.
    const float* state = row.start == 0 ? nullptr : narrow ? widened : slots_.state(read, h) + column;
    const float* old_keys = slots_.keys(read, k_head);
    const float* old_decays = slots_.decays(read, h);
    const float* old_updates = slots_.updates(read, h) + column;

    const auto fold = [&](const float* keys, const float* decays, const float* log) {
      delta_.fold({k_dim, width, kDeltaBlock, keys, decays, log, state, state_out, stride, kernel_scratch});
      state = state_out;
      if (!narrow) return;
      round_columns(widened, write, h, column, width);
      widen_columns(write, h, column, width, widened);
    };

    int64_t num_old = row.start % kDeltaBlock;
    if (narrow && row.start > 0) {
      widen_columns(read, h, column, width, widened);
      if (read != write) round_columns(widened, write, h, column, width);
    }
    const auto store_zeros = [&](int64_t slot) {
      float* const to = narrow ? widened : slots_.state(slot, h) + column;
      for (int64_t c = 0; c < k_dim; ++c) std::memset(to + c * stride, 0, bytes(width));
      if (narrow) round_columns(widened, slot, h, column, width);
    };
    if (row.start > 0 && num_old == 0 &&
        slots_.header(read).block < row.start) {  // else folded already: the slot has seen tokens behind row.start
      fold(old_keys, old_decays, old_updates);
    } else if (num_old > 0 && read != write) {
      copy_columns(old_updates, updates, num_old, width);
    }

    for (int64_t done = 0; done < row.count;) {
      const int64_t t = row.token + done, position = row.start + done, block = position - num_old;
      const int64_t count = std::min(kDeltaBlock - num_old, row.count - done);
      const float* keys = keys_ + (k_head * tokens_ + t) * k_dim;
      const float* decays = decays_ + h * tokens_ + t;
      if (num_old > 0 && row.count > 1) {  // the kernel and the fold want them in one piece
        std::memcpy(packed_keys, old_keys, bytes(num_old * k_dim));
        std::memcpy(packed_keys + num_old * k_dim, keys, bytes(count * k_dim));
        old_keys = packed_keys;
        keys = packed_keys + num_old * k_dim;
      }
      cpu::DeltaBlock b{};
      b.k_dim = k_dim, b.columns = width, b.num_old = num_old, b.num_new = count;
      b.old_keys = old_keys, b.keys = keys;
      b.queries = queries_ + (k_head * tokens_ + t) * k_dim;
      b.old_decays = old_decays, b.decays = decays, b.betas = betas_ + h * tokens_ + t;
      b.values = qkv_.data<float>() + t * qkv_.row_stride() + 2 * shape_.k_heads * k_dim + h * shape_.v_dim + column;
      b.values_stride = qkv_.row_stride();
      b.state = state, b.stride = stride, b.updates = updates;
      b.out = out_.data<float>() + t * out_.row_stride() + h * shape_.v_dim + column, b.out_stride = out_.row_stride();
      b.scratch = kernel_scratch;
      delta_.block(b);
      done += count;

      for (int64_t s = 0; s < rows_.snapshots.dim(0); ++s) {
        const auto* snapshot = rows_.snapshots.data<int32_t>() + 3 * s;
        if (snapshot[0] != r || block_start(snapshot[1]) != block || snapshot[1] <= row.start) continue;
        if (state == nullptr)
          store_zeros(snapshot[2]);
        else if (narrow)
          round_columns(widened, snapshot[2], h, column, width);
        else
          copy_columns(state, slots_.state(snapshot[2], h) + column, k_dim, width);
        copy_columns(updates, slots_.updates(snapshot[2], h) + column, snapshot[1] - block, width);
      }
      if (done == row.count) break;
      std::array<float, kDeltaBlock> all_decays;
      std::copy_n(old_decays, num_old, all_decays.begin());
      std::copy_n(decays, count, all_decays.begin() + num_old);
      fold(num_old > 0 ? old_keys : keys, all_decays.data(), updates);
      num_old = 0;
    }
    if (state == nullptr)
      store_zeros(write);
    else if (state != state_out)
      copy_columns(state, state_out, k_dim, width);
  }

  void widen_columns(int64_t slot, int64_t h, int64_t column, int64_t width, float* to) const {
    const uint16_t* from = slots_.narrow_state(slot, h) + column;
    for (int64_t c = 0; c < shape_.k_dim; ++c) elementwise_.widen_bf16(from + c * shape_.v_dim, to + c * shape_.v_dim, width);
  }
  void round_columns(const float* from, int64_t slot, int64_t h, int64_t column, int64_t width) const {
    uint16_t* to = slots_.narrow_state(slot, h) + column;
    for (int64_t c = 0; c < shape_.k_dim; ++c) elementwise_.round_bf16(from + c * shape_.v_dim, to + c * shape_.v_dim, width);
  }
  void copy_columns(const float* from, float* to, int64_t rows, int64_t width) const {
    for (int64_t i = 0; i < rows; ++i) std::memcpy(to + i * shape_.v_dim, from + i * shape_.v_dim, bytes(width));
  }

  // Keys of k_head and decays of its value heads: snapshots first, they may need log entries that the row's own slot now drops.
  void store_logs(int64_t r, int64_t k_head) {
    const Row row = row_of(rows_, r);
    for (int64_t s = 0; s < rows_.snapshots.dim(0); ++s) {
      const auto* snapshot = rows_.snapshots.data<int32_t>() + 3 * s;
      if (snapshot[0] == r) store_log(r, row, k_head, snapshot[1], snapshot[2]);
    }
    store_log(r, row, k_head, row.end(), write_slot(r));
  }

  // The log as of `position`: entries of tokens before the row from its read slot, the others from this step.
  void store_log(int64_t r, const Row& row, int64_t k_head, int64_t position, int64_t slot) {
    const int64_t block = block_start(position), first_new = std::max(block, row.start), num_old = first_new - block;
    const int64_t count = position - first_new, t = row.token + first_new - row.start;
    const bool copy_old = num_old > 0 && read_slot(r) != slot;
    if (k_head == 0) slots_.set_header(slot, {static_cast<int32_t>(block), static_cast<int32_t>(position)});
    float* keys = slots_.keys(slot, k_head);
    if (copy_old) std::memcpy(keys, slots_.keys(read_slot(r), k_head), bytes(num_old * shape_.k_dim));
    std::memcpy(keys + num_old * shape_.k_dim, keys_ + (k_head * tokens_ + t) * shape_.k_dim, bytes(count * shape_.k_dim));
    for (int64_t h = k_head * group_; h < (k_head + 1) * group_; ++h) {
      float* decays = slots_.decays(slot, h);
      if (copy_old) std::memcpy(decays, slots_.decays(read_slot(r), h), bytes(num_old));
      std::memcpy(decays + num_old, decays_ + h * tokens_ + t, bytes(count));
    }
  }

  Context& ctx_;
  const Tensor& qkv_;
  const DeltaGates& gates_;
  const DeltaShape& shape_;
  const Rows& rows_;
  const Slots slots_;
  const int64_t tokens_, group_;
  Tensor& out_;
  const cpu::ElementwiseKernels& elementwise_;
  const cpu::DeltaKernels& delta_;
  float *queries_ = nullptr, *keys_ = nullptr;  // [k_heads, T, k_dim]: a head's tokens follow each other
  float *decays_ = nullptr, *betas_ = nullptr;  // [v_heads, T]
};

}  // namespace

Tensor make_delta_pool(int64_t slots, const DeltaShape& shape, DType state) {
  check_shape(shape);
  if (state != DType::kF32 && state != DType::kBF16)
    fail(ErrorCode::kInvalidArgument, "delta-net states must be F32 or BF16, got ", name(state));
  return Tensor::zeros({slots, slot_width(shape, state)}, state);
}

DeltaGates delta_gates(Context& ctx, const Tensor& ba, const Tensor& a_log, const Tensor& dt_bias) {
  const Span span(ctx.profiler, "delta gates");
  const int64_t tokens = ba.dim(0), heads = a_log.dim(0);
  WEIR_CHECK(ba.dtype() == DType::kF32 && ba.rank() == 2 && ba.dim(1) == 2 * heads, "ba ", ba.shape().str(), " for ", heads, " heads");
  WEIR_CHECK(a_log.dtype() == DType::kF32 && dt_bias.dtype() == DType::kF32 && dt_bias.shape() == a_log.shape() && a_log.rank() == 1,
             "a_log ", a_log.shape().str(), ", dt_bias ", dt_bias.shape().str());
  if (ba.device() != DeviceKind::kCpu) not_built("delta_gates", ba.device());
  DeltaGates gates{ctx.arena.empty({tokens, heads}), ctx.arena.empty({tokens, heads})};
  const auto& k = cpu::elementwise_kernels(cpu::active_isa());
  ctx.pool.parallel_for(tokens, std::max<int64_t>(1, 4'096 / heads), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float* row = ba.data<float>() + t * ba.row_stride();
      k.delta_gates(row, row + heads, a_log.data<float>(), dt_bias.data<float>(), gates.g.data<float>() + t * heads,
                    gates.beta.data<float>() + t * heads, heads);
    }
  });
  return gates;
}

Tensor gated_delta_rule(Context& ctx, const Tensor& qkv, const DeltaGates& gates, Tensor& delta_pool, const DeltaShape& shape,
                        const Rows& rows) {
  const Span span(ctx.profiler, "delta rule");
  check_shape(shape);
  WEIR_CHECK(qkv.dtype() == DType::kF32 && qkv.rank() == 2 && qkv.dim(1) == shape.channels(), "qkv ", qkv.shape().str(), " for ",
             shape.channels(), " channels");
  const int64_t tokens = qkv.dim(0);
  for (const Tensor* gate : {&gates.g, &gates.beta})
    WEIR_CHECK(gate->dtype() == DType::kF32 && gate->shape() == (Shape{tokens, shape.v_heads}), "gate ", gate->shape().str(), " for ",
               tokens, " tokens of ", shape.v_heads, " heads");
  check_pool(delta_pool, shape);
  check_rows(rows, tokens);
  check_slots(rows, delta_pool.dim(0));
  const Slots slots(delta_pool, shape);
  for (int64_t r = 0; r < rows.num_rows(); ++r) {
    const int64_t start = row_of(rows, r).start, slot = rows.state_read.data<int32_t>()[r];
    WEIR_CHECK(start == 0 || slots.readable_at(slot, start), "row ", r, " at position ", start, " reads slot ", slot,
               ", which is a state of block ", slots.header(slot).block, " after ", slots.header(slot).end, " tokens");
  }
  if (qkv.device() != DeviceKind::kCpu) not_built("gated_delta_rule", qkv.device());
  Tensor out = ctx.arena.empty({tokens, shape.v_heads * shape.v_dim});
  if (tokens > 0) DeltaStep(ctx, qkv, gates, delta_pool, shape, rows, out).run();
  return out;
}

Tensor delta_state(const Tensor& delta_pool, const DeltaShape& shape, int64_t slot, int64_t position) {
  check_shape(shape);
  check_pool(delta_pool, shape);
  WEIR_CHECK(slot >= 0 && slot < delta_pool.dim(0) && position >= 0, "slot ", slot, " of ", delta_pool.shape().str(), " at position ",
             position);
  Tensor out = Tensor::zeros({shape.v_heads, shape.k_dim, shape.v_dim}, DType::kF32);
  if (position == 0) return out;
  const Slots slots(delta_pool, shape);
  WEIR_CHECK(slots.readable_at(slot, position), "slot ", slot, " read at position ", position, " is a state after ", slots.header(slot).end,
             " tokens");
  const int64_t count = position - slots.header(slot).block;
  Tensor scratch = Tensor::zeros({cpu::delta_scratch_floats(shape.v_dim)}, DType::kF32);
  for (int64_t h = 0; h < shape.v_heads; ++h) {
    float* const to = out.data<float>() + h * shape.k_dim * shape.v_dim;
    const int64_t elements = shape.k_dim * shape.v_dim;
    if (slots.narrow())
      cpu::elementwise_kernels(cpu::active_isa()).widen_bf16(slots.narrow_state(slot, h), to, elements);
    else
      std::memcpy(to, slots.state(slot, h), bytes(elements));
    if (count == 0) continue;
    cpu::delta_kernels(cpu::active_isa())
        .fold({shape.k_dim, shape.v_dim, count, slots.keys(slot, h / (shape.v_heads / shape.k_heads)), slots.decays(slot, h),
               slots.updates(slot, h), to, to, shape.v_dim, scratch.data<float>()});
  }
  return out;
}

}  // namespace weir::ops
