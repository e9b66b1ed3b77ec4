// weir-tiny's draft head on its evaluation set, measured as its model card did: along the references that greedy decoding reproduces, three
// drafts behind every token, each counted when those before it were right.
#include <gtest/gtest.h>

#include <array>
#include <fstream>

#include "tests/runtime/golden_model.h"
#include "weir/base/json.h"
#include "weir/text/chat_template.h"
#include "weir/text/tokenizer.h"

namespace weir {
namespace {

const std::string kModel = WEIR_SOURCE_DIR "/models/weir-tiny";

class ModelCard : public testing::TestWithParam<const char*> {
 protected:
  struct Line {
    std::vector<Token> tokens;
    size_t prompt;
  };

  std::vector<Line> lines() const {
    const auto tokenizer = Tokenizer::load(kModel);
    const ChatTemplate chat = ChatTemplate::load(kModel);
    std::ifstream file(kModel + "/eval/" + GetParam() + ".jsonl");
    std::vector<Line> out;
    for (std::string text; std::getline(file, text);) {
      const Json line = parse_json(text, GetParam());
      Json variables = line.value("chat_template_kwargs", Json::object());
      variables["messages"] = line.at("messages");
      if (line.contains("tools")) variables["tools"] = line.at("tools");
      variables["add_generation_prompt"] = true;
      std::vector<Token> tokens = tokenizer->encode(chat.render(variables));
      const std::vector<Token> answer = tokenizer->encode(line.at("expected_raw").get<std::string>());
      const size_t prompt = tokens.size();
      tokens.insert(tokens.end(), answer.begin(), answer.end());
      out.push_back({std::move(tokens), prompt});
    }
    return out;
  }
};

TEST_P(ModelCard, DraftsAreAcceptedAsOftenAsItSays) {
  GoldenModel model(kModel);
  std::array<double, 3> tried{}, right{};
  for (const Line& line : lines()) {
    const std::vector<Token>& ids = line.tokens;
    const auto n = static_cast<int32_t>(ids.size());
    const auto logits = model.prefill(0, ids, 0);
    bool exact = true;
    for (size_t t = line.prompt; t < ids.size(); ++t) exact &= GoldenModel::argmax(logits[t - 1]) == ids[t];
    if (!exact) continue;
    std::vector<Token> next(ids.begin() + 1, ids.end());
    next.push_back(ids.back());
    const GoldenModel::Drafted first = model.draft(GoldenModel::row(0, 0, ids), next);
    // Backwards, since the drafts behind a token write over the head's keys and values of the tokens after it.
    for (int32_t i = n - 3; i >= static_cast<int32_t>(line.prompt) - 2; --i) {
      std::vector<float> hidden = first.hidden[static_cast<size_t>(i)];
      Token draft = GoldenModel::argmax(first.logits[static_cast<size_t>(i)]);
      for (int32_t d = 0; d < 3 && i + 2 + d < n; ++d) {
        ++tried[static_cast<size_t>(d)];
        if (draft != ids[static_cast<size_t>(i + 2 + d)]) break;
        ++right[static_cast<size_t>(d)];
        const auto further = model.draft(GoldenModel::row(0, i + 1 + d, {draft}), {draft}, hidden);
        hidden = further.hidden[0];
        draft = GoldenModel::argmax(further.logits[0]);
      }
    }
  }
  const Json card = read_json_file(kModel + "/eval_results.json").at("bf16_weights").at(GetParam());
  ASSERT_GT(tried[0], 300);
  double kept = 1, accepted = 0;
  for (size_t d = 0; d < 3; ++d) {
    EXPECT_NEAR(right[d] / tried[d], card.at("mtp").at(d).get<double>(), 0.01) << "draft " << d + 1 << " of " << tried[d];
    kept *= right[d] / tried[d];
    accepted += kept;
  }
  const auto wanted = card.at("mtp_mean_accepted").get<double>();
  EXPECT_NEAR(accepted, wanted, 0.02 * wanted);
}

INSTANTIATE_TEST_SUITE_P(Tasks, ModelCard, testing::Values("mul", "facts"), [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace weir
