#include "weir/ops/attention.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "weir/kernels/cpu/attention.h"
#include "weir/kernels/cpu/elementwise.h"
#include "weir/kernels/cpu/isa.h"
#include "weir/ops/not_built.h"

namespace weir::ops {
namespace {

using cpu::kPageTokens;
using cpu::kSegmentTokens;

constexpr int64_t kSegmentPages = kSegmentTokens / kPageTokens;
constexpr int64_t kTileQueries = 48;  // queries that walk the keys together: 48 x 256 scores stay in the L2 cache

// A pool's geometry in elements.
struct Pages {
  explicit Pages(const Tensor& pool)
      : kv_heads(pool.dim(2)), row(pool.dim(4)), dim(pool.dtype() == DType::kI8 ? row - int64_t{sizeof(float)} : row) {}
  int64_t kv_heads, row, dim;  // row: with its scale, if it has one
  int64_t head() const { return kPageTokens * row; }
  int64_t stride() const { return 2 * kv_heads * head(); }
  int64_t keys(int64_t kv_head) const { return kv_head * head(); }
  int64_t values(int64_t kv_head) const { return (kv_heads + kv_head) * head(); }
};

void check_pool(const Tensor& pool) {
  WEIR_CHECK(pool.rank() == 5 && pool.dim(1) == 2 && pool.dim(3) == kPageTokens && pool.dense(), "kv pool ", pool.shape().str());
  WEIR_CHECK(pool.dtype() == DType::kF32 || pool.dtype() == DType::kBF16 || pool.dtype() == DType::kI8, "kv pool of ", name(pool.dtype()));
}

const int32_t* pages_of(const Rows& rows, int64_t r) { return rows.page_table.data<int32_t>() + r * rows.page_table.row_stride(); }

// A tile: neighbouring tokens of a row, all query heads of one kv head.
struct Tile {
  int64_t row, kv_head, token, count;  // token: relative to the row
};

// Running results of a tile's queries and scratch for one segment at a time.
struct Partial {
  float *out, *max, *sum;
};

constexpr int64_t aligned(int64_t floats) { return (floats + 15) / 16 * 16; }  // whole cache lines

class AttentionStep {
 public:
  AttentionStep(Context& ctx, const Tensor& q, const Tensor& pool, const Rows& rows, float scale, Tensor& out)
      : ctx_(ctx),
        q_(q),
        pool_(pool),
        rows_(rows),
        scale_(scale),
        out_(out),
        pages_(pool),
        group_(q.dim(1) / pages_.kv_heads),
        tile_tokens_(std::max<int64_t>(1, kTileQueries / group_)),
        kernels_(cpu::attention_kernels(cpu::active_isa())),
        elementwise_(cpu::elementwise_kernels(cpu::active_isa())) {}

  void run() {
    const Arena::Scope scope(ctx_.arena);
    make_tiles();
    const int64_t threads = ctx_.pool.size();
    int64_t most_segments = 0, work = 0;
    for (int64_t i = 0; i < num_tiles_; ++i) {
      most_segments = std::max(most_segments, segments(tiles_[i]));
      work += queries(tiles_[i]) * segments(tiles_[i]) * kSegmentTokens * pages_.dim;
    }
    if (threads > 1 && num_tiles_ < 2 * threads && most_segments > 1) return by_segments(most_segments);
    const int64_t needed = partial_floats() + worker_floats();
    float* memory = ctx_.arena.empty({threads, needed}).data<float>();
    const auto item = [&](int64_t i, int thread) { whole_tile(tiles_[i], memory + thread * needed); };
    if (work < 300'000) {  // multiply-adds: less than waking the threads costs
      for (int64_t i = 0; i < num_tiles_; ++i) item(i, 0);
    } else {
      ctx_.pool.parallel_items(num_tiles_, item);
    }
  }

 private:
  int64_t queries(const Tile& tile) const { return tile.count * group_; }
  int64_t keys_of(const Tile& tile) const { return row_of(rows_, tile.row).start + tile.token + tile.count; }  // seen by the last token
  int64_t segments(const Tile& tile) const { return (keys_of(tile) + kSegmentTokens - 1) / kSegmentTokens; }

  void make_tiles() {
    for (int64_t r = 0; r < rows_.num_rows(); ++r) {
      const int64_t count = row_of(rows_, r).count;
      num_tiles_ += (count + tile_tokens_ - 1) / tile_tokens_ * pages_.kv_heads;
      max_queries_ = std::max(max_queries_, std::min(count, tile_tokens_) * group_);
    }
    tiles_ = static_cast<Tile*>(ctx_.arena.bytes(static_cast<size_t>(num_tiles_) * sizeof(Tile)));
    Tile* next = tiles_;
    for (int64_t r = 0; r < rows_.num_rows(); ++r) {
      const int64_t count = row_of(rows_, r).count;
      for (int64_t t = 0; t < count; t += tile_tokens_)
        for (int64_t h = 0; h < pages_.kv_heads; ++h) *next++ = Tile{r, h, t, std::min(tile_tokens_, count - t)};
    }
  }

  int64_t partial_floats() const { return aligned(max_queries_ * pages_.dim) + aligned(2 * max_queries_); }
  Partial partial_at(float* memory) const {
    float* const max = memory + aligned(max_queries_ * pages_.dim);
    return {memory, max, max + max_queries_};
  }

  // What a thread needs for one segment.
  struct Worker {
    float *packed, *scratch, *result;
    int32_t* limits;
  };
  int64_t scratch_floats() const { return cpu::attention_scratch_floats(max_queries_, pages_.dim, pool_.dtype() == DType::kI8); }
  int64_t worker_floats() const { return aligned(max_queries_ * pages_.dim) + scratch_floats() + partial_floats() + aligned(max_queries_); }
  Worker worker_at(float* memory) const {
    Worker w{};
    w.packed = memory;
    w.scratch = w.packed + aligned(max_queries_ * pages_.dim);
    w.result = w.scratch + scratch_floats();
    w.limits = reinterpret_cast<int32_t*>(w.result + partial_floats());
    return w;
  }

  void pack(const Tile& tile, float* packed) const {
    const int64_t n = group_ * pages_.dim;  // a token's heads of one kv head follow each other
    for (int64_t t = 0; t < tile.count; ++t) {
      const float* from =
          q_.data<float>() + ((row_of(rows_, tile.row).token + tile.token + t) * q_.dim(1) + tile.kv_head * group_) * pages_.dim;
      if (pool_.dtype() != DType::kF32) {
        elementwise_.round_bf16(from, reinterpret_cast<uint16_t*>(packed) + t * n, n);
      } else {
        std::memcpy(packed + t * n, from, static_cast<size_t>(n) * sizeof(float));
      }
    }
  }

  void segment(const Tile& tile, int64_t index, const Worker& worker, const Partial& result) const {
    const int64_t first = row_of(rows_, tile.row).start + tile.token - index * kSegmentTokens;
    for (int64_t t = 0; t < tile.count; ++t)
      std::fill_n(worker.limits + t * group_, group_, static_cast<int32_t>(std::clamp<int64_t>(first + t + 1, 0, kSegmentTokens)));
    cpu::AttentionSegment s{};
    s.num_queries = queries(tile), s.dim = pages_.dim;
    s.queries = worker.packed, s.limits = worker.limits;
    s.pool = pool_.raw(), s.pages = pages_of(rows_, tile.row) + index * kSegmentPages, s.page_stride = pages_.stride();
    s.next_pages = std::clamp<int64_t>((keys_of(tile) - 1) / kPageTokens + 1 - (index + 1) * kSegmentPages, 0, kSegmentPages);
    s.keys = pages_.keys(tile.kv_head), s.values = pages_.values(tile.kv_head);
    s.scale = scale_;
    s.max = result.max, s.sum = result.sum, s.out = result.out, s.scratch = worker.scratch;
    switch (pool_.dtype()) {
      case DType::kBF16: return kernels_.segment_bf16(s);
      case DType::kI8: return kernels_.segment_i8(s);
      default: return kernels_.segment_f32(s);
    }
  }

  void start(const Tile& tile, const Partial& running) const {
    std::fill_n(running.max, queries(tile), -std::numeric_limits<float>::infinity());
    std::fill_n(running.sum, queries(tile), 0.0f);
    std::fill_n(running.out, queries(tile) * pages_.dim, 0.0f);
  }

  // Segments that begin behind a query's own position hold nothing for it and are left out, so it merges what it would merge alone.
  void merge(const Tile& tile, int64_t index, const Partial& running, const Partial& result) const {
    const int64_t position = row_of(rows_, tile.row).start + tile.token;
    for (int64_t m = std::max<int64_t>(0, index * kSegmentTokens - position) * group_; m < queries(tile); ++m)
      kernels_.merge(running.max + m, running.sum + m, running.out + m * pages_.dim, result.max[m], result.sum[m],
                     result.out + m * pages_.dim, pages_.dim);
  }

  void finish(const Tile& tile, const Partial& running) const {
    const int64_t n = pages_.dim;
    for (int64_t m = 0; m < queries(tile); ++m) {
      const int64_t token = row_of(rows_, tile.row).token + tile.token + m / group_, head = tile.kv_head * group_ + m % group_;
      float* out = out_.data<float>() + (token * q_.dim(1) + head) * n;
      for (int64_t d = 0; d < n; ++d) out[d] = running.out[m * n + d] / running.sum[m];
    }
  }

  void whole_tile(const Tile& tile, float* memory) const {
    const Partial running = partial_at(memory);
    const Worker worker = worker_at(memory + partial_floats());
    start(tile, running);
    pack(tile, worker.packed);
    for (int64_t i = 0; i < segments(tile); ++i) {
      segment(tile, i, worker, partial_at(worker.result));
      merge(tile, i, running, partial_at(worker.result));
    }
    finish(tile, running);
  }

  // Few tiles over long contexts (decode): threads share the segments of a tile. In waves, so that the memory for results that wait to be
  // merged does not grow with the context; merged in the order of segments, so the bits are those of whole_tile.
  void by_segments(int64_t most_segments) {
    const int64_t threads = ctx_.pool.size(), wave = std::min(most_segments, (4 * threads + num_tiles_ - 1) / num_tiles_);
    const int64_t partial = partial_floats(), needed = worker_floats();
    float* const running = ctx_.arena.empty({num_tiles_, partial}).data<float>();
    float* const results = ctx_.arena.empty({num_tiles_ * wave, partial}).data<float>();
    float* const memory = ctx_.arena.empty({threads, needed}).data<float>();
    for (int64_t i = 0; i < num_tiles_; ++i) start(tiles_[i], partial_at(running + i * partial));
    for (int64_t first = 0; first < most_segments; first += wave) {
      ctx_.pool.parallel_items(num_tiles_ * wave, [&](int64_t item, int thread) {
        const Tile& tile = tiles_[item / wave];
        const int64_t index = first + item % wave;
        if (index >= segments(tile)) return;
        const Worker worker = worker_at(memory + thread * needed);
        pack(tile, worker.packed);
        segment(tile, index, worker, partial_at(results + item * partial));
      });
      for (int64_t i = 0; i < num_tiles_; ++i)
        for (int64_t index = first; index < std::min(first + wave, segments(tiles_[i])); ++index)
          merge(tiles_[i], index, partial_at(running + i * partial), partial_at(results + (i * wave + index - first) * partial));
    }
    for (int64_t i = 0; i < num_tiles_; ++i) finish(tiles_[i], partial_at(running + i * partial));
  }

  Context& ctx_;
  const Tensor &q_, &pool_;
  const Rows& rows_;
  const float scale_;
  Tensor& out_;
  const Pages pages_;
  const int64_t group_, tile_tokens_;
  const cpu::AttentionKernels& kernels_;
  const cpu::ElementwiseKernels& elementwise_;
  Tile* tiles_ = nullptr;  // in the arena
  int64_t num_tiles_ = 0, max_queries_ = 0;
};

}  // namespace

Tensor make_kv_pool(int64_t pages, int64_t kv_heads, int64_t dim, DType type) {
  if (type != DType::kF32 && type != DType::kBF16 && type != DType::kI8)
    fail(ErrorCode::kInvalidArgument, "kv cache type must be F32, BF16 or I8, got ", name(type));
  if (type != DType::kF32 && dim % 2 != 0)
    fail(ErrorCode::kInvalidArgument, "a ", name(type), " kv cache computes with pairs of elements: head_dim must be even, got ", dim);
  if (type == DType::kI8 && dim > cpu::kMaxAttentionDim)
    fail(ErrorCode::kInvalidArgument, "head_dim must be at most ", cpu::kMaxAttentionDim, " for a kv cache of I8, got ", dim);
  return Tensor::zeros({pages, 2, kv_heads, kPageTokens, kv_head_bytes(dim, type) / element_size(type)}, type);
}

void write_kv(Context& ctx, const Tensor& k, const Tensor& v, Tensor& pool, const Rows& rows) {
  const Span span(ctx.profiler, "store keys and values");
  check_pool(pool);
  const Pages pages(pool);
  const int64_t tokens = k.dim(0);
  WEIR_CHECK(k.dtype() == DType::kF32 && k.rank() == 3 && k.dense() && k.shape() == (Shape{tokens, pages.kv_heads, pages.dim}), "k ",
             k.shape().str(), " for pool ", pool.shape().str());
  WEIR_CHECK(v.dtype() == DType::kF32 && v.dim(0) == tokens && v.numel() == k.numel(), "v ", v.shape().str(), " for k ", k.shape().str());
  check_rows(rows, tokens);
  check_pages(rows, pool.dim(0), kPageTokens);
  if (pool.device() != DeviceKind::kCpu) not_built("write_kv", pool.device());

  int64_t num_pages = 0;
  const auto pages_in = [](const Row& row) { return (row.end() - 1) / kPageTokens - row.start / kPageTokens + 1; };
  for (int64_t r = 0; r < rows.num_rows(); ++r) num_pages += pages_in(row_of(rows, r));
  const int64_t elements = 2 * pages.kv_heads * pages.dim * std::max<int64_t>(1, tokens / std::max<int64_t>(1, num_pages));
  // A page is written by one thread: two tokens of it may share a word.
  ctx.pool.parallel_for(num_pages, std::max<int64_t>(1, 8'192 / elements), [&](int64_t begin, int64_t end, int) {
    int64_t before = 0;  // pages of the rows so far
    for (int64_t r = 0; r < rows.num_rows() && before < end; ++r) {
      const Row row = row_of(rows, r);
      const int64_t count = pages_in(row), first_page = row.start / kPageTokens;
      for (int64_t i = std::max<int64_t>(0, begin - before); i < std::min(count, end - before); ++i) {
        const int64_t from = std::max(row.start, (first_page + i) * kPageTokens),
                      to = std::min(row.end(), (first_page + i + 1) * kPageTokens);
        const int64_t page = pages_of(rows, r)[first_page + i] * pages.stride(), token = row.token + from - row.start;
        for (int64_t h = 0; h < pages.kv_heads; ++h) {
          const float* k_from = k.data<float>() + token * k.row_stride() + h * pages.dim;
          const float* v_from = v.data<float>() + token * v.row_stride() + h * pages.dim;
          if (pool.dtype() == DType::kI8) {
            auto* base = pool.data<int8_t>() + page;
            cpu::store_kv_i8(k_from, k.row_stride(), v_from, v.row_stride(), from % kPageTokens, to - from, pages.dim, base + pages.keys(h),
                             base + pages.values(h));
          } else if (pool.dtype() == DType::kBF16) {
            auto* base = pool.data<uint16_t>() + page;
            cpu::store_kv_bf16(k_from, k.row_stride(), v_from, v.row_stride(), from % kPageTokens, to - from, pages.dim,
                               base + pages.keys(h), base + pages.values(h));
          } else {
            auto* base = pool.data<float>() + page;
            cpu::store_kv_f32(k_from, k.row_stride(), v_from, v.row_stride(), from % kPageTokens, to - from, pages.dim,
                              base + pages.keys(h), base + pages.values(h));
          }
        }
      }
      before += count;
    }
  });
}

Tensor paged_attention(Context& ctx, const Tensor& q, const Tensor& pool, const Rows& rows, float scale) {
  const Span span(ctx.profiler, "attention");
  check_pool(pool);
  const Pages pages(pool);
  WEIR_CHECK(
      q.dtype() == DType::kF32 && q.rank() == 3 && q.dense() && q.dim(1) >= 1 && q.dim(1) % pages.kv_heads == 0 && q.dim(2) == pages.dim,
      "q ", q.shape().str(), " for pool ", pool.shape().str());
  check_rows(rows, q.dim(0));
  check_pages(rows, pool.dim(0), kPageTokens);
  if (q.device() != DeviceKind::kCpu) not_built("paged_attention", q.device());
  Tensor out = ctx.arena.empty({q.dim(0), q.dim(1) * pages.dim});
  if (q.dim(0) > 0) AttentionStep(ctx, q, pool, rows, scale, out).run();
  return out;
}

}  // namespace weir::ops
