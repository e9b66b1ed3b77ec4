// The text model against float32 transformers (tests/golden/README.md), and against itself cut and batched in every way.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "tests/runtime/golden_model.h"

namespace weir {
namespace {

constexpr int kPrompts = 2;

class Golden : public testing::TestWithParam<const char*> {
 protected:
  std::string dir() const { return golden_dir(GetParam()); }
  std::vector<Token> prompt(int p) const { return reference_.ints("text." + std::to_string(p) + ".input_ids"); }

  GoldenReference reference_{GetParam()};
};

float worst_difference(const std::vector<std::vector<float>>& got, const std::vector<float>& want) {
  float worst = 0;
  const size_t width = got[0].size();
  for (size_t t = 0; t < got.size(); ++t)
    for (size_t i = 0; i < width; ++i) worst = std::max(worst, std::abs(got[t][i] - want[t * width + i]));
  return worst;
}

void expect_same_bits(const std::vector<float>& got, const std::vector<float>& want, const std::string& what) {
  ASSERT_EQ(got.size(), want.size());
  EXPECT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)), 0) << what;
}

TEST_P(Golden, LogitsAreThoseOfTransformers) {
  GoldenModel model(dir());
  for (int p = 0; p < kPrompts; ++p)
    EXPECT_LT(worst_difference(model.prefill(p, prompt(p), 0), reference_.floats("text." + std::to_string(p) + ".logits")), 1e-3f)
        << "prompt " << p;
}

TEST_P(Golden, GreedyTokensAreThoseOfTransformers) {
  GoldenModel model(dir());
  for (int p = 0; p < kPrompts; ++p) {
    const std::vector<Token> want = reference_.ints("text." + std::to_string(p) + ".greedy_ids");
    std::vector<Token> got = {GoldenModel::argmax(model.prefill(p, prompt(p), 64).back())};
    for (auto at = static_cast<int32_t>(prompt(p).size()); got.size() < want.size(); ++at)
      got.push_back(GoldenModel::argmax(model.step({GoldenModel::row(p, at, {got.back()})}).back()));
    EXPECT_EQ(got, want) << "prompt " << p;
  }
}

TEST_P(Golden, StatesAfterThePromptAreThoseOfTransformers) {
  GoldenModel model(dir());
  const ModelConfig& c = model.config();
  const ops::DeltaShape shape{c.k_heads, c.v_heads, c.k_dim, c.v_dim};
  const std::vector<Token> ids = prompt(1);  // the traced one
  model.prefill(3, ids, 0);
  size_t delta = 0;
  for (size_t l = 0; l < c.layers.size(); ++l) {
    if (c.layers[l] != LayerKind::kDeltaNet) continue;
    const std::string name = "text.1.gdn." + std::to_string(l);
    const std::vector<float> want = reference_.floats(name + ".state");
    const Tensor got = ops::delta_state(model.cache().delta[delta], shape, 3, static_cast<int64_t>(ids.size()));
    ASSERT_EQ(static_cast<size_t>(got.numel()), want.size());
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got.data<float>()[i], want[i], 1e-3f) << name << " at " << i;
    const std::vector<float> conv = reference_.floats(name + ".conv");  // [channels, kernel - 1]
    const Tensor ring = model.cache().conv[delta][3];                   // token t at t % R
    for (int64_t ch = 0; ch < shape.channels(); ++ch)
      for (int64_t j = 0; j < c.conv_kernel - 1; ++j) {
        const int64_t token = static_cast<int64_t>(ids.size()) - (c.conv_kernel - 1) + j;
        ASSERT_NEAR(ring.data<float>()[token % ring.dim(0) * shape.channels() + ch],
                    conv[static_cast<size_t>(ch * (c.conv_kernel - 1) + j)], 1e-3f)
            << name;
      }
    ++delta;
  }
  EXPECT_GT(delta, 0u);
}

TEST_P(Golden, ChunkingDoesNotChangeABit) {
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    GoldenModel model(dir(), compute);
    const std::vector<Token> ids = prompt(1);
    const auto whole = model.prefill(0, ids, 0);
    for (const int32_t chunk : {1, 7, 64, 65, 128}) {
      const auto cut = model.prefill(1, ids, chunk);
      for (size_t t = 0; t < ids.size(); ++t)
        expect_same_bits(cut[t], whole[t], "chunk " + std::to_string(chunk) + ", token " + std::to_string(t));
    }
  }
}

TEST_P(Golden, BatchingDoesNotChangeABit) {
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    GoldenModel model(dir(), compute);
    std::mt19937 rng(5);
    for (const int32_t batch : {3, 17}) {
      // Sequences of different lengths, each with a prompt chunk and then three single tokens, alone and then all together.
      std::vector<std::vector<Token>> ids(static_cast<size_t>(batch));
      std::vector<std::vector<std::vector<float>>> alone;
      for (auto& seq : ids) {
        seq.resize(4 + rng() % 80);
        for (Token& token : seq) token = static_cast<Token>(rng() % static_cast<uint32_t>(model.config().vocab_size));
        const auto prompt_end = static_cast<int32_t>(seq.size()) - 3;
        auto logits = model.step({GoldenModel::row(0, 0, {seq.begin(), seq.begin() + prompt_end})});
        for (int32_t i = prompt_end; i < prompt_end + 3; ++i)
          logits.push_back(model.step({GoldenModel::row(0, i, {seq[static_cast<size_t>(i)]})})[0]);
        alone.push_back(std::move(logits));
      }
      for (int part = 0; part < 4; ++part) {  // the prompts in one step, then the single tokens
        std::vector<SeqStep> rows;
        for (int32_t b = 0; b < batch; ++b) {
          const std::vector<Token>& seq = ids[static_cast<size_t>(b)];
          const auto prompt_end = static_cast<int32_t>(seq.size()) - 3;
          rows.push_back(part == 0 ? GoldenModel::row(b, 0, {seq.begin(), seq.begin() + prompt_end})
                                   : GoldenModel::row(b, prompt_end + part - 1, {seq[static_cast<size_t>(prompt_end + part - 1)]}));
        }
        const auto together = model.step(rows);
        size_t at = 0;
        for (size_t b = 0; b < ids.size(); ++b) {
          const size_t first = part == 0 ? 0 : ids[b].size() - 4 + static_cast<size_t>(part), count = part == 0 ? ids[b].size() - 3 : 1;
          for (size_t i = 0; i < count; ++i)
            expect_same_bits(together[at++], alone[b][first + i], "batch " + std::to_string(batch) + ", sequence " + std::to_string(b));
        }
      }
    }
  }
}

// A slot that has seen `ids` is read where another text leaves them, a little before its end, by two rows of one step.
TEST_P(Golden, GoingOnFromAStateAndPagesThatAreSharedDoesNotChangeABit) {
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    GoldenModel model(dir(), compute);
    std::mt19937 rng(6);
    for (const int32_t seen : {35, 64, 79, 96, 150}) {
      const int32_t shared = seen / 16 * 16;
      std::vector<Token> first(static_cast<size_t>(seen)), texts[2];
      const auto random_token = [&] { return static_cast<Token>(rng() % static_cast<uint32_t>(model.config().vocab_size)); };
      for (Token& token : first) token = random_token();
      std::vector<std::vector<float>> cold[2];
      for (size_t i = 0; i < 2; ++i) {
        texts[i].assign(first.begin(), first.begin() + shared);
        for (size_t n = 0; n < 5 + 90 * i; ++n) texts[i].push_back(random_token());
        cold[i] = model.prefill(static_cast<int32_t>(1 + i), texts[i], 0);
      }
      model.prefill(0, first, 48);
      std::vector<SeqStep> rows;
      for (int32_t i = 0; i < 2; ++i) {
        SeqStep row = GoldenModel::row(3 + i, shared, {texts[i].begin() + shared, texts[i].end()});
        std::copy_n(GoldenModel::row(0, 0, first).pages.begin(), shared / 16, row.pages.begin());
        row.state_read = SlotId(0);
        rows.push_back(std::move(row));
      }
      const auto warm = model.step(rows);
      size_t at = 0;
      for (size_t i = 0; i < 2; ++i)
        for (size_t t = static_cast<size_t>(shared); t < texts[i].size(); ++t)
          expect_same_bits(warm[at++], cold[i][t],
                           "seen " + std::to_string(seen) + ", text " + std::to_string(i) + ", token " + std::to_string(t));
    }
  }
}

TEST_P(Golden, Bfloat16StaysNearTheReference) {
  GoldenModel model(dir(), DType::kBF16);
  const std::vector<float> want = reference_.floats("text.0.logits");
  const auto got = model.prefill(0, prompt(0), 0);
  std::vector<double> row_errors;  // relative root mean square; the median, because one router flip moves all later rows
  for (size_t t = 0; t < got.size(); ++t) {
    double error = 0, size = 0;
    for (size_t i = 0; i < got[t].size(); ++i) {
      error += std::pow(got[t][i] - want[t * got[t].size() + i], 2);
      size += std::pow(want[t * got[t].size() + i], 2);
    }
    row_errors.push_back(std::sqrt(error / size));
  }
  std::sort(row_errors.begin(), row_errors.end());
  EXPECT_LT(row_errors[row_errors.size() / 2], 0.03);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Golden,
                         testing::Values("moe", "moe_fused", "moe_per_expert", "moe_tied", "dense", "dense_tied", "head_ratios",
                                         "real_heads", "float32", "long"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace weir
