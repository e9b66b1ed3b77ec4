// W8A8 exports against the reference's own int8 evaluation, and against themselves cut and batched.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/runtime/golden_model.h"

namespace weir {
namespace {

class Int8Golden : public testing::TestWithParam<const char*> {
 protected:
  std::string dir() const { return golden_dir(GetParam()); }
  std::vector<Token> prompt(int p) const { return reference_.ints("text." + std::to_string(p) + ".input_ids"); }

  GoldenReference reference_{GetParam()};
};

// Relative root mean square of each row.
std::vector<double> row_errors(const std::vector<std::vector<float>>& got, const std::vector<float>& want) {
  std::vector<double> out;
  const size_t width = got[0].size();
  for (size_t t = 0; t < got.size(); ++t) {
    double error = 0, size = 0;
    for (size_t i = 0; i < width; ++i) {
      error += std::pow(double(got[t][i]) - double(want[t * width + i]), 2);
      size += std::pow(double(want[t * width + i]), 2);
    }
    out.push_back(std::sqrt(error / size));
  }
  return out;
}

TEST_P(Int8Golden, LogitsAreThoseOfTheReference) {
  GoldenModel model(dir());
  std::vector<double> errors;
  for (int p = 0; p < 2; ++p) {
    const auto of_prompt = row_errors(model.prefill(p, prompt(p), 0), reference_.floats("w8a8." + std::to_string(p) + ".logits"));
    errors.insert(errors.end(), of_prompt.begin(), of_prompt.end());
  }
  std::sort(errors.begin(), errors.end());
  // Rows agree to rounding until an activation falls on the other side of a rounding boundary, which moves all rows after it a little;
  // where that happens first depends on the instruction set.
  EXPECT_LT(errors[errors.size() / 4], 1e-5);
  EXPECT_LT(errors[errors.size() / 2], 5e-3);
  EXPECT_LT(errors.back(), 0.05);
}

TEST_P(Int8Golden, GreedyTokensAreThoseOfTheReference) {
  GoldenModel model(dir());
  for (int p = 0; p < 2; ++p) {
    const std::vector<Token> want = reference_.ints("w8a8." + std::to_string(p) + ".greedy_ids");
    std::vector<float> logits = model.prefill(p, prompt(p), 64).back();
    auto at = static_cast<int32_t>(prompt(p).size());
    for (const Token token : want) {
      // Which rounding goes the other way depends on the instruction set; it may turn a choice between two tokens that are as good.
      const float best = *std::max_element(logits.begin(), logits.end());
      ASSERT_LT(best - logits[static_cast<size_t>(token)], 0.05f) << "prompt " << p << ", position " << at;
      logits = model.step({GoldenModel::row(p, at++, {token})}).back();
    }
  }
}

TEST_P(Int8Golden, ChunkingAndBatchingDoNotChangeABit) {
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    GoldenModel model(dir(), compute, /*threads=*/1);
    const std::vector<Token> ids = prompt(1), other = prompt(0);
    const auto whole = model.prefill(0, ids, 0);
    for (const int32_t chunk : {1, 7, 65}) {
      const auto cut = model.prefill(1, ids, chunk);
      for (size_t t = 0; t < ids.size(); ++t)
        ASSERT_EQ(std::memcmp(cut[t].data(), whole[t].data(), whole[t].size() * sizeof(float)), 0) << "chunk " << chunk << ", token " << t;
    }
    const auto together = model.step({GoldenModel::row(2, 0, other), GoldenModel::row(3, 0, ids)});
    for (size_t t = 0; t < ids.size(); ++t)
      ASSERT_EQ(std::memcmp(together[other.size() + t].data(), whole[t].data(), whole[t].size() * sizeof(float)), 0) << "token " << t;
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Int8Golden, testing::Values("w8a8", "w8a8_dense"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace weir
