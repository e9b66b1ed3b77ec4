// experts_add against a plain double-precision evaluation, and bit for bit against itself over batches and threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include "weir/kernels/cpu/isa.h"
#include "weir/ops/linear_cpu.h"

namespace weir::ops {
namespace {

using weir::cpu::available_isas;
using weir::cpu::Isa;

Tensor random_matrix(int64_t rows, int64_t columns, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  Tensor out = Tensor::zeros({rows, columns}, DType::kF32);
  for (int64_t i = 0; i < out.numel(); ++i) out.data<float>()[i] = normal(rng);
  return out;
}

float as_type(float value, DType type) { return type == DType::kBF16 ? bf16_to_f32(f32_to_bf16(value)) : value; }

struct Sizes {
  int64_t hidden, width, shared_width, experts, top_k;  // shared_width 0: no shared expert
};

// Experts with their unpacked weights; the shared expert is the last one.
struct Model {
  DType type;
  int64_t hidden;
  std::vector<Tensor> gate_up, down;
  ExpertWeights packed;

  Model(const Sizes& sizes, DType weights) : type(weights), hidden(sizes.hidden) {
    for (int64_t e = 0; e < sizes.experts; ++e) add(sizes.width, unsigned(e));
    if (sizes.shared_width > 0) add(sizes.shared_width, 999);
  }

  void add(int64_t width, unsigned seed) {
    gate_up.push_back(random_matrix(2 * width, hidden, 2 * seed));
    down.push_back(random_matrix(hidden, width, 2 * seed + 1));
    packed.gate_up.emplace_back(2 * width, hidden, type).pack_rows(0, gate_up.back());
    packed.down.emplace_back(hidden, width, type).pack_rows(0, down.back());
  }

  std::vector<double> expert(int64_t e, const float* x) const {
    const Tensor &g = gate_up[static_cast<size_t>(e)], &d = down[static_cast<size_t>(e)];
    const int64_t width = d.dim(1);
    const auto dot = [&](const Tensor& w, int64_t row, auto&& input) {
      double sum = 0;
      for (int64_t i = 0; i < w.dim(1); ++i)
        sum += double(as_type(w.data<float>()[row * w.dim(1) + i], type)) * double(as_type(float(input(i)), type));
      return sum;
    };
    std::vector<double> inner(static_cast<size_t>(width)), out(static_cast<size_t>(hidden));
    for (int64_t i = 0; i < width; ++i) {
      const double gate = dot(g, i, [&](int64_t j) { return x[j]; }), up = dot(g, width + i, [&](int64_t j) { return x[j]; });
      inner[static_cast<size_t>(i)] = gate / (1 + std::exp(-gate)) * up;
    }
    for (int64_t i = 0; i < hidden; ++i) out[static_cast<size_t>(i)] = dot(d, i, [&](int64_t j) { return inner[static_cast<size_t>(j)]; });
    return out;
  }
};

Routing random_routing(int64_t tokens, const Sizes& sizes, unsigned seed) {
  std::mt19937 rng(seed);
  const int64_t shared = sizes.shared_width > 0 ? 1 : 0, columns = sizes.top_k + shared;
  Routing out{Tensor::zeros({tokens, columns}, DType::kI32), Tensor::zeros({tokens, columns}, DType::kF32)};
  std::vector<int32_t> ids(static_cast<size_t>(sizes.experts));
  for (size_t e = 0; e < ids.size(); ++e) ids[e] = static_cast<int32_t>(e);
  for (int64_t t = 0; t < tokens; ++t) {
    std::shuffle(ids.begin(), ids.end(), rng);
    for (int64_t k = 0; k < columns; ++k) {
      const bool is_shared = k == sizes.top_k;
      out.ids.data<int32_t>()[t * columns + k] = is_shared ? static_cast<int32_t>(sizes.experts) : ids[static_cast<size_t>(k)];
      out.weights.data<float>()[t * columns + k] = float(rng() % 1000) / 1000.0f;
    }
  }
  return out;
}

// Made once: starting a pool asks the operating system for the cores.
ThreadPool& pool_of(int threads) {
  static std::map<int, ThreadPool> pools;
  return pools.try_emplace(threads, threads, /*pin=*/false).first->second;
}

Tensor run(Isa isa, int threads, const Tensor& x, const Routing& routing, const ExpertWeights& experts, const Tensor& start) {
  Arena arena(size_t{64} << 20);
  Context ctx{pool_of(threads), arena};
  Tensor y = Tensor::zeros(start.shape(), DType::kF32);
  if (start.numel() > 0) std::memcpy(y.raw(), start.raw(), static_cast<size_t>(start.nbytes()));
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

class Experts : public testing::TestWithParam<std::tuple<Isa, DType, Sizes>> {
 protected:
  Isa isa() const { return std::get<0>(GetParam()); }
  DType type() const { return std::get<1>(GetParam()); }
  Sizes sizes() const { return std::get<2>(GetParam()); }
};

TEST_P(Experts, AgreeWithDoublePrecision) {
  const Model model(sizes(), type());
  const int64_t tokens = 9, hidden = sizes().hidden;
  const Tensor x = random_matrix(tokens, hidden, 100), start = random_matrix(tokens, hidden, 101);
  const Routing routing = random_routing(tokens, sizes(), 102);
  const Tensor y = run(isa(), 2, x, routing, model.packed, start);
  for (int64_t t = 0; t < tokens; ++t) {
    std::vector<double> want(static_cast<size_t>(hidden));
    double scale = 0;
    for (int64_t k = 0; k < routing.ids.dim(1); ++k) {
      const int64_t at = t * routing.ids.dim(1) + k;
      const std::vector<double> out = model.expert(routing.ids.data<int32_t>()[at], x.data<float>() + t * hidden);
      for (size_t i = 0; i < want.size(); ++i) {
        want[i] += double(routing.weights.data<float>()[at]) * out[i];
        scale = std::max(scale, std::abs(out[i]));
      }
    }
    // In BF16 a value of the inner layer that lies between two BF16 may round to the other one: 2^-9 of a term of a long sum.
    const double tolerance = (type() == DType::kBF16 ? 4e-3 : 3e-6) * (scale + 1);
    for (int64_t i = 0; i < hidden; ++i)
      ASSERT_NEAR(y.data<float>()[t * hidden + i], want[static_cast<size_t>(i)] + double(start.data<float>()[t * hidden + i]), tolerance)
          << "token " << t << " at " << i;
  }
}

TEST_P(Experts, TokensDoNotDependOnTheBatchOrTheThreads) {
  const Model model(sizes(), type());
  const int64_t hidden = sizes().hidden;
  const Tensor x = random_matrix(100, hidden, 200), start = random_matrix(100, hidden, 201);
  const Routing routing = random_routing(100, sizes(), 202);
  const auto part = [&](int64_t begin, int64_t end) { return Routing{routing.ids.rows(begin, end), routing.weights.rows(begin, end)}; };
  std::vector<Tensor> alone;
  for (int64_t t = 0; t < 100; ++t) alone.push_back(run(isa(), 1, x.rows(t, t + 1), part(t, t + 1), model.packed, start.rows(t, t + 1)));
  for (const int64_t rows : {1, 2, 3, 5, 7, 12, 13, 17, 64, 100}) {
    for (const int threads : {1, 2, 3}) {
      const int64_t first = (rows * 7) % (101 - rows);
      const Tensor y =
          run(isa(), threads, x.rows(first, first + rows), part(first, first + rows), model.packed, start.rows(first, first + rows));
      for (int64_t t = 0; t < rows; ++t)
        ASSERT_EQ(std::memcmp(y.data<float>() + t * hidden, alone[static_cast<size_t>(first + t)].raw(), static_cast<size_t>(hidden) * 4),
                  0)
            << "token " << t << " of " << rows << ", " << threads << " threads";
    }
  }
}

std::string case_name(const testing::TestParamInfo<Experts::ParamType>& info) {
  const auto [isa, type, s] = info.param;
  return concat(weir::cpu::name(isa), "_", name(type), "_h", s.hidden, "_i", s.width, "_s", s.shared_width, "_e", s.experts);
}

INSTANTIATE_TEST_SUITE_P(Cpu, Experts,
                         testing::Combine(testing::ValuesIn(available_isas()), testing::Values(DType::kBF16, DType::kF32),
                                          testing::Values(Sizes{32, 16, 0, 4, 2}, Sizes{64, 32, 48, 8, 3}, Sizes{35, 19, 7, 5, 2},
                                                          Sizes{100, 33, 0, 1, 1}, Sizes{270, 24, 40, 6, 4})),
                         case_name);

class ExpertsOnIsa : public testing::TestWithParam<Isa> {};

TEST_P(ExpertsOnIsa, IdsOutsideTheExpertsAreSkipped) {
  const Sizes sizes{48, 16, 0, 4, 2};
  const Model model(sizes, DType::kBF16);
  const Tensor x = random_matrix(3, 48, 1), start = random_matrix(3, 48, 2);
  Routing routing = random_routing(3, sizes, 3);
  for (const int64_t at : {0, 2, 3}) routing.ids.data<int32_t>()[at] = at == 0 ? -1 : 4;  // token 0 keeps its second choice, token 1 none
  const Tensor y = run(GetParam(), 2, x, routing, model.packed, start);
  EXPECT_NE(std::memcmp(y.raw(), start.raw(), 48 * 4), 0);
  EXPECT_EQ(std::memcmp(y.data<float>() + 48, start.data<float>() + 48, 48 * 4), 0);
  EXPECT_NE(std::memcmp(y.data<float>() + 96, start.data<float>() + 96, 48 * 4), 0);
}

TEST_P(ExpertsOnIsa, NoTokensAndNoChoicesAreFine) {
  const Sizes sizes{48, 16, 0, 4, 2};
  const Model model(sizes, DType::kBF16);
  const Routing none{Tensor::zeros({0, 2}, DType::kI32), Tensor::zeros({0, 2}, DType::kF32)};
  run(GetParam(), 2, Tensor::zeros({0, 48}, DType::kF32), none, model.packed, Tensor::zeros({0, 48}, DType::kF32));
  Routing padding = random_routing(2, sizes, 3);
  for (int64_t i = 0; i < 4; ++i) padding.ids.data<int32_t>()[i] = -1;
  const Tensor start = random_matrix(2, 48, 2);
  const Tensor y = run(GetParam(), 2, random_matrix(2, 48, 1), padding, model.packed, start);
  EXPECT_EQ(std::memcmp(y.raw(), start.raw(), 2 * 48 * 4), 0);
}

// More results than the cache block holds: 2100 rows of 1056 columns are combined in two blocks.
TEST_P(ExpertsOnIsa, ManyTokensAreCombinedInBlocksOfColumns) {
  if (GetParam() == Isa::kScalar) GTEST_SKIP() << "too slow in the reference";
  const Sizes sizes{1056, 16, 16, 2, 2};
  const Model model(sizes, DType::kBF16);
  const Tensor x = random_matrix(700, 1056, 1), start = random_matrix(700, 1056, 2);
  const Routing routing = random_routing(700, sizes, 3);
  const Tensor y = run(GetParam(), 3, x, routing, model.packed, start);
  for (const int64_t t : {0, 350, 699}) {
    const Routing one{routing.ids.rows(t, t + 1), routing.weights.rows(t, t + 1)};
    const Tensor alone = run(GetParam(), 1, x.rows(t, t + 1), one, model.packed, start.rows(t, t + 1));
    EXPECT_EQ(std::memcmp(y.data<float>() + t * 1056, alone.raw(), 1056 * 4), 0) << "token " << t;
  }
}

TEST_P(ExpertsOnIsa, NanStaysWithItsToken) {
  const Sizes sizes{48, 16, 16, 4, 2};
  const Model model(sizes, DType::kBF16);
  Tensor x = random_matrix(13, 48, 1);
  x.data<float>()[5 * 48 + 3] = std::nanf("");
  const Tensor y = run(GetParam(), 2, x, random_routing(13, sizes, 3), model.packed, random_matrix(13, 48, 2));
  for (int64_t t = 0; t < 13; ++t)
    for (int64_t i = 0; i < 48; ++i) ASSERT_EQ(std::isnan(y.data<float>()[t * 48 + i]), t == 5) << t << " " << i;
}

INSTANTIATE_TEST_SUITE_P(Cpu, ExpertsOnIsa, testing::ValuesIn(available_isas()),
                         [](const auto& info) { return weir::cpu::name(info.param); });

}  // namespace
}  // namespace weir::ops
