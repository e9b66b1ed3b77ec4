// W8A8 products: integer sums are exact on every instruction set, so results are compared bit for bit with a plain evaluation.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <random>

#include "weir/kernels/cpu/isa.h"
#include "weir/ops/linear_cpu.h"

namespace weir::ops {
namespace {

using weir::cpu::available_isas;
using weir::cpu::Isa;

// Made once: starting a pool asks the operating system for the cores.
ThreadPool& pool_of(int threads) {
  static std::map<int, ThreadPool> pools;
  return pools.try_emplace(threads, threads, /*pin=*/false).first->second;
}

Tensor random_matrix(int64_t rows, int64_t columns, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  Tensor out = Tensor::zeros({rows, columns}, DType::kF32);
  for (int64_t i = 0; i < out.numel(); ++i) out.data<float>()[i] = normal(rng);
  return out;
}

// A weight as a checkpoint holds it, and packed.
struct Int8Weight {
  Tensor q;
  std::vector<float> scale;
  std::vector<int32_t> bias;
  InputScale input;
  PackedMatrix packed;

  Int8Weight(int64_t n, int64_t k, unsigned seed, InputScale how = {}) : q(Tensor::zeros({n, k}, DType::kI8)), input(how) {
    std::mt19937 rng(seed);
    for (int64_t i = 0; i < n * k; ++i) q.data<int8_t>()[i] = static_cast<int8_t>(static_cast<int>(rng() % 256) - 128);
    for (int64_t r = 0; r < n; ++r) {
      scale.push_back(0.001f + float(rng() % 1000) / 50'000.0f);
      if (how.scale != 0) bias.push_back(static_cast<int32_t>(rng() % 20'000) - 10'000);
    }
    pack();
  }
  void pack() {
    packed = PackedMatrix(q.dim(0), q.dim(1), DType::kI8, input);
    packed.pack_rows(0, q, {scale, bias});
  }

  // The product as spec/w8a8.md says it, one operation after the other.
  std::vector<float> times(const float* x) const {
    const int64_t n = q.dim(0), k = q.dim(1);
    float most = 0;
    for (int64_t i = 0; i < k; ++i) most = std::max(most, std::abs(x[i]));
    const float row_scale = input.scale != 0 ? 1.0f : std::max(most / 127.0f, std::numeric_limits<float>::min());
    std::vector<float> out;
    for (int64_t r = 0; r < n; ++r) {
      int64_t sum = bias.empty() ? 0 : bias[static_cast<size_t>(r)];
      for (int64_t i = 0; i < k; ++i) {
        const float value = input.scale != 0 ? x[i] / input.scale + input.offset : x[i] / row_scale;
        sum += static_cast<int64_t>(std::clamp(std::nearbyint(value), -128.0f, 127.0f)) * q.data<int8_t>()[r * k + i];
      }
      out.push_back(static_cast<float>(sum) * scale[static_cast<size_t>(r)] * row_scale);
    }
    return out;
  }
};

Tensor product(Isa isa, int threads, const Tensor& x, const PackedMatrix& w) {
  Arena arena(size_t{64} << 20);
  Context ctx{pool_of(threads), arena};
  Tensor y = Tensor::zeros({x.dim(0), w.n()}, DType::kF32);
  linear_cpu(weir::cpu::linear_kernels(isa), ctx, x, w, y, /*add=*/false);
  return y;
}

struct Size {
  int64_t n, k;
};

class Int8Linear : public testing::TestWithParam<std::tuple<Isa, Size>> {
 protected:
  Isa isa() const { return std::get<0>(GetParam()); }
  Size size() const { return std::get<1>(GetParam()); }
};

TEST_P(Int8Linear, EqualsThePlainEvaluationBitForBit) {
  const auto [n, k] = size();
  for (const InputScale input : {InputScale{}, InputScale{0.02f, -7.0f}}) {
    const Int8Weight w(n, k, 3, input);
    Tensor x = random_matrix(27, k, 4);
    std::fill_n(x.data<float>() + 5 * k, k, 0.0f);     // a row of zeros has no scale of its own
    std::fill_n(x.data<float>() + 6 * k, k, 1000.0f);  // leaves the range of a static scale
    std::fill_n(x.data<float>() + 7 * k, k, -1000.0f);
    const Tensor y = product(isa(), 2, x, w.packed);
    for (int64_t t = 0; t < x.dim(0); ++t) {
      const std::vector<float> want = w.times(x.data<float>() + t * k);
      for (int64_t c = 0; c < n; ++c)
        ASSERT_EQ(y.data<float>()[t * n + c], want[static_cast<size_t>(c)]) << "row " << t << " column " << c << " scale " << input.scale;
    }
  }
}

TEST_P(Int8Linear, RowsDoNotDependOnTheBatchOrTheThreads) {
  const auto [n, k] = size();
  const Int8Weight w(n, k, 5);
  const Tensor x = random_matrix(100, k, 6);
  const Tensor all = product(isa(), 1, x, w.packed);
  for (const int64_t rows : {1, 2, 3, 5, 7, 12, 13, 17, 64, 100}) {
    for (const int threads : {1, 3}) {
      const int64_t first = (rows * 7) % (101 - rows);
      const Tensor y = product(isa(), threads, x.rows(first, first + rows), w.packed);
      ASSERT_EQ(std::memcmp(y.raw(), all.data<float>() + first * n, static_cast<size_t>(y.nbytes())), 0) << rows << " rows";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, Int8Linear,
                         testing::Combine(testing::ValuesIn(available_isas()),
                                          testing::Values(Size{1, 1}, Size{16, 4}, Size{17, 31}, Size{33, 64}, Size{47, 33}, Size{130, 257},
                                                          Size{200, 100}, Size{35, 1031})),
                         [](const auto& info) {
                           const Size size = std::get<1>(info.param);
                           return concat(weir::cpu::name(std::get<0>(info.param)), "_n", size.n, "_k", size.k);
                         });

class Int8OnIsa : public testing::TestWithParam<Isa> {};

// 60000 products of 127 and -128: sums near the end of an I32, in which the 128 that the inputs are too large wraps around.
TEST_P(Int8OnIsa, ExtremeValuesDoNotSaturate) {
  const int64_t n = 32, k = 60'000;
  Int8Weight w(n, k, 1);
  std::fill_n(w.q.data<int8_t>(), n * k, static_cast<int8_t>(-128));
  w.pack();
  Tensor x = Tensor::zeros({3, k}, DType::kF32);
  std::fill_n(x.data<float>(), k, 5.0f);
  std::fill_n(x.data<float>() + k, k, -5.0f);
  for (int64_t i = 0; i < k; ++i) x.data<float>()[2 * k + i] = i % 2 == 0 ? 5.0f : -5.0f;
  const Tensor y = product(GetParam(), 1, x, w.packed);
  for (int64_t t = 0; t < 3; ++t) {
    const std::vector<float> want = w.times(x.data<float>() + t * k);
    for (int64_t c = 0; c < n; ++c) ASSERT_EQ(y.data<float>()[t * n + c], want[static_cast<size_t>(c)]) << t << " " << c;
  }
}

TEST_P(Int8OnIsa, NanAndInfinityShowInTheirRowAlone) {
  const int64_t n = 40, k = 75;
  for (const InputScale input : {InputScale{}, InputScale{0.02f, 3.0f}}) {
    const Int8Weight w(n, k, 1, input);
    Tensor x = random_matrix(14, k, 2);
    x.data<float>()[3 * k + 74] = std::numeric_limits<float>::quiet_NaN();
    x.data<float>()[4 * k + 7] = -std::numeric_limits<float>::infinity();
    const Tensor y = product(GetParam(), 2, x, w.packed);
    for (int64_t t = 0; t < 14; ++t)
      for (int64_t c = 0; c < n; ++c) ASSERT_EQ(std::isfinite(y.data<float>()[t * n + c]), t != 3 && t != 4) << t << " " << c;
  }
}

// Experts ---------------------------------------------------------------------------------------------------------------------

struct Expert {
  Int8Weight gate_up, down;
  Expert(int64_t hidden, int64_t width, unsigned seed, InputScale first, InputScale second)
      : gate_up(2 * width, hidden, 2 * seed, first), down(hidden, width, 2 * seed + 1, second) {}
};

struct MixedExperts {
  static constexpr int64_t kHidden = 100, kWidth = 39, kShared = 20;
  std::vector<Expert> experts;  // the last one has static scales
  Tensor shared_gate_up = random_matrix(2 * kShared, kHidden, 71), shared_down = random_matrix(kHidden, kShared, 72);
  ExpertWeights packed;

  MixedExperts() {
    for (unsigned e = 0; e < 5; ++e)
      experts.emplace_back(kHidden, kWidth, e, e == 4 ? InputScale{0.03f, 2.0f} : InputScale{},
                           e == 4 ? InputScale{0.5f, -1.0f} : InputScale{});
    for (const Expert& e : experts) {
      packed.gate_up.push_back(e.gate_up.packed);
      packed.down.push_back(e.down.packed);
    }
    packed.gate_up.emplace_back(2 * kShared, kHidden, DType::kF32).pack_rows(0, shared_gate_up);
    packed.down.emplace_back(kHidden, kShared, DType::kF32).pack_rows(0, shared_down);
  }

  std::vector<float> shared(const float* x) const {
    const auto dot = [](const Tensor& w, int64_t row, const float* v) {
      double sum = 0;
      for (int64_t i = 0; i < w.dim(1); ++i) sum += double(w.data<float>()[row * w.dim(1) + i]) * double(v[i]);
      return static_cast<float>(sum);
    };
    std::vector<float> middle, out;
    for (int64_t i = 0; i < kShared; ++i) {
      const float gate = dot(shared_gate_up, i, x), up = dot(shared_gate_up, kShared + i, x);
      middle.push_back(gate / (1 + std::exp(-gate)) * up);
    }
    for (int64_t i = 0; i < kHidden; ++i) out.push_back(dot(shared_down, i, middle.data()));
    return out;
  }

  std::vector<float> expert(int32_t e, const float* x) const {
    if (e == 5) return shared(x);
    const Expert& expert = experts[static_cast<size_t>(e)];
    const std::vector<float> gate_up = expert.gate_up.times(x);
    std::vector<float> middle;
    for (size_t i = 0; i < kWidth; ++i) middle.push_back(gate_up[i] / (1 + std::exp(-gate_up[i])) * gate_up[kWidth + i]);
    return expert.down.times(middle.data());
  }
};

Routing random_routing(int64_t tokens, unsigned seed) {
  std::mt19937 rng(seed);
  Routing out{Tensor::zeros({tokens, 3}, DType::kI32), Tensor::zeros({tokens, 3}, DType::kF32)};
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t k = 0; k < 3; ++k) {
      out.ids.data<int32_t>()[t * 3 + k] =
          k == 2 ? 5 : static_cast<int32_t>((rng() % 2) + 2 * static_cast<unsigned>(k) + (k == 1 ? t % 2 : 0));
      out.weights.data<float>()[t * 3 + k] = float(rng() % 1000) / 1000.0f;
    }
  return out;
}

Tensor run_experts(Isa isa, int threads, const Tensor& x, const Routing& routing, const ExpertWeights& experts) {
  Arena arena(size_t{64} << 20);
  Context ctx{pool_of(threads), arena};
  Tensor y = Tensor::zeros(x.shape(), DType::kF32);
  InputForms forms;
  forms.add(experts);
  const auto& kernels = weir::cpu::linear_kernels(isa);
  {
    const Arena::Scope scope(arena);
    experts_add_cpu(kernels, ctx, round_rows_cpu(kernels, ctx, x, forms), routing, experts, y);
  }
  EXPECT_EQ(arena.used(), 0u) << "scratch must be given back";
  return y;
}

TEST_P(Int8OnIsa, ExpertsOfBytesAndAFloatSharedExpertWorkTogether) {
  const MixedExperts model;
  const int64_t hidden = MixedExperts::kHidden, tokens = 30;
  const Tensor x = random_matrix(tokens, hidden, 8);
  const Routing routing = random_routing(tokens, 9);
  const Tensor y = run_experts(GetParam(), 2, x, routing, model.packed);
  int close = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    std::vector<double> want(static_cast<size_t>(hidden));
    double size = 0, error = 0;
    for (int64_t k = 0; k < 3; ++k) {
      const std::vector<float> part = model.expert(routing.ids.data<int32_t>()[t * 3 + k], x.data<float>() + t * hidden);
      for (size_t i = 0; i < want.size(); ++i) want[i] += double(routing.weights.data<float>()[t * 3 + k]) * double(part[i]);
    }
    for (int64_t i = 0; i < hidden; ++i) {
      size += std::pow(want[static_cast<size_t>(i)], 2);
      error += std::pow(want[static_cast<size_t>(i)] - double(y.data<float>()[t * hidden + i]), 2);
    }
    // exp() differs in its last bits, which may carry a value of the inner layer over a rounding boundary: one step of 127 then.
    ASSERT_LT(std::sqrt(error / size), 0.02) << "token " << t;
    close += std::sqrt(error / size) < 1e-5;
  }
  EXPECT_GT(close, tokens / 2);
}

TEST_P(Int8OnIsa, ExpertsDoNotDependOnTheBatchOrTheThreads) {
  const MixedExperts model;
  const int64_t hidden = MixedExperts::kHidden;
  const Tensor x = random_matrix(60, hidden, 10);
  const Routing routing = random_routing(60, 11);
  const Tensor all = run_experts(GetParam(), 3, x, routing, model.packed);
  for (const int64_t rows : {1, 2, 5, 13, 31}) {
    for (int64_t first = 0; first + rows <= 60; first += 9) {
      const Routing part{routing.ids.rows(first, first + rows), routing.weights.rows(first, first + rows)};
      const Tensor y = run_experts(GetParam(), 1, x.rows(first, first + rows), part, model.packed);
      ASSERT_EQ(std::memcmp(y.raw(), all.data<float>() + first * hidden, static_cast<size_t>(y.nbytes())), 0) << rows << " from " << first;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, Int8OnIsa, testing::ValuesIn(available_isas()), [](const auto& info) { return weir::cpu::name(info.param); });

TEST(StackedLinear, PutsProductsOfDifferentTypesSideBySide) {
  Arena arena(size_t{4} << 20);
  Context ctx{pool_of(2), arena};
  const Int8Weight bytes(33, 40, 1);
  PackedMatrix floats(5, 40, DType::kF32);
  floats.pack_rows(0, random_matrix(5, 40, 2));
  const Tensor x = random_matrix(15, 40, 3);
  const Tensor y = linear(ctx, x, std::vector{bytes.packed, floats}), first = linear(ctx, x, bytes.packed), second = linear(ctx, x, floats);
  ASSERT_EQ(y.shape(), (Shape{15, 38}));
  for (int64_t t = 0; t < 15; ++t)
    for (int64_t c = 0; c < 38; ++c)
      ASSERT_EQ(y.data<float>()[t * 38 + c], c < 33 ? first.data<float>()[t * 33 + c] : second.data<float>()[t * 5 + c - 33])
          << t << " " << c;
}

}  // namespace
}  // namespace weir::ops
