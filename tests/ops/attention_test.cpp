#include "weir/ops/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "elementwise_support.h"

namespace weir::ops {
namespace {

struct Case {
  int64_t heads, kv_heads, dim;
  DType type;
};

struct Inputs {
  Inputs(const Case& c, const std::vector<int32_t>& lengths, uint32_t seed)
      : q(random_sequences(lengths, {c.heads, c.dim}, seed)),
        k(random_sequences(lengths, {c.kv_heads, c.dim}, seed + 50)),
        v(random_sequences(lengths, {c.kv_heads, c.dim}, seed + 90)) {}
  std::vector<Tensor> q, k, v;
};

float scale_of(const Case& c) { return 1.0f / std::sqrt(static_cast<float>(c.dim)); }

// Pages that were used before: whatever they hold must not show.
Tensor dirty_pool(const Case& c, size_t sequences) {
  Tensor pool = make_kv_pool(static_cast<int64_t>(sequences) * kPagesPerSequence, c.kv_heads, c.dim, c.type);
  if (c.type == DType::kI8) {
    std::fill_n(pool.data<int8_t>(), pool.numel(), int8_t{-1});  // scales of NaN, too
  } else if (c.type == DType::kBF16) {
    std::fill_n(pool.data<uint16_t>(), pool.numel(), uint16_t{0x7fc0});
  } else {
    std::fill_n(pool.data<float>(), pool.numel(), std::numeric_limits<float>::quiet_NaN());
  }
  return pool;
}

// Steps before `first_attending` only store their keys and values.
std::vector<Tensor> play(const std::vector<Pieces>& steps, const Inputs& in, const Case& c, Tensor& pool, int threads,
                         size_t first_attending = 0) {
  ThreadPool team(threads, /*pin=*/false);
  Arena arena(size_t{256} << 20);
  Context ctx{team, arena};
  std::vector<Tensor> out;
  for (const Tensor& q : in.q) out.push_back(Tensor::zeros({q.dim(0), c.heads * c.dim}, DType::kF32));
  for (size_t step = 0; step < steps.size(); ++step) {
    arena.reset();
    const Pieces& pieces = steps[step];
    const Rows rows = rows_of(pieces);
    write_kv(ctx, gather(in.k, pieces), gather(in.v, pieces), pool, rows);
    if (step < first_attending) continue;
    scatter(paged_attention(ctx, gather(in.q, pieces), pool, rows, scale_of(c)), pieces, out);
  }
  return out;
}

// Pages of I8 are computed with as BF16.
float rounded(float x, DType type) { return type == DType::kF32 ? x : bf16_to_f32(f32_to_bf16(x)); }

// Keys and values as a pool of the type keeps them.
Tensor stored(const Tensor& x, int64_t dim, DType type) {
  Tensor out = copy_of(x);
  for (int64_t row = 0; row < x.numel() / dim; ++row) {
    float* values = out.data<float>() + row * dim;
    float scale = 0;
    for (int64_t d = 0; d < dim; ++d) scale = std::max(scale, std::abs(values[d]) / 127.0f);
    for (int64_t d = 0; d < dim; ++d) values[d] = rounded(type == DType::kI8 ? std::nearbyint(values[d] / scale) * scale : values[d], type);
  }
  return out;
}

std::vector<double> naive(const Inputs& in, size_t s, const Case& c, int64_t t, int64_t h) {
  const int64_t kv = h / (c.heads / c.kv_heads);
  const Tensor k = stored(in.k[s].rows(0, t + 1), c.dim, c.type), v = stored(in.v[s].rows(0, t + 1), c.dim, c.type);
  std::vector<double> p(static_cast<size_t>(t + 1)), o(static_cast<size_t>(c.dim), 0.0);
  double max = -1e300, sum = 0;
  for (int64_t j = 0; j <= t; ++j) {
    double score = 0;
    for (int64_t d = 0; d < c.dim; ++d)
      score += double(rounded(in.q[s].data<float>()[(t * c.heads + h) * c.dim + d], c.type)) *
               k.data<float>()[(j * c.kv_heads + kv) * c.dim + d];
    p[static_cast<size_t>(j)] = score * scale_of(c);
    max = std::max(max, p[static_cast<size_t>(j)]);
  }
  for (double& x : p) sum += x = std::exp(x - max);
  for (int64_t j = 0; j <= t; ++j)
    for (int64_t d = 0; d < c.dim; ++d)
      o[static_cast<size_t>(d)] += p[static_cast<size_t>(j)] / sum * v.data<float>()[(j * c.kv_heads + kv) * c.dim + d];
  return o;
}

class PagedAttention : public testing::TestWithParam<Case> {};

TEST_P(PagedAttention, IsSoftmaxOverTheKeysSoFar) {
  const Case c = GetParam();
  const std::vector<int32_t> lengths{1, 300, 17};
  const Inputs in(c, lengths, 1);
  Tensor pool = dirty_pool(c, lengths.size());
  Pieces pieces;
  for (size_t s = 0; s < lengths.size(); ++s) pieces.push_back(Piece{static_cast<int32_t>(s), 0, lengths[s], -1, 0});
  const std::vector<Tensor> out = play({pieces}, in, c, pool, 2);
  const double tolerance = c.type != DType::kF32 ? 1e-2 : 3e-6;  // BF16: the probabilities are rounded
  for (size_t s = 0; s < lengths.size(); ++s)
    for (int64_t t = 0; t < lengths[s]; t += 1 + t / 16)
      for (int64_t h = 0; h < c.heads; ++h) {
        const std::vector<double> want = naive(in, s, c, t, h);
        for (int64_t d = 0; d < c.dim; ++d)
          ASSERT_NEAR(out[s].data<float>()[(t * c.heads + h) * c.dim + d], want[static_cast<size_t>(d)], tolerance)
              << "sequence " << s << " token " << t << " head " << h << " element " << d;
      }
}

TEST_P(PagedAttention, GivesTheSameBitsHoweverSequencesAreCut) {
  const Case c = GetParam();
  const std::vector<int32_t> lengths{270, 65, 30};
  const Inputs in(c, lengths, 2);
  Tensor pool = dirty_pool(c, lengths.size());
  const std::vector<Tensor> want = play(one_by_one(lengths), in, c, pool, 1);
  for (uint32_t seed = 0; seed < 5; ++seed) {
    std::vector<int32_t> last;
    const std::vector<Pieces> steps = random_cuts(lengths, seed, last);
    Tensor cut_pool = dirty_pool(c, lengths.size());
    const std::vector<Tensor> got = play(steps, in, c, cut_pool, 1 + static_cast<int>(seed % 4));
    for (size_t s = 0; s < lengths.size(); ++s) expect_same_bits(got[s], want[s], concat("cut ", seed, " sequence ", s));
  }
}

TEST_P(PagedAttention, SharesALongContextAmongThreadsWithoutChangingBits) {
  const Case c = GetParam();
  const std::vector<int32_t> lengths{1270};
  const Inputs in(c, lengths, 3);
  const std::vector<Pieces> steps{{Piece{0, 0, 1260, -1, 0}}, {Piece{0, 1260, 1, 0, 0}}, {Piece{0, 1261, 9, 0, 0}}};
  Tensor pool = dirty_pool(c, 1);
  const std::vector<Tensor> want = play(steps, in, c, pool, 1, 1);
  for (const int threads : {2, 3, 8}) {
    Tensor other = dirty_pool(c, 1);
    expect_same_bits(play(steps, in, c, other, threads, 1)[0], want[0], concat(threads, " threads"));
  }
  const std::vector<double> last = naive(in, 0, c, 1269, 0);
  for (int64_t d = 0; d < c.dim; ++d) EXPECT_NEAR(want[0].data<float>()[1269 * c.heads * c.dim + d], last[static_cast<size_t>(d)], 3e-3);
}

INSTANTIATE_TEST_SUITE_P(Cases, PagedAttention,
                         testing::Values(Case{8, 1, 256, DType::kBF16}, Case{34, 2, 96, DType::kBF16}, Case{8, 2, 64, DType::kF32},
                                         Case{6, 2, 40, DType::kBF16}, Case{3, 3, 18, DType::kF32}, Case{2, 1, 6, DType::kBF16},
                                         Case{5, 1, 7, DType::kF32}, Case{8, 1, 256, DType::kI8}, Case{6, 2, 42, DType::kI8}),
                         [](const auto& info) {
                           const Case& c = info.param;
                           return concat("Heads", c.heads, "Over", c.kv_heads, "Of", c.dim, name(c.type));
                         });

TEST(PagedAttentionStep, WithoutTokensDoesNothing) {
  ThreadPool team(2, false);
  Arena arena(size_t{1} << 20);
  Context ctx{team, arena};
  Tensor pool = make_kv_pool(2, 1, 16, DType::kBF16);
  const Rows rows = rows_of({});
  write_kv(ctx, arena.empty({0, 1, 16}), arena.empty({0, 1, 16}), pool, rows);
  EXPECT_EQ(paged_attention(ctx, arena.empty({0, 2, 16}), pool, rows, 1.0f).shape(), (Shape{0, 32}));
}

TEST(PagedAttentionPool, RefusesWhatItCannotStore) {
  EXPECT_THROW(make_kv_pool(1, 1, 7, DType::kBF16), Error);
  EXPECT_THROW(make_kv_pool(1, 1, 7, DType::kI8), Error);
  EXPECT_THROW(make_kv_pool(1, 1, 8, DType::kF16), Error);
}

}  // namespace
}  // namespace weir::ops
