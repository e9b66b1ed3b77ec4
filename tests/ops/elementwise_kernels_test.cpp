// Every instruction set against the scalar kernels, at sizes that leave partial vectors.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>

#include "elementwise_support.h"
#include "weir/kernels/cpu/attention.h"
#include "weir/kernels/cpu/delta.h"
#include "weir/kernels/cpu/elementwise.h"
#include "weir/kernels/cpu/isa.h"

namespace weir::ops {
namespace {

using weir::cpu::available_isas;
using weir::cpu::Isa;

std::vector<float> values(int64_t n, uint32_t seed, float scale = 1.0f) {
  const Tensor x = random_normal({n}, seed, scale);
  return {x.data<float>(), x.data<float>() + n};
}

// Relative to the size of what was added up, not of what is left of it.
void expect_near(const std::vector<float>& got, const std::vector<float>& want, float tolerance, const char* what) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], tolerance * (1.0f + std::fabs(want[i]))) << what << " at " << i;
}

class ElementwiseKernel : public testing::TestWithParam<std::tuple<Isa, int64_t>> {};

TEST_P(ElementwiseKernel, MatchesScalar) {
  const auto [isa, n] = GetParam();
  const auto& k = weir::cpu::elementwise_kernels(isa);
  const auto& scalar = weir::cpu::scalar::kElementwise;
  const std::vector<float> x = values(n, 1), w = values(n, 2), z = values(n, 3, 30.0f), angles = values(n, 4);
  std::vector<float> got(static_cast<size_t>(n)), want(got);

  k.rms_norm(x.data(), w.data(), got.data(), n, 1e-6f);
  scalar.rms_norm(x.data(), w.data(), want.data(), n, 1e-6f);
  expect_near(got, want, 2e-6f, "rms_norm");

  std::vector<float> cos(angles.size()), sin(angles.size());
  for (size_t i = 0; i < angles.size(); ++i) cos[i] = std::cos(angles[i]), sin[i] = std::sin(angles[i]);
  for (const int64_t half : {n / 2, n / 4, int64_t{0}}) {
    k.norm_rope(x.data(), w.data(), cos.data(), sin.data(), got.data(), n, half, 1e-6f);
    scalar.norm_rope(x.data(), w.data(), cos.data(), sin.data(), want.data(), n, half, 1e-6f);
    expect_near(got, want, 2e-6f, "norm_rope");
  }

  k.rms_norm_gated(x.data(), w.data(), z.data(), got.data(), n, 1e-6f);
  scalar.rms_norm_gated(x.data(), w.data(), z.data(), want.data(), n, 1e-6f);
  expect_near(got, want, 2e-6f, "rms_norm_gated");

  k.l2_normalise(x.data(), got.data(), n, 0.25f);
  scalar.l2_normalise(x.data(), want.data(), n, 0.25f);
  expect_near(got, want, 1e-6f, "l2_normalise");

  got = x, want = x;
  k.gate(got.data(), z.data(), n);
  scalar.gate(want.data(), z.data(), n);
  expect_near(got, want, 1e-6f, "gate");

  k.silu_mul(z.data(), x.data(), got.data(), n);
  scalar.silu_mul(z.data(), x.data(), want.data(), n);
  expect_near(got, want, 1e-6f, "silu_mul");

  const std::vector<float> taps = values(4 * n, 5), weights = values(4 * n, 6);
  const float* rows[] = {taps.data(), taps.data() + n, taps.data() + 2 * n, taps.data() + 3 * n, x.data(), z.data()};
  for (const int64_t kernel : {2, 4})
    for (const int64_t tokens : {1, 3}) {
      std::vector<float> several(static_cast<size_t>(tokens * n)), want_several(several);
      k.conv_silu({kernel, tokens, n, rows, weights.data(), n, several.data(), x.data(), 0});
      scalar.conv_silu({kernel, tokens, n, rows, weights.data(), n, want_several.data(), nullptr, 0});
      expect_near(several, want_several, 2e-6f, "conv_silu");
    }

  std::vector<float> g(got), want_g(got);
  k.delta_gates(z.data(), taps.data(), x.data(), w.data(), g.data(), got.data(), n);
  scalar.delta_gates(z.data(), taps.data(), x.data(), w.data(), want_g.data(), want.data(), n);
  expect_near(g, want_g, 1e-6f, "g");
  expect_near(got, want, 1e-6f, "beta");

  std::vector<uint16_t> rounded(static_cast<size_t>(n)), want_rounded(rounded);
  weir::cpu::elementwise_kernels(isa).round_bf16(x.data(), rounded.data(), n);
  weir::cpu::scalar::kElementwise.round_bf16(x.data(), want_rounded.data(), n);
  EXPECT_EQ(rounded, want_rounded);
  k.widen_bf16(rounded.data(), got.data(), n);
  scalar.widen_bf16(rounded.data(), want.data(), n);
  EXPECT_EQ(got, want);
}

TEST_P(ElementwiseKernel, FindsTheLargestAndWeighsTheOthersByIt) {
  const auto [isa, n] = GetParam();
  const auto& k = weir::cpu::elementwise_kernels(isa);
  const auto& scalar = weir::cpu::scalar::kElementwise;
  std::vector<float> x = values(n, 6, 10.0f);
  if (n > 2) x[1] = -std::numeric_limits<float>::infinity();  // a masked logit
  const float largest = k.largest(x.data(), n);
  EXPECT_EQ(largest, *std::max_element(x.begin(), x.end()));
  std::vector<float> got(x.size()), want(x.size());
  const float sum = k.weights(x.data(), largest, 0.7f, got.data(), n);
  EXPECT_NEAR(sum, scalar.weights(x.data(), largest, 0.7f, want.data(), n), 1e-5f * sum);
  expect_near(got, want, 1e-6f, "weights");
  if (n > 2) {
    EXPECT_EQ(got[1], 0.0f);
  }
  for (const int64_t at : {int64_t{0}, n / 2, n - 1}) {
    std::vector<float> broken = x;
    broken[static_cast<size_t>(at)] = std::nanf("");
    EXPECT_TRUE(std::isnan(k.largest(broken.data(), n))) << "NaN at " << at;
  }
}

TEST_P(ElementwiseKernel, GivesAnElementTheSameBitsAnywhereInARow) {
  const auto [isa, n] = GetParam();
  const auto& k = weir::cpu::elementwise_kernels(isa);
  const std::vector<float> row(static_cast<size_t>(n), 0.7731f), other(row.size(), -1.37f);
  std::vector<float> y(row.size());
  const auto expect_equal = [&](const char* what) {
    for (const float element : y) ASSERT_EQ(std::bit_cast<uint32_t>(element), std::bit_cast<uint32_t>(y[0])) << what;
  };
  k.rms_norm_gated(row.data(), other.data(), row.data(), y.data(), n, 1e-6f), expect_equal("rms_norm_gated");
  k.silu_mul(row.data(), other.data(), y.data(), n), expect_equal("silu_mul");
  const float* inputs[] = {row.data(), other.data(), row.data(), other.data()};
  for (const int64_t kernel : {3, 4}) k.conv_silu({kernel, 1, n, inputs, other.data(), 0, y.data(), nullptr, 0}), expect_equal("conv_silu");
  std::vector<float> g(y);
  k.delta_gates(row.data(), other.data(), row.data(), other.data(), g.data(), y.data(), n), expect_equal("beta");
  y = g, expect_equal("g");
}

INSTANTIATE_TEST_SUITE_P(Cpu, ElementwiseKernel,
                         testing::Combine(testing::ValuesIn(available_isas()),
                                          testing::Values(1, 7, 8, 15, 16, 17, 31, 100, 128, 333, 2048)));

class DeltaKernel : public testing::TestWithParam<std::tuple<Isa, int64_t, int64_t>> {  // k_dim, columns
 protected:
  static constexpr int64_t kBlock = weir::cpu::kMaxDeltaBlock;
  const int64_t k_dim = std::get<1>(GetParam()), columns = std::get<2>(GetParam()), stride = columns + 3;
  const weir::cpu::DeltaKernels& scalar = weir::cpu::scalar::kDelta;
  const weir::cpu::DeltaKernels& tested = weir::cpu::delta_kernels(std::get<0>(GetParam()), k_dim, columns);
  std::vector<float> keys = values(kBlock * k_dim, 1), queries = values(kBlock * k_dim, 2), decays = std::vector<float>(kBlock),
                     betas = decays;
  const std::vector<float> v = values(kBlock * stride, 3);

  void SetUp() override {
    for (int64_t j = 0; j < kBlock; ++j) {
      weir::cpu::scalar::kElementwise.l2_normalise(keys.data() + j * k_dim, keys.data() + j * k_dim, k_dim, 1.0f);
      weir::cpu::scalar::kElementwise.l2_normalise(queries.data() + j * k_dim, queries.data() + j * k_dim, k_dim, 1.0f);
      decays[static_cast<size_t>(j)] = (j > 0 ? decays[static_cast<size_t>(j - 1)] : 0.0f) - 0.02f * static_cast<float>(j % 7);
      betas[static_cast<size_t>(j)] = 0.1f + 0.01f * static_cast<float>(j);
    }
  }

  // Tokens [old, old + count) of a block.
  void run(const weir::cpu::DeltaKernels& k, const float* state, int64_t old, int64_t count, std::vector<float>& updates,
           std::vector<float>& out) {
    const float *new_keys = keys.data() + old * k_dim, *new_queries = queries.data() + old * k_dim;
    std::vector<float> k_k(kBlock * kBlock), q_k(k_k);
    k.dots({k_dim, old, count, keys.data(), new_keys, new_queries, k_k.data(), q_k.data(), halves.data()});
    weir::cpu::DeltaBlock b{};
    b.k_dim = k_dim, b.columns = columns, b.num_old = old, b.num_new = count;
    b.keys = new_keys, b.queries = new_queries, b.k_k = k_k.data(), b.q_k = q_k.data(), b.halves = halves.data();
    b.next_keys = keys.data(), b.wanted = v.data(), b.wanted_stride = stride, b.decays = decays.data(), b.betas = betas.data() + old;
    b.values = v.data() + old * stride, b.values_stride = stride, b.state = state, b.stride = stride;
    b.updates = updates.data(), b.out = out.data() + old * stride, b.out_stride = stride, b.scratch = scratch.data();
    k.block(b);
  }

  // Of the first `count` tokens, as the kernels keep it.
  std::vector<float> fold(const weir::cpu::DeltaKernels& k, const float* state, int64_t count, const std::vector<float>& updates) {
    std::vector<float> out(static_cast<size_t>(k_dim * stride), 0.0f);
    k.fold({k_dim, columns, count, k.fold_keys(keys.data(), k_dim, halves.data()), decays.data(), updates.data(), state, out.data(), false,
            stride, scratch.data()});
    return out;
  }

  std::vector<float> as_rows(const weir::cpu::DeltaKernels& k, const std::vector<float>& state) const {
    if (!k.tiled()) return state;
    std::vector<float> dense(static_cast<size_t>(k_dim * columns)), rows(state.size(), 0.0f);
    k.rows_of(state.data(), false, k_dim, columns, dense.data());
    for (int64_t c = 0; c < k_dim; ++c) std::copy_n(dense.data() + c * columns, columns, rows.data() + c * stride);
    return rows;
  }

 private:
  std::vector<float> scratch = std::vector<float>(static_cast<size_t>(weir::cpu::delta_scratch_floats(columns)));
  std::vector<uint16_t> halves = std::vector<uint16_t>(static_cast<size_t>(weir::cpu::delta_halves(k_dim)));
};

TEST_P(DeltaKernel, MatchesScalarForAnyPartOfABlock) {
  const std::vector<float> own = fold(tested, nullptr, kBlock, v), state = as_rows(tested, own);
  std::vector<float> want_updates(static_cast<size_t>(kBlock * stride), 0.0f), want_out(want_updates);
  run(scalar, state.data(), 0, kBlock, want_updates, want_out);
  for (const auto& cut :
       std::vector<std::vector<int64_t>>{{32}, {1, 31}, {5, 2, 1, 1, 23}, {13, 19}, {17, 4, 11}, {28, 3, 1}, {8, 9, 15}}) {
    std::vector<float> updates(want_updates.size(), 0.0f), out(updates);
    int64_t old = 0;
    for (const int64_t count : cut) run(tested, own.data(), old, count, updates, out), old += count;
    expect_near(updates, want_updates, 2e-5f, "u");
    expect_near(out, want_out, 2e-5f, "o");
  }
  for (const int64_t count : {int64_t{1}, int64_t{17}, kBlock}) {
    if (tested.tiled() && count < kBlock) continue;
    expect_near(as_rows(tested, fold(tested, own.data(), count, want_updates)), fold(scalar, state.data(), count, want_updates), 2e-5f,
                "state");
  }
}

TEST_P(DeltaKernel, TakesNoStateForZerosToTheLastBit) {
  const std::vector<float> zeros(static_cast<size_t>(k_dim * stride), 0.0f);
  for (const int64_t count : {int64_t{1}, int64_t{9}, kBlock}) {
    std::vector<float> updates(static_cast<size_t>(kBlock * stride), 0.0f), out(updates), other_updates(updates), other_out(updates);
    run(tested, zeros.data(), 0, count, updates, out);
    run(tested, nullptr, 0, count, other_updates, other_out);
    EXPECT_EQ(std::memcmp(updates.data(), other_updates.data(), updates.size() * sizeof(float)), 0) << count;
    EXPECT_EQ(std::memcmp(out.data(), other_out.data(), out.size() * sizeof(float)), 0) << count;
    if (tested.tiled() && count < kBlock) continue;
    const std::vector<float> got = fold(tested, zeros.data(), count, updates), other = fold(tested, nullptr, count, updates);
    EXPECT_EQ(std::memcmp(got.data(), other.data(), got.size() * sizeof(float)), 0) << count;
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, DeltaKernel,
                         testing::Combine(testing::ValuesIn(available_isas()), testing::Values(1, 20, 128),
                                          testing::Values(1, 16, 50, 128)));

class AttentionKernel : public testing::TestWithParam<std::tuple<Isa, int64_t, int64_t>> {};  // dim, queries

TEST_P(AttentionKernel, MatchesScalarForAnyLimits) {
  const auto [isa, dim, queries] = GetParam();
  constexpr int64_t kPages = weir::cpu::kSegmentTokens / weir::cpu::kPageTokens;
  const int64_t page = 2 * weir::cpu::kPageTokens * dim;
  std::vector<int32_t> pages, limits;
  for (int64_t i = 0; i < kPages; ++i) pages.push_back(static_cast<int32_t>((i * 5 + 3) % kPages));
  for (int64_t m = 0; m < queries; ++m) limits.push_back(static_cast<int32_t>(m % 3 == 0 ? 256 - m : m % 3 == 1 ? m : 100 + m));
  const std::vector<float> q = values(queries * dim, 1), pool = values(kPages * page, 2);
  std::vector<uint16_t> q16(q.size()), pool16(pool.size());
  for (size_t i = 0; i < q.size(); ++i) q16[i] = f32_to_bf16(q[i]);
  for (size_t i = 0; i < pool.size(); ++i) pool16[i] = f32_to_bf16(pool[i]);
  std::vector<float> scratch(static_cast<size_t>(weir::cpu::attention_scratch_floats(queries, dim, /*is_i8=*/false)));
  for (const bool bf16 : {false, true}) {
    if (bf16 && dim % 2 != 0) continue;
    const auto run = [&](const weir::cpu::AttentionKernels& k) {
      std::vector<float> max(static_cast<size_t>(queries)), sum(max), out(static_cast<size_t>(queries * dim));
      weir::cpu::AttentionSegment s{};
      s.num_queries = queries, s.dim = dim, s.limits = limits.data(), s.pages = pages.data(), s.page_stride = page;
      s.queries = bf16 ? static_cast<const void*>(q16.data()) : q.data(),
      s.pool = bf16 ? static_cast<const void*>(pool16.data()) : pool.data();
      s.keys = 0, s.values = page / 2, s.scale = 1.0f / std::sqrt(static_cast<float>(dim));
      s.max = max.data(), s.sum = sum.data(), s.out = out.data(), s.scratch = scratch.data();
      bf16 ? k.segment_bf16(s) : k.segment_f32(s);
      out.insert(out.end(), sum.begin(), sum.end());
      for (const float m : max) out.push_back(std::isinf(m) ? 0.0f : m);
      return out;
    };
    // Scores that differ in their last bits round some probabilities to the neighbouring BF16.
    expect_near(run(weir::cpu::attention_kernels(isa)), run(weir::cpu::scalar::kAttention), bf16 ? 2e-3f : 5e-6f, bf16 ? "bf16" : "f32");
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, AttentionKernel,
                         testing::Combine(testing::ValuesIn(available_isas()), testing::Values(1, 6, 34, 256),
                                          testing::Values(1, 5, 6, 20)));

// Operators use the best instruction set here; the others must keep the same promises.
TEST(OtherInstructionSets, PassTheTestsOfTheOperators) {
  for (const Isa isa : available_isas()) {
    if (isa == weir::cpu::active_isa() || std::getenv("WEIR_CPU_ISA") != nullptr) continue;
    const std::string command = concat("WEIR_CPU_ISA=", name(isa), " '", testing::internal::GetArgvs().front(),
                                       "' --gtest_brief=1 --gtest_filter='*GatedDelta*:*CausalConv*:*PagedAttention*:*Elementwise*'");
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
  }
}

}  // namespace
}  // namespace weir::ops
