// How matrices of a checkpoint are kept: coded where their weights allow it, and once more rounded for products that may be approximate.
#include "weir/nn/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>

#include "checkpoint_maker.h"
#include "weir/base/error.h"

namespace weir {
namespace {

constexpr int64_t kRows = 300, kColumns = 71;  // neither whole tiles nor whole steps

std::vector<uint16_t> random_rows() {
  std::mt19937 rng(5);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  std::vector<uint16_t> out;
  for (int64_t i = 0; i < kRows * kColumns; ++i) out.push_back(f32_to_bf16(normal(rng) * (i < kColumns ? 100.0f : 0.1f)));
  std::fill_n(out.begin() + 2 * kColumns, kColumns, uint16_t{0});  // a row of a padded vocabulary
  return out;
}

struct Loaded {
  explicit Loaded(const std::vector<uint16_t>& rows)
      : checkpoint(CheckpointMaker().add<uint16_t>("lm_head.weight", DType::kBF16, {kRows, kColumns}, rows).open("config.json", "{}")),
        reader(checkpoint),
        loader(reader, DType::kBF16, pool, {}),
        matrix(loader.matrix({{"lm_head.weight", kRows}}, kColumns)) {}

  ThreadPool pool{1, /*pin=*/false};
  Checkpoint checkpoint;
  WeightReader reader;
  Loader loader;
  ops::PackedMatrix matrix;
};

TEST(LoaderRounded, GivesTheProductsOfTheMatrixWithinTheStepsOfAByte) {
  Loaded loaded(random_rows());
  const ops::PackedMatrix rounded = loaded.loader.rounded("lm_head.weight", loaded.matrix);
  ASSERT_EQ(rounded.dtype(), DType::kI8);

  Arena arena(size_t{8} << 20);
  ops::Context ctx{loaded.pool, arena};
  std::mt19937 rng(6);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  const Tensor x = Tensor::zeros({4, kColumns}, DType::kF32);
  for (int64_t i = 0; i < x.numel(); ++i) const_cast<float*>(x.data<float>())[i] = normal(rng);
  const Tensor exact = ops::linear(ctx, x, loaded.matrix), y = ops::linear(ctx, x, rounded);
  for (int64_t t = 0; t < 4; ++t) {
    for (int64_t n = 0; n < kRows; ++n) {
      const float scale = n == 0 ? 100.0f : 0.1f, size = scale * std::sqrt(static_cast<float>(kColumns));
      EXPECT_NEAR(y.data<float>()[t * kRows + n], exact.data<float>()[t * kRows + n], 0.04f * size) << "token " << t << ", row " << n;
    }
    EXPECT_EQ(y.data<float>()[t * kRows + 2], 0.0f);
  }
}

std::vector<float> all_of(const ops::PackedMatrix& matrix, ThreadPool& pool) {
  const Tensor rows = matrix.unpack_rows(pool, 0, matrix.n());
  return {rows.data<float>(), rows.data<float>() + rows.numel()};
}

TEST(LoaderCoded, KeepsMatricesInTwelveBitsWhoseWeightsAllowIt) {
  constexpr int64_t n = 8192, k = 256;  // more than 2 MiB, which are mapped
  std::mt19937 rng(7);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<uint16_t> alike, odd;
  for (int64_t i = 0; i < n * k; ++i) alike.push_back(f32_to_bf16(normal(rng)));
  for (int64_t i = 0; i < n * k; ++i) odd.push_back(f32_to_bf16(std::ldexp(1.0f + normal(rng), static_cast<int>(i % 200) - 100)));
  CheckpointMaker maker;
  maker.add<uint16_t>("alike.weight", DType::kBF16, {n, k}, alike).add<uint16_t>("odd.weight", DType::kBF16, {n, k}, odd);
  const Checkpoint checkpoint = maker.open("config.json", "{}");
  ThreadPool pool(2, /*pin=*/false);
  // The second time from the file that the first has written.
  const std::filesystem::path dir = std::filesystem::path(testing::TempDir()) / "weir_loader_coded";
  std::filesystem::remove_all(dir);
  std::filesystem::create_directories(dir);
  std::ofstream(dir / "config.json") << "{}";
  for (const bool from_cache : {false, true}) {
    WeightReader reader(checkpoint);
    PackedCache cache(dir / "packed", dir, "coded", PackedCache::Large::kMap);
    EXPECT_EQ(cache.reading(), from_cache);
    Loader loader(reader, DType::kBF16, pool, {});
    loader.use(ops::WeightCoding::kTwelveBits);
    loader.use(cache);
    const ops::PackedMatrix coded = loader.matrix({{"alike.weight", n}}, k), plain = loader.matrix({{"odd.weight", n}}, k);
    cache.finish();
    EXPECT_EQ(cache.reading(), from_cache) << "nothing in the file is wrong";
    EXPECT_EQ(coded.coding(), ops::WeightCoding::kTwelveBits);
    EXPECT_EQ(plain.coding(), ops::WeightCoding::kPlain);
    EXPECT_EQ(loader.num_not_coded(), 1);
    const auto mapped = cache.take_mapped();
    EXPECT_EQ(mapped.size(), from_cache ? 2u : 0u);
    for (const std::span<std::byte> memory : mapped)
      EXPECT_TRUE(memory.data() == coded.storage().raw() || memory.data() == plain.storage().raw()) << "of a matrix that is used";
    const std::vector<float> values = all_of(coded, pool), others = all_of(plain, pool);
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(values[i], bf16_to_f32(alike[i])) << i;
      ASSERT_EQ(others[i], bf16_to_f32(odd[i])) << i;
    }
  }
}

TEST(LoaderRounded, NamesTheTensorThatCannotBeRounded) {
  std::vector<uint16_t> rows = random_rows();
  rows[7 * kColumns] = f32_to_bf16(std::numeric_limits<float>::infinity());
  Loaded loaded(rows);
  try {
    loaded.loader.rounded("lm_head.weight", loaded.matrix);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("lm_head.weight"), testing::HasSubstr("row 7 holds NaN or infinity")));
  }
}

}  // namespace
}  // namespace weir
