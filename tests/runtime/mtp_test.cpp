// The draft head against float32 transformers, and verification against plain decoding, on the golden checkpoints.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "tests/runtime/golden_model.h"
#include "weir/base/json.h"
#include "weir/runtime/model_runner.h"

namespace weir {
namespace {

constexpr int kPrompts = 2;

class Mtp : public testing::TestWithParam<const char*> {
 protected:
  std::string dir() const { return golden_dir(GetParam()); }
  std::vector<Token> prompt(int p) const { return reference_.ints("text." + std::to_string(p) + ".input_ids"); }
  std::vector<Token> greedy(int p) const { return reference_.ints("text." + std::to_string(p) + ".greedy_ids"); }
  std::vector<float> want(int p, const std::string& name) const { return reference_.floats("mtp." + std::to_string(p) + "." + name); }

  GoldenReference reference_{GetParam()};
};

float worst_difference(const std::vector<float>& got, const float* want) {
  float worst = 0;
  for (size_t i = 0; i < got.size(); ++i) worst = std::max(worst, std::abs(got[i] - want[i]));
  return worst;
}

TEST_P(Mtp, HiddenStatesAndDraftsAreThoseOfTransformers) {
  for (int p = 0; p < kPrompts; ++p) {
    const std::vector<Token> ids = prompt(p);
    std::vector<Token> next(ids.begin() + 1, ids.end());
    next.push_back(greedy(p)[0]);
    const std::vector<float> first = want(p, "first.hidden"), hidden = want(p, "draft_hidden"), logits = want(p, "draft_logits");
    for (const int32_t chunk : {1000, 7, 64}) {
      GoldenModel model(dir());
      const auto width = static_cast<size_t>(model.config().hidden), vocab = static_cast<size_t>(model.config().vocab_size);
      const auto n = static_cast<int32_t>(ids.size());
      GoldenModel::Drafted y;
      for (int32_t at = 0; at < n; at += chunk) {
        const int32_t end = std::min(n, at + chunk);
        y = model.draft(GoldenModel::row(0, at, {ids.begin() + at, ids.begin() + end}), {next.begin() + at, next.begin() + end});
        for (int32_t t = at; t < end; ++t)
          ASSERT_LT(worst_difference(y.hidden[static_cast<size_t>(t - at)], first.data() + static_cast<size_t>(t) * width), 1e-3f)
              << "prompt " << p << ", token " << t << ", chunk " << chunk;
      }
      const size_t drafts = logits.size() / vocab;
      ASSERT_GE(drafts, 3u);
      for (size_t j = 0; j < drafts; ++j) {
        const std::string what = "prompt " + std::to_string(p) + ", draft " + std::to_string(j) + ", chunk " + std::to_string(chunk);
        ASSERT_LT(worst_difference(y.hidden.back(), hidden.data() + j * width), 1e-3f) << what;
        ASSERT_LT(worst_difference(y.logits.back(), logits.data() + j * vocab), 1e-3f) << what;
        const Token token = GoldenModel::argmax(y.logits.back());
        y = model.draft(GoldenModel::row(0, n + static_cast<int32_t>(j), {token}), {token}, y.hidden.back());
      }
    }
  }
}

// A sequence as the engine keeps it: its tokens, its guesses, one slot and enough pages.
struct Decoding {
  int32_t seq;
  std::vector<Token> tokens, drafts = {};
  int32_t computed = 0;
  std::shared_ptr<const SamplingParams> params = std::make_shared<SamplingParams>(SamplingParams{.temperature = 0});
  size_t prompt = tokens.size();

  std::vector<Token> output() const { return {tokens.begin() + static_cast<ptrdiff_t>(prompt), tokens.end()}; }

  SeqStep row(int32_t want) const {
    SeqStep step = GoldenModel::row(seq, computed, {tokens.begin() + computed, tokens.end()});
    step.tokens.insert(step.tokens.end(), drafts.begin(), drafts.end());
    step.num_drafts = static_cast<int32_t>(drafts.size());
    while (step.pages.size() < 20) step.pages.push_back(PageId(seq * 45 + static_cast<int32_t>(step.pages.size())));
    step.want_drafts = want;
    step.sample = Sampling{.params = params,
                           .seed = 77,
                           .output_index = static_cast<int32_t>(tokens.size() - prompt),
                           .prompt_tokens = static_cast<int32_t>(prompt),
                           .history = tokens};
    return step;
  }

  void take(const RowResult& result) {
    ASSERT_EQ(result.error, "");
    tokens.insert(tokens.end(), result.tokens.begin(), result.tokens.end());
    computed = static_cast<int32_t>(tokens.size()) - 1;
    drafts.assign(result.drafts.begin(), result.drafts.end());
  }
};

std::unique_ptr<ModelRunner> make_runner(const std::string& dir) {
  auto pool = std::make_unique<ThreadPool>(2, /*pin=*/false);
  auto model = load_golden(dir, DType::kF32, *pool);
  const auto vocab = static_cast<int32_t>(model->config().vocab_size);
  return std::make_unique<ModelRunner>(std::move(model), std::move(pool),
                                       RunnerConfig{.cache = {.num_pages = GoldenModel::kPages, .num_slots = GoldenModel::kSlots},
                                                    .types = {.kv = DType::kF32},
                                                    .arena_bytes = int64_t{1} << 30,
                                                    .num_tokens = vocab,
                                                    .eos_token_ids = {}});
}

TEST_P(Mtp, DraftsAndAcceptanceAreThoseOfTransformers) {
  const Json reference = read_json_file(dir() + "/reference/reference.json");
  const auto runner = make_runner(dir());
  for (int p = 0; p < kPrompts; ++p) {
    const Json& trace = reference.at("text").at(static_cast<size_t>(p)).at("speculative");
    ASSERT_GT(trace.size(), 3u);
    Decoding decoding{.seq = p, .tokens = prompt(p)};
    const auto step = [&] {
      const StepResult result = runner->run({.id = StepId(0), .rows = {decoding.row(3)}});
      decoding.take(result.rows[0]);
      return result.rows[0].tokens;
    };
    TokenList drawn = step();
    for (const Json& want : trace) {
      ASSERT_EQ(drawn.back(), want.at("sampled").get<Token>());
      std::vector<Token> wanted = want.at("drafts").get<std::vector<Token>>();
      ASSERT_EQ(decoding.drafts, wanted);
      // The engine's rule: a row with drafts stays inside a block of the delta net.
      decoding.drafts.resize(
          std::min<size_t>(decoding.drafts.size(), static_cast<size_t>(kSlotBlock - 1 - decoding.computed % kSlotBlock)));
      const size_t cut = decoding.drafts.size();
      drawn = step();
      if (cut < wanted.size()) break;  // from here the rounds differ
      ASSERT_EQ(drawn.size(), want.at("accepted").get<size_t>() + 1);
      ASSERT_EQ(drawn.back(), want.at("bonus").get<Token>());
    }
  }
}

// Whatever the guesses are, the tokens are those of decoding one by one: sequences side by side, right guesses mixed with wrong ones.
TEST_P(Mtp, VerifyingAnyDraftsGivesThePlainTokens) {
  const std::vector<SamplingParams> kinds = {
      {.temperature = 0},
      {.temperature = 0, .repetition_penalty = 1.3f, .min_tokens = 20, .stop_token_ids = {1, 2, 3}, .logprobs = 2},
      {.temperature = 0.9f, .top_p = 0.9f, .frequency_penalty = 0.7f},
      {.temperature = 1.5f, .top_k = 40, .min_p = 0.01f, .presence_penalty = 0.5f, .logit_bias = {{5, 2.0f}}}};
  const auto runner = make_runner(dir());
  const auto start = [&](int32_t first_seq) {
    std::vector<Decoding> out;
    for (size_t k = 0; k < kinds.size(); ++k) {
      out.push_back({.seq = first_seq + static_cast<int32_t>(k), .tokens = prompt(static_cast<int>(k % 2))});
      out.back().params = std::make_shared<SamplingParams>(kinds[k]);
    }
    return out;
  };
  constexpr size_t kTokens = 70;
  std::vector<Decoding> plain = start(0), guided = start(8);
  const auto step = [&](std::vector<Decoding>& all, int32_t want) {
    StepPlan plan;
    for (const Decoding& d : all) plan.rows.push_back(d.row(want));
    const StepResult result = runner->run(plan);
    for (size_t i = 0; i < all.size(); ++i) {
      ASSERT_EQ(result.rows[i].logprobs.size(), all[i].params->logprobs ? result.rows[i].tokens.size() : 0u);
      all[i].take(result.rows[i]);
    }
  };
  while (plain[0].output().size() < kTokens + 9) step(plain, 0);
  std::mt19937 rng(9);
  int accepted = 0;
  while (std::any_of(guided.begin(), guided.end(), [](const Decoding& d) { return d.output().size() < kTokens; })) {
    for (size_t i = 0; i < guided.size(); ++i) {
      Decoding& d = guided[i];
      d.drafts.clear();
      const size_t known = d.output().size();
      if (known == 0) continue;
      const size_t most = std::min<size_t>(rng() % 9, static_cast<size_t>(kSlotBlock - 1 - d.computed % kSlotBlock));
      for (size_t j = 0; j < most && known + j < plain[i].output().size(); ++j)
        d.drafts.push_back(rng() % 5 == 0 ? static_cast<Token>(rng() % 100) : plain[i].output()[known + j]);
    }
    std::vector<size_t> before;
    for (const Decoding& d : guided) before.push_back(d.tokens.size());
    step(guided, static_cast<int32_t>(rng() % 3));
    for (size_t i = 0; i < guided.size(); ++i) {
      accepted += static_cast<int>(guided[i].tokens.size() - before[i]) - 1;
      const size_t n = std::min(guided[i].output().size(), kTokens);
      const std::vector<Token> got = guided[i].output(), want = plain[i].output();
      ASSERT_TRUE(std::equal(got.begin(), got.begin() + static_cast<ptrdiff_t>(n), want.begin())) << "sequence " << i << " after " << n;
    }
    if (std::any_of(guided.begin(), guided.end(), [](const Decoding& d) { return d.output().size() >= kTokens + 8; })) break;
  }
  EXPECT_GT(accepted, 100);
}

// The head takes tokens in late when nobody asks for guesses; what it guesses then is what it guesses when it is asked after every token.
TEST_P(Mtp, GuessesAfterAPauseAreThoseWithoutOne) {
  const auto runner = make_runner(dir());
  const std::vector<int32_t> every = {1, 2, 7, 16, 17, 33};  // sequence i asks after every so many tokens
  std::vector<Decoding> all;
  for (size_t i = 0; i < every.size(); ++i) all.push_back({.seq = static_cast<int32_t>(i), .tokens = prompt(0)});
  int compared = 0;
  for (int32_t step = 1; step <= 70; ++step) {
    StepPlan plan;
    for (size_t i = 0; i < all.size(); ++i) plan.rows.push_back(all[i].row(step % every[i] == 0 ? 3 : 0));
    const StepResult result = runner->run(plan);
    for (size_t i = 0; i < all.size(); ++i) {
      if (plan.rows[i].want_drafts > 0) {
        ASSERT_EQ(result.rows[i].drafts, result.rows[0].drafts) << "sequence " << i << ", step " << step;
        ++compared;
      }
      all[i].take(result.rows[i]);
      all[i].drafts.clear();
    }
  }
  EXPECT_GT(compared, 110);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Mtp, testing::Values("moe", "moe_fused", "moe_per_expert", "dense", "head_ratios", "real_heads"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace weir
