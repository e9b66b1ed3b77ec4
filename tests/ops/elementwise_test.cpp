#include "weir/ops/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>

#include "elementwise_support.h"

namespace weir::ops {
namespace {

class Elementwise : public testing::Test {
 protected:
  ThreadPool team_{3, /*pin=*/false};
  Arena arena_{size_t{64} << 20};
  Context ctx_{team_, arena_};
};

double at(const Tensor& x, int64_t row, int64_t column) { return x.data<float>()[row * x.row_stride() + column]; }
double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

double inverse_rms(const Tensor& x, int64_t row, int64_t first, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += at(x, row, first + i) * at(x, row, first + i);
  return 1.0 / std::sqrt(sum / static_cast<double>(n) + 1e-6);
}

// The rows of `batch` that `one(first row, last row)` computes one by one.
template <class One>
void expect_rows_alone(const Tensor& batch, One one) {
  for (int64_t t = 0; t < batch.dim(0); ++t) expect_same_bits(one(t, t + 1), batch.rows(t, t + 1), concat("row ", t));
}

TEST_F(Elementwise, RmsNormOfStridedRows) {
  const Tensor wide = random_normal({40, 210}, 1), w = random_normal({200}, 2), x = wide.columns(5, 205);
  const Tensor y = rms_norm(ctx_, x, w, 1e-6f);
  for (int64_t t = 0; t < 40; ++t)
    for (int64_t d = 0; d < 200; ++d) ASSERT_NEAR(at(y, t, d), at(x, t, d) * inverse_rms(x, t, 0, 200) * w.data<float>()[d], 5e-6);
  expect_rows_alone(y, [&](int64_t a, int64_t b) { return rms_norm(ctx_, x.rows(a, b), w, 1e-6f); });
}

TEST_F(Elementwise, NormRopeTurnsTheFirstPairsOfEachHead) {
  const int64_t tokens = 21, heads = 3, dim = 40, half = 6, stride = 2 * dim;  // query and gate rows alternate
  const Tensor x = random_normal({tokens, heads * stride}, 3), w = random_normal({dim}, 4), freq = random_normal({half}, 5);
  Tensor positions = Tensor::zeros({3, tokens}, DType::kI32);
  for (int64_t i = 0; i < 3 * tokens; ++i) positions.data<int32_t>()[i] = static_cast<int32_t>(i * 997 % 5000);
  const Tensor axis_of = ints({0, 1, 2, 0, 1, 0}, {half});
  const RopeTable rope = rope_table(ctx_, positions, freq, axis_of);
  const Tensor y = norm_rope(ctx_, x, heads, dim, stride, w, 1e-6f, rope);
  ASSERT_EQ(y.shape(), (Shape{tokens, heads, dim}));
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t h = 0; h < heads; ++h) {
      const double inverse = inverse_rms(x, t, h * stride, dim);
      const auto normed = [&](int64_t d) { return at(x, t, h * stride + d) * inverse * w.data<float>()[d]; };
      for (int64_t d = 0; d < dim; ++d) {
        double want = normed(d);
        if (d < 2 * half) {
          const int64_t i = d % half;
          const auto position = static_cast<float>(positions.data<int32_t>()[axis_of.data<int32_t>()[i] * tokens + t]);
          const double angle = position * freq.data<float>()[i];  // F32, as specified
          want = d < half ? normed(i) * std::cos(angle) - normed(i + half) * std::sin(angle)
                          : normed(d) * std::cos(angle) + normed(i) * std::sin(angle);
        }
        ASSERT_NEAR(y.data<float>()[(t * heads + h) * dim + d], want, 5e-6) << "token " << t << " head " << h << " element " << d;
      }
    }
}

TEST_F(Elementwise, GateHeadsReadsTheGateBesideEachQueryHead) {
  const int64_t tokens = 17, heads = 3, dim = 20;
  const Tensor qg = random_normal({tokens, heads * 2 * dim}, 6, 5.0f), before = random_normal({tokens, heads * dim}, 7);
  Tensor o = copy_of(before);
  gate_heads(ctx_, o, qg.columns(dim, heads * 2 * dim), heads, dim, 2 * dim);
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t i = 0; i < heads * dim; ++i)
      ASSERT_NEAR(at(o, t, i), at(before, t, i) * sigmoid(at(qg, t, i / dim * 2 * dim + dim + i % dim)), 2e-6);
}

TEST_F(Elementwise, SiluMul) {
  const Tensor x = random_normal({33, 2 * 75}, 11, 4.0f), y = silu_mul(ctx_, x);
  for (int64_t t = 0; t < 33; ++t)
    for (int64_t i = 0; i < 75; ++i) ASSERT_NEAR(at(y, t, i), at(x, t, i) * sigmoid(at(x, t, i)) * at(x, t, 75 + i), 2e-5);
  expect_rows_alone(y, [&](int64_t a, int64_t b) { return silu_mul(ctx_, x.rows(a, b)); });
}

TEST_F(Elementwise, EmbeddingWidensRowsOfEitherType) {
  const Tensor f32 = random_normal({9, 37}, 12);
  Tensor bf16 = Tensor::zeros({9, 37}, DType::kBF16);
  for (int64_t i = 0; i < bf16.numel(); ++i) bf16.data<uint16_t>()[i] = f32_to_bf16(f32.data<float>()[i]);
  const std::vector<int32_t> ids{8, 0, 3, 3};
  const Tensor a = embedding(ctx_, f32, ints(ids, {4})), b = embedding(ctx_, bf16, ints(ids, {4}));
  for (int64_t t = 0; t < 4; ++t)
    for (int64_t d = 0; d < 37; ++d) {
      const int64_t source = ids[static_cast<size_t>(t)] * 37 + d;
      EXPECT_EQ(a.data<float>()[t * 37 + d], f32.data<float>()[source]);
      EXPECT_EQ(b.data<float>()[t * 37 + d], bf16_to_f32(bf16.data<uint16_t>()[source]));
    }
}

TEST_F(Elementwise, GatherRowsTakesThemInAnyOrder) {
  const Tensor wide = random_normal({6, 12}, 13), x = wide.columns(2, 9), y = gather_rows(ctx_, x, ints({5, 5, 0}, {3}));
  expect_same_bits(y, copy_of(gather_rows(ctx_, x, ints({5, 5, 0}, {3}))), "again");
  for (int64_t d = 0; d < 7; ++d) {
    EXPECT_EQ(at(y, 0, d), at(x, 5, d));
    EXPECT_EQ(at(y, 2, d), at(x, 0, d));
  }
}

TEST_F(Elementwise, StepsWithoutTokensGiveEmptyResults) {
  const Tensor x = arena_.empty({0, 32}), w = random_normal({32}, 14), none = arena_.empty({0}, DType::kI32);
  EXPECT_EQ(rms_norm(ctx_, x, w, 1e-6f).dim(0), 0);
  EXPECT_EQ(silu_mul(ctx_, x).dim(0), 0);
  const RopeTable rope = rope_table(ctx_, arena_.empty({3, 0}, DType::kI32), random_normal({4}, 15), ints({0, 1, 2, 0}, {4}));
  EXPECT_EQ(norm_rope(ctx_, x, 1, 32, 32, w, 1e-6f, rope).dim(0), 0);
  EXPECT_EQ(embedding(ctx_, random_normal({3, 5}, 16), none).shape(), (Shape{0, 5}));
  EXPECT_EQ(gather_rows(ctx_, random_normal({3, 5}, 17), none).shape(), (Shape{0, 5}));
  EXPECT_EQ(route(ctx_, x, 32, 4, false).ids.shape(), (Shape{0, 4}));
}

TEST_F(Elementwise, RefusesADeviceThatIsNotBuilt) {
  float data[4] = {};
  const Tensor x(data, Shape{1, 4}, DType::kF32, nullptr, DeviceKind::kNpu), w(data, Shape{4}, DType::kF32, nullptr, DeviceKind::kNpu);
  EXPECT_THROW(rms_norm(ctx_, x, w, 1e-6f), Error);
}

}  // namespace
}  // namespace weir::ops
