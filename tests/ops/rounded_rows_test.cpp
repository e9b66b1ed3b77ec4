// Norm, rounding and products in one pass are those done one after the other, bit for bit.
#include <gtest/gtest.h>

#include "elementwise_support.h"
#include "weir/ops/elementwise.h"
#include "weir/ops/linear.h"

namespace weir::ops {
namespace {

PackedMatrix matrix(int64_t n, int64_t k, DType type, uint32_t seed, InputScale input = {}) {
  PackedMatrix out(n, k, type, input);
  const Tensor w = random_normal({n, k}, seed);
  if (type != DType::kI8) {
    out.pack_rows(0, w);
    return out;
  }
  Tensor q = Tensor::zeros({n, k}, DType::kI8);
  for (int64_t i = 0; i < q.numel(); ++i) q.data<int8_t>()[i] = static_cast<int8_t>(w.data<float>()[i] * 30);
  const std::vector<float> scales(static_cast<size_t>(n), 0.01f);
  out.pack_rows(0, q, {scales, {}});
  return out;
}

class RoundedRowsOf : public testing::TestWithParam<int64_t> {};  // tokens

TEST_P(RoundedRowsOf, AreWhatNormAndProductsMakeOneAfterTheOther) {
  const int64_t tokens = GetParam();
  for (const int64_t k : {37, 256}) {
    ThreadPool pool(2, /*pin=*/false);
    Arena arena(size_t{64} << 20);
    Context ctx{pool, arena};
    const Tensor wide = random_normal({tokens, k + 5}, 1), x = wide.columns(0, k), w = random_normal({k}, 2);
    const std::vector<PackedMatrix> stacked = {matrix(40, k, DType::kI8, 3), matrix(20, k, DType::kBF16, 4), matrix(9, k, DType::kF32, 5),
                                               matrix(33, k, DType::kI8, 6, {.scale = 0.05f, .offset = 3})};
    ExpertWeights experts;
    for (uint32_t e = 0; e < 3; ++e) {
      const DType type = e == 2 ? DType::kBF16 : DType::kI8;
      experts.gate_up.push_back(matrix(2 * 24, k, type, 10 + e, e == 1 ? InputScale{.scale = 0.04f, .offset = -2} : InputScale{}));
      experts.down.push_back(matrix(k, 24, type, 20 + e));
    }
    Tensor ids = Tensor::zeros({tokens, 2}, DType::kI32), shares = random_normal({tokens, 2}, 7);
    for (int64_t i = 0; i < 2 * tokens; ++i) ids.data<int32_t>()[i] = static_cast<int32_t>(i * 7 % 3);

    InputForms forms;
    forms.add(stacked);
    forms.add(experts);
    forms.add(stacked[0]);
    EXPECT_EQ(forms.list().size(), 7u) << "each form once: four of products, three of experts";
    const RoundedRows rounded = rms_norm_rounded(ctx, x, w, 1e-6f, forms);
    const Tensor normed = rms_norm(ctx, x, w, 1e-6f);
    expect_same_bits(linear(ctx, rounded, stacked), linear(ctx, normed, stacked), concat("products of ", tokens, " tokens, k ", k));
    expect_same_bits(linear(ctx, rounded, stacked[1]), linear(ctx, normed, stacked[1]), "one product");
    Tensor y = random_normal({tokens, k}, 8), want = copy_of(y);
    experts_add(ctx, rounded, {ids, shares}, experts, y);
    experts_add(ctx, normed, {ids, shares}, experts, want);
    expect_same_bits(y, want, "experts");
    expect_same_bits(linear(ctx, round_rows(ctx, normed, forms), stacked), linear(ctx, normed, stacked), "without a norm");
  }
}

INSTANTIATE_TEST_SUITE_P(Tokens, RoundedRowsOf, testing::Values(1, 2, 12, 13, 40, 300));

TEST(RoundedRows, OfNoTokensAreFine) {
  ThreadPool pool(2, /*pin=*/false);
  Arena arena(size_t{1} << 20);
  Context ctx{pool, arena};
  const PackedMatrix w = matrix(16, 32, DType::kI8, 1);
  InputForms forms;
  forms.add(w);
  const RoundedRows rows = rms_norm_rounded(ctx, Tensor::zeros({0, 32}, DType::kF32), random_normal({32}, 2), 1e-6f, forms);
  EXPECT_EQ(linear(ctx, rows, w).shape(), (Shape{0, 16}));
}

TEST(RoundedRowsDeath, AFormNobodyAskedForIsABug) {
  ThreadPool pool(1, /*pin=*/false);
  Arena arena(size_t{1} << 20);
  Context ctx{pool, arena};
  InputForms forms;
  forms.add(matrix(16, 32, DType::kI8, 1));
  const RoundedRows rows = round_rows(ctx, random_normal({2, 32}, 2), forms);
  EXPECT_DEATH(linear(ctx, rows, matrix(16, 32, DType::kBF16, 3)), "was not asked for");
}

}  // namespace
}  // namespace weir::ops
