// Pages of int8 and states of BF16: close to the model that keeps both as they are, and as independent of chunks and batches.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/runtime/golden_model.h"

namespace weir {
namespace {

constexpr CacheTypes kNarrow{.kv = DType::kI8, .state = DType::kBF16};

std::vector<Token> prompt_of(const std::string& name) {
  const GoldenReference reference(name);
  return reference.ints("text.1.input_ids");
}

double relative_error(const std::vector<float>& got, const std::vector<float>& want) {
  double error = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    error += std::pow(double(got[i]) - double(want[i]), 2);
    size += std::pow(double(want[i]), 2);
  }
  return std::sqrt(error / size);
}

class NarrowCache : public testing::TestWithParam<const char*> {};

TEST_P(NarrowCache, LogitsStayClose) {
  const std::vector<Token> prompt = prompt_of(GetParam());
  GoldenModel exact(golden_dir(GetParam()), DType::kF32, CacheTypes{.kv = DType::kF32}, 1);
  const auto want = exact.prefill(0, prompt, 0);
  for (const CacheTypes& types : {CacheTypes{.kv = DType::kI8}, CacheTypes{.kv = DType::kF32, .state = DType::kBF16}, kNarrow}) {
    GoldenModel narrow(golden_dir(GetParam()), DType::kF32, types, 1);
    const auto got = narrow.prefill(0, prompt, 0);
    std::vector<double> errors;
    for (size_t t = 0; t < want.size(); ++t) errors.push_back(relative_error(got[t], want[t]));
    std::sort(errors.begin(), errors.end());
    // A token near the border between two experts may go to the other one; what follows it differs then.
    EXPECT_LT(errors[errors.size() / 2], 0.02) << name(types.kv) << ", " << name(types.state);
    EXPECT_LT(errors.back(), 0.5) << name(types.kv) << ", " << name(types.state);
    EXPECT_GT(errors.back(), 0) << "it is the narrow one";
  }
}

TEST_P(NarrowCache, ChunkingAndBatchingDoNotChangeABit) {
  const std::vector<Token> ids = prompt_of(GetParam());
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    GoldenModel model(golden_dir(GetParam()), compute, kNarrow, /*threads=*/2);
    const auto whole = model.prefill(0, ids, 0);
    const auto expect_same = [&](const std::vector<std::vector<float>>& got, size_t first, const std::string& what) {
      for (size_t t = 0; t < ids.size(); ++t)
        ASSERT_EQ(std::memcmp(got[first + t].data(), whole[t].data(), whole[t].size() * sizeof(float)), 0) << what << ", token " << t;
    };
    for (const int32_t chunk : {1, 7, 65}) expect_same(model.prefill(1, ids, chunk), 0, concat("chunk ", chunk));
    const std::vector<Token> other(ids.begin(), ids.begin() + 9);
    expect_same(model.step({GoldenModel::row(2, 0, other), GoldenModel::row(3, 0, ids)}), other.size(), "batch");
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, NarrowCache, testing::Values("moe", "dense", "real_heads"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace weir
