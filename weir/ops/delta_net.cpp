#include "weir/ops/delta_net.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "weir/kernels/cpu/delta.h"
#include "weir/kernels/cpu/elementwise.h"
#include "weir/kernels/cpu/isa.h"
#include "weir/ops/delta_net_conv.h"
#include "weir/ops/not_built.h"

namespace weir::ops {
namespace {

static_assert(kDeltaBlock == cpu::kMaxDeltaBlock);

constexpr int64_t kNoSlot = -1;  // of a state that is zeros, at the beginning of a sequence

size_t bytes(int64_t floats) { return static_cast<size_t>(floats) * sizeof(float); }

// What a slot says of itself: its state is the one before token `block`, its log goes up to token `end`.
struct SlotHeader {
  int32_t block, end;
};

// Where the parts of a slot lie.
struct Slots {
  Slots(const Tensor& pool, const DeltaShape& s)
      : pool_floats(static_cast<float*>(const_cast<void*>(pool.raw()))),
        shape(s),
        state_type(pool.dtype()),
        kernels(cpu::delta_kernels(cpu::active_isa(), s.k_dim, s.v_dim)) {}
  float* pool_floats;
  const DeltaShape& shape;
  DType state_type;
  const cpu::DeltaKernels& kernels;
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
  bool widened() const { return narrow() && !kernels.tiled(); }  // a state in BF16 rows is computed with in F32
  // Of a head, from a column on: the first of a panel where states are tiled.
  std::byte* state(int64_t slot, int64_t v_head, int64_t column) const {
    const int64_t at = v_head * shape.k_dim * shape.v_dim + (kernels.tiled() ? shape.k_dim : 1) * column;
    return reinterpret_cast<std::byte*>(begin(slot) + kSlotHeaderFloats) + at * element_size(state_type);
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

// One call of delta_net on the CPU: every head of every row from the projection's columns to what is gated; then the logs and the inputs of
// the convolution. Those wait for all heads because they read the old ones of the same slot.
class DeltaStep {
 public:
  DeltaStep(Context& ctx, const Tensor& projection, const DeltaNet& net, const DeltaGates& gates, Tensor& conv_pool, Tensor& delta_pool,
            const Rows& rows, Tensor& out)
      : ctx_(ctx),
        net_(net),
        shape_(net.shape),
        z_(projection.data<float>() + shape_.channels()),
        projection_stride_(projection.row_stride()),
        gates_(gates),
        rows_(rows),
        slots_(delta_pool, shape_),
        conv_(projection.columns(0, shape_.channels()), net.conv, conv_pool, rows, std::max(shape_.k_dim, shape_.v_dim), ctx.arena),
        tokens_(projection.dim(0)),
        group_(shape_.v_heads / shape_.k_heads),
        out_(out.data<float>()),
        elementwise_(cpu::elementwise_kernels(cpu::active_isa())),
        delta_(slots_.kernels) {}

  void run() {
    run_heads();
    if (!whole_heads_)
      ctx_.pool.parallel_for(tokens_ * shape_.v_heads, min_items(shape_.v_dim, 16'384), [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
          float* const o = result(i / shape_.v_heads, i % shape_.v_heads);
          gate(o, i / shape_.v_heads, i % shape_.v_heads, o);
        }
      });
    ctx_.pool.parallel_for(rows_.num_rows() * shape_.k_heads, min_items(kDeltaBlock * shape_.k_dim, 65'536),
                           [&](int64_t begin, int64_t end, int) {
                             for (int64_t i = begin; i < end; ++i) store_inputs(i / shape_.k_heads, i % shape_.k_heads);
                           });
  }

 private:
  // Items per thread that outweigh waking one.
  static int64_t min_items(int64_t cost, int64_t worth) { return std::max<int64_t>(1, worth / std::max<int64_t>(1, cost)); }

  int32_t read_slot(int64_t r) const { return rows_.state_read.data<int32_t>()[r]; }
  int32_t write_slot(int64_t r) const { return rows_.state_write.data<int32_t>()[r]; }

  const float* z(int64_t t, int64_t v_head) const { return z_ + t * projection_stride_ + v_head * shape_.v_dim; }
  float* result(int64_t t, int64_t v_head) const { return out_ + t * shape_.values() + v_head * shape_.v_dim; }

  // What one thread computes at a time: columns [column, column + width) of value heads [head, head + heads), which share a key head.
  struct Item {
    int64_t row, head, heads, column, width;
  };

  // Where the channels of a head begin.
  int64_t query_channel(int64_t k_head) const { return k_head * shape_.k_dim; }
  int64_t key_channel(int64_t k_head) const { return (shape_.k_heads + k_head) * shape_.k_dim; }
  int64_t value_channel(int64_t v_head) const { return 2 * shape_.k_heads * shape_.k_dim + v_head * shape_.v_dim; }

  // Of tokens [position, position + count) of row r, rows of k_dim. The channels that are convolved next are asked for meanwhile.
  void make_keys(int64_t r, const Row& row, int64_t position, int64_t count, int64_t k_head, int64_t next_channel, float* keys) const {
    conv_.tokens(r, row, position, count, key_channel(k_head), shape_.k_dim, keys, position, next_channel);
    normalise(keys, count, 1.0f);
  }
  void make_queries(int64_t r, const Row& row, int64_t position, int64_t count, int64_t k_head, float* queries) const {
    conv_.tokens(r, row, position, count, query_channel(k_head), shape_.k_dim, queries, position, key_channel(k_head));
    normalise(queries, count, 1.0f / std::sqrt(static_cast<float>(shape_.k_dim)));
  }
  void normalise(float* x, int64_t count, float scale) const {
    for (int64_t i = 0; i < count; ++i, x += shape_.k_dim) elementwise_.l2_normalise(x, x, shape_.k_dim, scale);
  }
  // An item's columns of head h. Next are the next head's or, behind the last one, the next block's queries.
  void make_values(const Item& item, const Row& row, int64_t position, int64_t count, int64_t h, float* values) const {
    const bool is_last = h + 1 == item.head + item.heads;
    conv_.tokens(item.row, row, position, count, value_channel(h) + item.column, item.width, values, is_last ? position + count : position,
                 is_last ? query_channel(h / group_) : value_channel(h + 1) + item.column);
  }

  // Token t's output of a head, from what the rule made of it; y may be o.
  void gate(const float* o, int64_t t, int64_t v_head, float* y) const {
    elementwise_.rms_norm_gated(o, net_.norm.data<float>(), z(t, v_head), y, shape_.v_dim, net_.eps);
  }

  // Entries [num_old, num_old + count) of a block's Γ, from tokens [t, t + count).
  void sum_decays(int64_t t, int64_t num_old, int64_t count, int64_t v_head, float* decays) const {
    const float* g = gates_.g.data<float>() + t * shape_.v_heads + v_head;
    for (int64_t i = num_old; i < num_old + count; ++i, g += shape_.v_heads) decays[i] = i == 0 ? *g : decays[i - 1] + *g;
  }

  // Into how many parts `items` are split to make at least `wanted`.
  static int64_t parts_for(int64_t wanted, int64_t items, int64_t limit) {
    return std::clamp<int64_t>((wanted + items - 1) / std::max<int64_t>(1, items), 1, limit);
  }

  // Value heads share what is computed of their key head, unless that makes too few items for the threads. Columns of a state are
  // independent: when heads are too few as well, each is split.
  void run_heads() {
    const int64_t threads = ctx_.pool.size(), groups = rows_.num_rows() * shape_.k_heads;
    const int64_t splits = parts_for(3 * threads, groups, group_), heads = (group_ + splits - 1) / splits;
    const int64_t wanted = std::clamp<int64_t>(threads / std::max<int64_t>(1, groups * splits), 1, 4);
    const int64_t least_width = delta_.tiled() ? cpu::kDeltaPanel : 32;
    const int64_t width = (shape_.v_dim + least_width * wanted - 1) / (least_width * wanted) * least_width;
    const int64_t parts = (shape_.v_dim + width - 1) / width;
    whole_heads_ = parts == 1;
    const int64_t floats = scratch_floats(heads, std::min(width, shape_.v_dim));
    const Arena::Scope scope(ctx_.arena);
    const Tensor scratch = ctx_.arena.empty({threads, floats});
    const auto item = [&](int64_t i, int thread) {
      const int64_t part = i % parts, split = i / parts % splits, group = i / parts / splits;
      const int64_t first = group % shape_.k_heads * group_, head = first + split * heads, column = part * width;
      run_item({group / shape_.k_heads, head, std::min(heads, first + group_ - head), column, std::min(width, shape_.v_dim - column)},
               scratch.data<float>() + thread * floats);
    };
    const int64_t items = groups * splits * parts;
    const int64_t least = min_items(2 * heads * shape_.k_dim * std::min(width, shape_.v_dim), 65'536);
    if (tokens_ == rows_.num_rows() || tokens_ * shape_.k_heads * splits <= least) {  // equal items
      ctx_.pool.parallel_for(items, least, [&](int64_t begin, int64_t end, int thread) {
        for (int64_t i = begin; i < end; ++i) item(i, thread);
      });
    } else {
      ctx_.pool.parallel_items(items, item);
    }
  }

  struct Scratch {
    float *k_k, *q_k;       // dot products of the block's tokens
    float *keys, *queries;  // [kDeltaBlock, k_dim]
    uint16_t* halves;       // the kernels', of keys and queries
    float *values, *out;    // [kDeltaBlock, width] of one head
    float *decays, *betas;  // [heads, kDeltaBlock]
    float* widened;         // [k_dim, v_dim] of a narrow state
    float* kernel;
  };
  int64_t scratch_floats(int64_t heads, int64_t width) const {
    return 2 * kDeltaBlock * (kDeltaBlock + shape_.k_dim + heads) + cpu::delta_halves(shape_.k_dim) / 2 + 2 * kDeltaBlock * width +
           (slots_.widened() ? shape_.k_dim * shape_.v_dim : 0) + cpu::delta_scratch_floats(width);
  }
  Scratch scratch_at(float* p, int64_t heads, int64_t width) const {
    const auto take = [&](int64_t floats) { return std::exchange(p, p + floats); };
    Scratch s{};
    s.k_k = take(kDeltaBlock * kDeltaBlock), s.q_k = take(kDeltaBlock * kDeltaBlock);
    s.keys = take(kDeltaBlock * shape_.k_dim), s.queries = take(kDeltaBlock * shape_.k_dim);
    s.halves = reinterpret_cast<uint16_t*>(take(cpu::delta_halves(shape_.k_dim) / 2));
    s.values = take(kDeltaBlock * width), s.out = take(kDeltaBlock * width);
    s.decays = take(kDeltaBlock * heads), s.betas = take(kDeltaBlock * heads);
    s.widened = take(slots_.widened() ? shape_.k_dim * shape_.v_dim : 0);
    s.kernel = p;
    return s;
  }

  void run_item(const Item& item, float* scratch_floats) const {
    const Row row = row_of(rows_, item.row);
    const Scratch scratch = scratch_at(scratch_floats, item.heads, item.width);
    const int64_t write = write_slot(item.row);
    int64_t num_old = row.start % kDeltaBlock;
    int64_t state_slot = row.start == 0 ? kNoSlot : read_slot(item.row);  // where the state before the block is
    if (num_old > 0) {
      take_log(item, row, num_old, scratch);
    } else if (state_slot != kNoSlot && slots_.header(state_slot).block < row.start) {  // else the slot has seen tokens behind row.start
      take_decays(item, state_slot, kDeltaBlock, scratch);
      fold(item, state_slot, state_slot, slots_.keys(state_slot, item.head / group_), scratch);
      state_slot = write;
    }
    for (int64_t done = 0;;) {
      const int64_t count = std::min(kDeltaBlock - num_old, row.count - done);
      run_block(item, row, row.start + done, count, state_slot, scratch);
      take_snapshots(item, row, row.start + done - num_old, state_slot);
      done += count;
      if (done == row.count) break;
      fold(item, state_slot, write, scratch.keys, scratch);
      state_slot = write, num_old = 0;
    }
    for (int64_t h = item.head; h < item.head + item.heads && state_slot != write; ++h) copy_state(item, h, state_slot, write);
  }

  void take_decays(const Item& item, int64_t slot, int64_t count, const Scratch& scratch) const {
    for (int64_t i = 0; i < item.heads; ++i)
      std::memcpy(scratch.decays + i * kDeltaBlock, slots_.decays(slot, item.head + i), bytes(count));
  }

  // The entries of a block that the row continues.
  void take_log(const Item& item, const Row& row, int64_t num_old, const Scratch& scratch) const {
    const int64_t read = read_slot(item.row), write = write_slot(item.row);
    take_decays(item, read, num_old, scratch);
    if (row.count > 1)  // the kernel and the fold want the keys in one piece
      std::memcpy(scratch.keys, slots_.keys(read, item.head / group_), bytes(num_old * shape_.k_dim));
    for (int64_t h = item.head; h < item.head + item.heads && read != write; ++h)
      copy_columns(slots_.updates(read, h) + item.column, slots_.updates(write, h) + item.column, num_old, item.width);
  }

  // Tokens [position, position + count) of a row, which lie in one block whose keys up to there are in scratch, or in the slot for a row of
  // one.
  void run_block(const Item& item, const Row& row, int64_t position, int64_t count, int64_t state_slot, const Scratch& scratch) const {
    const int64_t num_old = position % kDeltaBlock, t = row.token + position - row.start, k_head = item.head / group_, k_dim = shape_.k_dim;
    const bool alone = row.count == 1;
    const int64_t before = position < kDeltaBlock ? kNoSlot : state_slot;  // the first block's are zeros, not worth reading
    const float* const old_keys = alone && num_old > 0 ? slots_.keys(state_slot, k_head) : scratch.keys;
    float* const keys = alone ? scratch.keys : scratch.keys + num_old * k_dim;
    make_queries(item.row, row, position, count, k_head, scratch.queries);
    make_keys(item.row, row, position, count, k_head, value_channel(item.head) + item.column, keys);
    delta_.dots({k_dim, num_old, count, old_keys, keys, scratch.queries, scratch.k_k, scratch.q_k, scratch.halves});
    for (int64_t i = 0; i < item.heads; ++i) {
      const int64_t h = item.head + i;
      float *const decays = scratch.decays + i * kDeltaBlock, *const betas = scratch.betas + i * kDeltaBlock;
      sum_decays(t, num_old, count, h, decays);
      const float* const beta = gates_.beta.data<float>() + t * shape_.v_heads + h;
      for (int64_t j = 0; j < count; ++j) betas[j] = beta[j * shape_.v_heads];
      cpu::DeltaBlock b{};
      b.k_dim = k_dim, b.columns = item.width, b.num_old = num_old, b.num_new = count;
      b.keys = keys, b.queries = scratch.queries, b.k_k = scratch.k_k, b.q_k = scratch.q_k, b.halves = scratch.halves;
      b.next_keys = alone && num_old > 0 && i + 1 == item.heads ? slots_.keys(state_slot, k_head + 1) : old_keys;
      b.decays = decays, b.betas = betas;
      make_values(item, row, position, count, h, scratch.values);
      b.values = scratch.values, b.values_stride = item.width;
      b.state = load_state(item, h, before, scratch.widened), b.narrow = slots_.narrow(), b.stride = shape_.v_dim;
      b.updates = slots_.updates(write_slot(item.row), h) + item.column;
      b.out = scratch.out, b.out_stride = item.width;
      b.wanted = z(t, h) + item.column, b.wanted_stride = projection_stride_;
      b.scratch = scratch.kernel;
      delta_.block(b);
      for (int64_t j = 0; j < count; ++j) {
        const float* const o = scratch.out + j * item.width;
        if (whole_heads_)
          gate(o, t + j, h, result(t + j, h));
        else
          std::memcpy(result(t + j, h) + item.column, o, bytes(item.width));
      }
    }
  }

  // Null for no slot.
  const void* load_state(const Item& item, int64_t h, int64_t slot, float* widened) const {
    if (slot == kNoSlot) return nullptr;
    const std::byte* const state = slots_.state(slot, h, item.column);
    if (!slots_.widened()) return state;
    const auto* from = reinterpret_cast<const uint16_t*>(state);
    for (int64_t c = 0; c < shape_.k_dim; ++c) elementwise_.widen_bf16(from + c * shape_.v_dim, widened + c * shape_.v_dim, item.width);
    return widened;
  }

  // The log of a whole block into the states, which move to the write slot.
  void fold(const Item& item, int64_t state_slot, int64_t log_slot, const float* log_keys, const Scratch& scratch) const {
    const int64_t write = write_slot(item.row), stride = shape_.v_dim;
    const void* const keys = delta_.fold_keys(log_keys, shape_.k_dim, scratch.halves);
    for (int64_t i = 0; i < item.heads; ++i) {
      const int64_t h = item.head + i;
      std::byte* const state = slots_.state(write, h, item.column);
      void* const to = slots_.widened() ? static_cast<void*>(scratch.widened) : state;
      delta_.fold({shape_.k_dim, item.width, kDeltaBlock, keys, scratch.decays + i * kDeltaBlock, slots_.updates(log_slot, h) + item.column,
                   load_state(item, h, state_slot, scratch.widened), to, slots_.narrow(), stride, scratch.kernel});
      if (!slots_.widened()) continue;
      auto* const rounded = reinterpret_cast<uint16_t*>(state);
      for (int64_t c = 0; c < shape_.k_dim; ++c) elementwise_.round_bf16(scratch.widened + c * stride, rounded + c * stride, item.width);
    }
  }

  // Those of the block, whose state is in state_slot.
  void take_snapshots(const Item& item, const Row& row, int64_t block, int64_t state_slot) const {
    for (int64_t s = 0; s < rows_.snapshots.dim(0); ++s) {
      const auto* snapshot = rows_.snapshots.data<int32_t>() + 3 * s;
      if (snapshot[0] != item.row || block_start(snapshot[1]) != block || snapshot[1] <= row.start) continue;
      for (int64_t h = item.head; h < item.head + item.heads; ++h) {
        copy_state(item, h, state_slot, snapshot[2]);
        copy_columns(slots_.updates(write_slot(item.row), h) + item.column, slots_.updates(snapshot[2], h) + item.column,
                     snapshot[1] - block, item.width);
      }
    }
  }

  // An item's columns of head h; zeros from no slot.
  void copy_state(const Item& item, int64_t h, int64_t from, int64_t to) const {
    const int64_t element = element_size(slots_.state_type), row = shape_.v_dim * element, width = item.width * element;
    const int64_t pieces = delta_.tiled() ? 1 : shape_.k_dim;
    const auto size = static_cast<size_t>(shape_.k_dim / pieces * width);
    for (int64_t i = 0; i < pieces; ++i) {
      std::byte* const out = slots_.state(to, h, item.column) + i * row;
      if (from == kNoSlot)
        std::memset(out, 0, size);
      else
        std::memcpy(out, slots_.state(from, h, item.column) + i * row, size);
    }
  }
  void copy_columns(const float* from, float* to, int64_t rows, int64_t width) const {
    for (int64_t i = 0; i < rows; ++i) std::memcpy(to + i * shape_.v_dim, from + i * shape_.v_dim, bytes(width));
  }

  // Keys of k_head and decays of its value heads into the logs, then what the convolution read for these heads. Snapshots first: they may
  // need log entries that the row's own slot now drops.
  void store_inputs(int64_t r, int64_t k_head) {
    const Row row = row_of(rows_, r);
    for (int64_t s = 0; s < rows_.snapshots.dim(0); ++s) {
      const auto* snapshot = rows_.snapshots.data<int32_t>() + 3 * s;
      if (snapshot[0] == r) store_log(r, row, k_head, snapshot[1], snapshot[2]);
    }
    store_log(r, row, k_head, row.end(), write_slot(r));
    conv_.store(r, row, query_channel(k_head), shape_.k_dim);
    conv_.store(r, row, key_channel(k_head), shape_.k_dim);
    conv_.store(r, row, value_channel(k_head * group_), group_ * shape_.v_dim);
  }

  // The log as of `position`: entries of tokens before the row from its read slot, the others from this step.
  void store_log(int64_t r, const Row& row, int64_t k_head, int64_t position, int64_t slot) {
    const int64_t block = block_start(position), first_new = std::max(block, row.start), num_old = first_new - block;
    const int64_t count = position - first_new, t = row.token + first_new - row.start;
    const bool copy_old = num_old > 0 && read_slot(r) != slot;
    if (k_head == 0) slots_.set_header(slot, {static_cast<int32_t>(block), static_cast<int32_t>(position)});
    float* keys = slots_.keys(slot, k_head);
    if (copy_old) std::memcpy(keys, slots_.keys(read_slot(r), k_head), bytes(num_old * shape_.k_dim));
    make_keys(r, row, first_new, count, k_head, query_channel(k_head), keys + num_old * shape_.k_dim);
    for (int64_t h = k_head * group_; h < (k_head + 1) * group_; ++h) {
      float* decays = slots_.decays(slot, h);
      if (copy_old) std::memcpy(decays, slots_.decays(read_slot(r), h), bytes(num_old));
      sum_decays(t, num_old, count, h, decays);
    }
  }

  Context& ctx_;
  const DeltaNet& net_;
  const DeltaShape& shape_;
  const float* const z_;
  const int64_t projection_stride_;
  const DeltaGates& gates_;
  const Rows& rows_;
  const Slots slots_;
  const DeltaNetConv conv_;
  const int64_t tokens_, group_;
  float* const out_;
  const cpu::ElementwiseKernels& elementwise_;
  const cpu::DeltaKernels& delta_;
  bool whole_heads_ = true;  // an item has all columns of its heads
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

Tensor delta_net(Context& ctx, const Tensor& projection, const DeltaNet& net, Tensor& conv_pool, Tensor& delta_pool, const Rows& rows) {
  const Span span(ctx.profiler, "delta net");
  const DeltaShape& shape = net.shape;
  check_shape(shape);
  const int64_t tokens = projection.dim(0), gates_begin = shape.channels() + shape.values();
  WEIR_CHECK(projection.dtype() == DType::kF32 && projection.rank() == 2 && projection.dim(1) == gates_begin + 2 * shape.v_heads,
             "projection ", projection.shape().str(), " for ", shape.channels(), " channels, ", shape.values(), " values and ",
             shape.v_heads, " heads");
  WEIR_CHECK(net.norm.dtype() == DType::kF32 && net.norm.dense() && net.norm.rank() == 1 && net.norm.dim(0) == shape.v_dim, "norm ",
             net.norm.shape().str(), " for heads of ", shape.v_dim);
  check_pool(delta_pool, shape);
  check_rows(rows, tokens);
  check_slots(rows, delta_pool.dim(0));
  const Slots slots(delta_pool, shape);
  for (int64_t r = 0; r < rows.num_rows(); ++r) {
    const int64_t start = row_of(rows, r).start, slot = rows.state_read.data<int32_t>()[r];
    WEIR_CHECK(start == 0 || slots.readable_at(slot, start), "row ", r, " at position ", start, " reads slot ", slot,
               ", which is a state of block ", slots.header(slot).block, " after ", slots.header(slot).end, " tokens");
  }
  if (projection.device() != DeviceKind::kCpu) not_built("delta_net", projection.device());
  Tensor out = ctx.arena.empty({tokens, shape.values()});
  const Arena::Scope scope(ctx.arena);
  const DeltaGates gates = delta_gates(ctx, projection.columns(gates_begin, gates_begin + 2 * shape.v_heads), net.a_log, net.dt_bias);
  if (tokens > 0) DeltaStep(ctx, projection, net, gates, conv_pool, delta_pool, rows, out).run();
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
    const std::byte* const state = slots.state(slot, h, 0);
    if (slots.kernels.tiled())
      slots.kernels.rows_of(state, slots.narrow(), shape.k_dim, shape.v_dim, to);
    else if (slots.narrow())
      cpu::elementwise_kernels(cpu::active_isa()).widen_bf16(reinterpret_cast<const uint16_t*>(state), to, elements);
    else
      std::memcpy(to, state, bytes(elements));
    if (count == 0) continue;
    cpu::scalar::kDelta.fold({shape.k_dim, shape.v_dim, count, slots.keys(slot, h / (shape.v_heads / shape.k_heads)), slots.decays(slot, h),
                              slots.updates(slot, h), to, to, false, shape.v_dim, scratch.data<float>()});
  }
  return out;
}

}  // namespace weir::ops
