// Matrix products: every instruction set against a reference in double precision, and the promise of ops/linear.h that a row's bits
// depend on nothing but the row.
#include "weir/ops/linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <span>

#include "weir/kernels/cpu/isa.h"
#include "weir/ops/linear_cpu.h"

namespace weir::ops {
namespace {

using weir::cpu::available_isas;
using weir::cpu::Isa;

constexpr int64_t kRowCounts[] = {1, 2, 3, 5, 7, 12, 13, 16, 17, 64, 150};  // the last in two runs of panels, on AMX

Tensor random_matrix(int64_t rows, int64_t columns, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  Tensor out = Tensor::zeros({rows, columns}, DType::kF32);
  for (int64_t i = 0; i < out.numel(); ++i) out.data<float>()[i] = normal(rng);
  return out;
}

float as_type(float value, DType type) { return type == DType::kBF16 ? bf16_to_f32(f32_to_bf16(value)) : value; }

PackedMatrix packed(const Tensor& weights, DType type, WeightCoding coding = WeightCoding::kPlain) {
  PackedMatrix out(weights.dim(0), weights.dim(1), type, {}, coding);
  out.pack_rows(0, weights);
  return out;
}

struct Product {
  int64_t n, k;
};

// Made once: starting a pool asks the operating system for the cores.
ThreadPool& pool_of(int threads) {
  static std::map<int, ThreadPool> pools;
  return pools.try_emplace(threads, threads, /*pin=*/false).first->second;
}

TEST(PackedMatrix, GivesBackTheRowsItHolds) {
  for (const DType type : {DType::kBF16, DType::kF32}) {
    const Tensor weights = random_matrix(37, 15, 11);
    const Tensor rows = packed(weights, type).unpack_rows(pool_of(2), 5, 36);
    ASSERT_EQ(rows.shape(), (Shape{31, 15}));
    for (int64_t i = 0; i < rows.numel(); ++i) EXPECT_EQ(rows.data<float>()[i], as_type(weights.data<float>()[5 * 15 + i], type)) << i;
  }
}

// Normal weights, and a few whose exponents have nothing to do with those.
Tensor coded_weights(int64_t n, int64_t k, unsigned seed) {
  Tensor out = random_matrix(n, k, seed);
  std::mt19937 rng(seed);
  for (int64_t t = 0; t < n; t += kTileColumns)
    for (const float rare : {1e-20f, -3e20f, 0.0f, 1e-39f})
      out.data<float>()[std::min<int64_t>(n - 1, t + int64_t(rng() % 16)) * k + int64_t(rng()) % k] = rare;
  return out;
}

TEST(CodedMatrix, HoldsEveryWeight) {
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{37, 16}, {16, 600}, {100, 1026}, {5, 64}}) {
    const Tensor weights = coded_weights(n, k, 3);
    const PackedMatrix coded = packed(weights, DType::kBF16, WeightCoding::kTwelveBits);
    ASSERT_TRUE(coded.is_whole()) << n << " x " << k;
    const Tensor rows = coded.unpack_rows(pool_of(2), 1, n);
    for (int64_t i = 0; i < rows.numel(); ++i) ASSERT_EQ(rows.data<float>()[i], as_type(weights.data<float>()[k + i], DType::kBF16)) << i;
  }
  EXPECT_LT(PackedMatrix::packed_bytes(256, 4096, DType::kBF16, WeightCoding::kTwelveBits),
            PackedMatrix::packed_bytes(256, 4096, DType::kBF16) * 76 / 100);
}

// As projections are stacked: rows of one tile come from several tensors.
TEST(CodedMatrix, IsPackedPieceByPiece) {
  const Tensor weights = coded_weights(60, 128, 4);
  PackedMatrix coded(60, 128, DType::kBF16, {}, WeightCoding::kTwelveBits);
  EXPECT_FALSE(coded.is_whole()) << "nothing is packed yet";
  for (const auto& [first, last] : {std::pair{20, 23}, {0, 4}, {4, 20}, {23, 60}})
    coded.pack_rows(pool_of(2), first, weights.rows(first, last));
  ASSERT_TRUE(coded.is_whole());
  const PackedMatrix at_once = packed(weights, DType::kBF16, WeightCoding::kTwelveBits);
  EXPECT_EQ(std::memcmp(coded.storage().raw(), at_once.storage().raw(), static_cast<size_t>(coded.nbytes())), 0);
}

TEST(CodedMatrix, SaysWhenWeightsDoNotFit) {
  Tensor weights = random_matrix(48, 256, 5);
  for (int64_t i = 0; i < 256; ++i) weights.data<float>()[20 * 256 + i] = std::ldexp(1.0f, static_cast<int>(i) - 126);
  PackedMatrix coded(48, 256, DType::kBF16, {}, WeightCoding::kTwelveBits);
  coded.pack_rows(0, weights.rows(0, 21));
  EXPECT_FALSE(coded.is_whole());
  coded.pack_rows(21, weights.rows(21, 48));
  EXPECT_FALSE(coded.is_whole()) << "the rest of the tile fits";
}

TEST(CodedMatrix, BytesFromElsewhereAreNotTrusted) {
  PackedMatrix coded = packed(coded_weights(16, 64, 6), DType::kBF16, WeightCoding::kTwelveBits);
  auto* exceptions = reinterpret_cast<uint32_t*>(coded.bytes().data()) + weir::cpu::kDictionaryWords;
  const auto holds = [&](std::initializer_list<uint32_t> words) {
    std::copy(words.begin(), words.end(), exceptions);
    return coded.is_whole();
  };
  const uint32_t none = weir::cpu::kNoException;
  EXPECT_TRUE(holds({5 << 8, (16 * 64 - 1) << 8, none}));
  EXPECT_FALSE(holds({5 << 8, 5 << 8, none})) << "not rising";
  EXPECT_FALSE(holds({16 * 64 << 8, none})) << "behind the tile";
  for (int64_t i = 0; i < weir::cpu::exception_capacity(32) + 1; ++i) exceptions[i] = static_cast<uint32_t>(i) << 8;
  EXPECT_FALSE(coded.is_whole()) << "without an end";
}

class Linear : public testing::TestWithParam<std::tuple<Isa, DType, Product>> {
 protected:
  Isa isa() const { return std::get<0>(GetParam()); }
  DType type() const { return std::get<1>(GetParam()); }
  Product product() const { return std::get<2>(GetParam()); }

  // On a pool of `threads`; y is what the result is added to (undefined: linear).
  Tensor run(int threads, const Tensor& x, const PackedMatrix& w, Tensor y = {}) {
    Arena arena(size_t{64} << 20);
    Context ctx{pool_of(threads), arena};
    Tensor out = Tensor::zeros({x.dim(0), w.n()}, DType::kF32);
    if (y.defined() && y.numel() > 0) std::memcpy(out.raw(), y.raw(), static_cast<size_t>(y.nbytes()));
    linear_cpu(weir::cpu::linear_kernels(isa()), ctx, x, w, out, y.defined());
    EXPECT_EQ(arena.used(), 0u) << "scratch must be given back";
    return out;
  }
};

TEST_P(Linear, AgreesWithDoublePrecision) {
  const auto [n, k] = product();
  const Tensor x = random_matrix(17, k, 1), weights = random_matrix(n, k, 2);
  const Tensor y = run(1, x, packed(weights, type()));
  for (int64_t t = 0; t < x.dim(0); ++t) {
    for (int64_t c = 0; c < n; ++c) {
      double want = 0, magnitude = 0;
      for (int64_t i = 0; i < k; ++i) {
        const double term = double(as_type(x.data<float>()[t * k + i], type())) * double(as_type(weights.data<float>()[c * k + i], type()));
        want += term;
        magnitude += std::abs(term);
      }
      // k additions in F32 are each off by half a unit in the last place of a partial sum that is at most `magnitude`.
      const double tolerance = 1e-7 * magnitude * std::sqrt(double(k)) + 1e-30;
      ASSERT_NEAR(y.data<float>()[t * n + c], want, tolerance) << "row " << t << " column " << c;
    }
  }
}

TEST_P(Linear, RowsDoNotDependOnTheBatchOrTheThreads) {
  const auto [n, k] = product();
  const PackedMatrix w = packed(random_matrix(n, k, 3), type());
  const Tensor x = random_matrix(150, k, 4), start = random_matrix(150, n, 5);
  const auto row_bytes = static_cast<size_t>(n) * sizeof(float);
  for (const bool add : {false, true}) {
    std::vector<Tensor> alone;
    for (int64_t t = 0; t < 150; ++t) alone.push_back(run(1, x.rows(t, t + 1), w, add ? start.rows(t, t + 1) : Tensor()));
    for (const int64_t rows : kRowCounts) {
      for (const int threads : {1, 2, 3}) {
        const int64_t first = (rows * 7) % (151 - rows);
        const Tensor y = run(threads, x.rows(first, first + rows), w, add ? start.rows(first, first + rows) : Tensor());
        for (int64_t t = 0; t < rows; ++t)
          ASSERT_EQ(std::memcmp(y.data<float>() + t * n, alone[static_cast<size_t>(first + t)].raw(), row_bytes), 0)
              << "row " << t << " of " << rows << ", " << threads << " threads, add " << add;
      }
    }
  }
}

TEST_P(Linear, AddsToTheResidual) {
  const auto [n, k] = product();
  const PackedMatrix w = packed(random_matrix(n, k, 6), type());
  const Tensor x = random_matrix(5, k, 7), start = random_matrix(5, n, 8);
  const Tensor plain = run(2, x, w), added = run(2, x, w, start);
  for (int64_t i = 0; i < plain.numel(); ++i) ASSERT_EQ(added.data<float>()[i], start.data<float>()[i] + plain.data<float>()[i]) << i;
}

TEST_P(Linear, StridedRowsAreRead) {
  const auto [n, k] = product();
  const PackedMatrix w = packed(random_matrix(n, k, 9), type());
  const Tensor wide = random_matrix(13, k + 5, 10), x = wide.columns(3, 3 + k);
  Tensor dense = Tensor::zeros({13, k}, DType::kF32);
  for (int64_t t = 0; t < 13; ++t)
    std::memcpy(dense.data<float>() + t * k, x.data<float>() + t * x.row_stride(), static_cast<size_t>(k) * 4);
  const Tensor y = run(2, x, w), want = run(2, dense, w);
  EXPECT_EQ(std::memcmp(y.raw(), want.raw(), static_cast<size_t>(y.nbytes())), 0);
}

std::string case_name(const testing::TestParamInfo<Linear::ParamType>& info) {
  const auto [isa, type, product] = info.param;
  return concat(weir::cpu::name(isa), "_", name(type), "_n", product.n, "_k", product.k);
}

INSTANTIATE_TEST_SUITE_P(Cpu, Linear,
                         testing::Combine(testing::ValuesIn(available_isas()), testing::Values(DType::kBF16, DType::kF32),
                                          testing::Values(Product{1, 1}, Product{16, 2}, Product{17, 31}, Product{33, 64}, Product{47, 33},
                                                          Product{130, 257}, Product{200, 100})),
                         case_name);

class LinearOnIsa : public testing::TestWithParam<Isa> {};

TEST_P(LinearOnIsa, NoRowsAreFine) {
  Arena arena(size_t{1} << 20);
  Context ctx{pool_of(2), arena};
  const PackedMatrix w = packed(random_matrix(40, 30, 1), DType::kBF16);
  Tensor y = Tensor::zeros({0, 40}, DType::kF32);
  linear_cpu(weir::cpu::linear_kernels(GetParam()), ctx, Tensor::zeros({0, 30}, DType::kF32), w, y, false);
}

TEST_P(LinearOnIsa, CodedWeightsGiveTheSameBits) {
  Arena arena(size_t{64} << 20);
  const Tensor x = random_matrix(600, 1026, 1);
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{70, 1026}, {32, 256}, {17, 34}, {48, 640}, {100, 8}}) {
    const Tensor weights = coded_weights(n, k, 2), start = random_matrix(600, n, 3);
    const PackedMatrix plain = packed(weights, DType::kBF16), coded = packed(weights, DType::kBF16, WeightCoding::kTwelveBits);
    ASSERT_TRUE(coded.is_whole()) << n << " x " << k;
    for (const int64_t rows : {1, 2, 5, 13, 16, 17, 31, 33, 64, 150, 600})
      for (const int threads : {1, 2})
        for (const bool add : {false, true}) {
          Context ctx{pool_of(threads), arena};
          Tensor want = Tensor::zeros({rows, n}, DType::kF32), got = Tensor::zeros({rows, n}, DType::kF32);
          for (Tensor* y : {&want, &got}) std::memcpy(y->raw(), start.raw(), static_cast<size_t>(y->nbytes()));
          const Tensor in = x.rows(0, rows).columns(0, k);
          linear_cpu(weir::cpu::linear_kernels(GetParam()), ctx, in, plain, want, add);
          linear_cpu(weir::cpu::linear_kernels(GetParam()), ctx, in, coded, got, add);
          ASSERT_EQ(std::memcmp(want.raw(), got.raw(), static_cast<size_t>(want.nbytes())), 0)
              << n << " x " << k << ", " << rows << " rows, " << threads << " threads, add " << add;
        }
  }
}

TEST_P(LinearOnIsa, NanAndInfinityStayInTheirRow) {
  Arena arena(size_t{4} << 20);
  Context ctx{pool_of(2), arena};
  const int64_t n = 70, k = 131;
  for (const DType type : {DType::kBF16, DType::kF32}) {
    const PackedMatrix w = packed(random_matrix(n, k, 1), type);
    Tensor x = random_matrix(14, k, 2);
    x.data<float>()[3 * k + 130] = std::numeric_limits<float>::quiet_NaN();
    x.data<float>()[4 * k + 7] = std::numeric_limits<float>::infinity();
    x.data<float>()[5 * k + 8] = std::bit_cast<float>(0x7f800001u);  // a NaN whose payload BF16 cannot hold
    Tensor y = Tensor::zeros({14, n}, DType::kF32);
    linear_cpu(weir::cpu::linear_kernels(GetParam()), ctx, x, w, y, false);
    for (int64_t t = 0; t < 14; ++t) {
      for (int64_t c = 0; c < n; ++c) {
        const float value = y.data<float>()[t * n + c];
        if (t == 3 || t == 5) {
          ASSERT_TRUE(std::isnan(value)) << t << " " << c;
        } else if (t == 4) {
          ASSERT_TRUE(std::isinf(value)) << c;
        } else {
          ASSERT_TRUE(std::isfinite(value)) << t << " " << c;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, LinearOnIsa, testing::ValuesIn(available_isas()),
                         [](const auto& info) { return weir::cpu::name(info.param); });

TEST(LinearOperator, TakesItsResultFromTheArena) {
  Arena arena(size_t{4} << 20);
  Context ctx{pool_of(2), arena};
  const PackedMatrix w = packed(random_matrix(64, 32, 1), DType::kBF16);
  Tensor y = linear(ctx, random_matrix(3, 32, 2), w);
  EXPECT_EQ(y.shape(), (Shape{3, 64}));
  EXPECT_EQ(arena.used(), 3u * 64 * 4);
  linear_add(ctx, random_matrix(3, 32, 2), w, y);
  EXPECT_EQ(arena.used(), 3u * 64 * 4);
}

// The element [row, column] of a packed matrix, by the layout that ops/linear_cpu.h documents.
float element(const PackedMatrix& w, int64_t row, int64_t column) {
  const bool bf16 = w.dtype() == DType::kBF16;
  const uint32_t* step = tile(w, row / kTileColumns) + (bf16 ? column / 2 : column) * kTileColumns + row % kTileColumns;
  if (!bf16) return std::bit_cast<float>(*step);
  return bf16_to_f32(static_cast<uint16_t>(column % 2 == 0 ? *step & 0xffffu : *step >> 16));
}

TEST(PackedMatrix, HoldsRowsOfEverySourceTypeWhereverTheyComeFrom) {
  ThreadPool& pool = pool_of(3);
  const int64_t n = 75, k = 131, first = 13, rows = 50;
  std::mt19937 rng(1);
  for (const DType from : {DType::kF32, DType::kBF16, DType::kF16}) {
    const int64_t size = element_size(from);
    std::vector<uint8_t> file(static_cast<size_t>(rows * k * size) + 1);
    std::vector<float> values(static_cast<size_t>(rows * k));
    for (int64_t i = 0; i < rows * k; ++i) {
      const auto bits16 = static_cast<uint16_t>(from == DType::kF16 ? rng() % 0x7c00 : (rng() % 0x100) + 0x3f00);
      const float value = from == DType::kF32   ? float(rng() % 100'000) / 777.0f
                          : from == DType::kF16 ? f16_to_f32(bits16)
                                                : bf16_to_f32(bits16);
      values[static_cast<size_t>(i)] = value;
      std::memcpy(file.data() + 1 + i * size, from == DType::kF32 ? static_cast<const void*>(&value) : &bits16, static_cast<size_t>(size));
    }
    const Tensor source(file.data() + 1, {rows, k}, from);  // at an odd address, as in a file
    for (const DType to : {DType::kBF16, DType::kF32}) {
      for (const bool threaded : {false, true}) {
        PackedMatrix w(n, k, to);
        EXPECT_EQ(w.nbytes(), PackedMatrix::packed_bytes(n, k, to));
        threaded ? w.pack_rows(pool, first, source) : w.pack_rows(first, source);
        for (int64_t r = 0; r < n; ++r)
          for (int64_t c = 0; c < k; ++c) {
            const bool inside = r >= first && r < first + rows;
            const float want = inside ? as_type(values[static_cast<size_t>((r - first) * k + c)], to) : 0.0f;
            ASSERT_EQ(element(w, r, c), want) << name(from) << " to " << name(to) << " at " << r << ", " << c;
          }
      }
    }
  }
}

TEST(PackedMatrix, ManyShareOneAllocationAndNothingElse) {
  const Tensor weights = random_matrix(20, 9, 1);
  std::vector<PackedMatrix> all = PackedMatrix::many(3, 20, 9, DType::kF32);
  ASSERT_EQ(all.size(), 3u);
  all[1].pack_rows(0, weights);
  for (int64_t r = 0; r < 20; ++r)
    for (int64_t c = 0; c < 9; ++c) {
      EXPECT_EQ(element(all[0], r, c), 0.0f);
      EXPECT_EQ(element(all[1], r, c), weights.data<float>()[r * 9 + c]);
      EXPECT_EQ(element(all[2], r, c), 0.0f);
    }
  EXPECT_EQ(all[2].nbytes(), PackedMatrix::packed_bytes(20, 9, DType::kF32));
}

}  // namespace
}  // namespace weir::ops
