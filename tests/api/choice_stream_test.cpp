#include "weir/api/choice_stream.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/api/tiny_model.h"

namespace weir {
namespace {

RequestOutput tokens_out(std::vector<Token> tokens) {
  RequestOutput out;
  out.tokens = std::move(tokens);
  return out;
}

RequestOutput last_out(std::vector<Token> tokens, FinishReason reason, std::optional<Token> stop_token = {}, std::string error = {}) {
  RequestOutput out = tokens_out(std::move(tokens));
  out.finish = Finish{reason, stop_token, std::move(error)};
  return out;
}

std::vector<Token> encode(std::string_view text) { return tiny_model().tokenizer->encode(text); }
Token token(std::string_view text) { return tiny_model().tokenizer->find(text).value(); }

struct Told {
  std::string content, reasoning;
  std::vector<Token> tokens;
  std::optional<ChoiceEnd> end;
  bool abort = false;
};

// The tokens in pieces of random sizes, taken at random moments.
Told tell(const std::vector<Token>& tokens, const ChoiceOptions& options, unsigned seed, FinishReason reason = FinishReason::kLength,
          std::optional<Token> stop_token = {}) {
  std::mt19937 rng(seed);
  ChoiceStream stream(tiny_model().tokenizer, options);
  Told told;
  const auto take = [&] {
    ChoiceDelta delta = stream.take();
    told.content += delta.content;
    told.reasoning += delta.reasoning;
    told.tokens.insert(told.tokens.end(), delta.tokens.begin(), delta.tokens.end());
    if (delta.end) {
      EXPECT_FALSE(told.end) << "two ends";
      told.end = delta.end;
    }
  };
  for (size_t at = 0; at < tokens.size() || at == 0;) {
    const size_t count = seed == 0 ? tokens.size() : std::min<size_t>(1 + rng() % 4, tokens.size() - at);
    std::vector<Token> piece(tokens.begin() + at, tokens.begin() + at + count);
    at += count;
    const bool last = at == tokens.size();
    told.abort |= stream.push(last ? last_out(std::move(piece), reason, stop_token) : tokens_out(std::move(piece)));
    if (rng() % 2) take();
    if (last) break;
  }
  take();
  EXPECT_TRUE(stream.finished());
  EXPECT_EQ(stream.usage().completion_tokens, static_cast<int32_t>(told.tokens.size()));
  return told;
}

TEST(ChoiceStream, JoinsToTheTextOfItsTokensHoweverTheyArrive) {
  const std::string text = "naïve café 東京 🦊🏽‍🚀 and a tail";
  for (unsigned seed = 0; seed < 50; ++seed) {
    const Told told = tell(encode(text), {}, seed);
    EXPECT_EQ(told.content, text);
    EXPECT_EQ(told.end->reason, FinishReason::kLength);
    EXPECT_FALSE(told.abort);
  }
}

TEST(ChoiceStream, HasNoTextWhileACharacterIsIncomplete) {
  ChoiceStream stream(tiny_model().tokenizer, {});
  const auto tokens = encode("🦊");
  ASSERT_GT(tokens.size(), 1u);
  for (size_t i = 0; i + 1 < tokens.size(); ++i) {
    stream.push(tokens_out({tokens[i]}));
    EXPECT_FALSE(stream.has_text());
    EXPECT_TRUE(stream.has_tokens());
  }
  stream.push(tokens_out({tokens.back()}));
  EXPECT_EQ(stream.take().content, "🦊");
}

TEST(ChoiceStream, StopsAtAStopStringAcrossTokensAndAsksForAnAbort) {
  ChoiceOptions options;
  options.stop = {"nowhere", "lazy dog"};
  const auto tokens = encode("the quick fox jumps over the lazy dog and runs away");
  for (unsigned seed = 1; seed < 50; ++seed) {
    const Told told = tell(tokens, options, seed);
    EXPECT_EQ(told.content, "the quick fox jumps over the ");
    EXPECT_EQ(told.end->reason, FinishReason::kStop);
    EXPECT_EQ(std::get<std::string>(told.end->stop_reason), "lazy dog");
    EXPECT_LT(told.tokens.size(), tokens.size());  // what came behind the match does not count
  }
  options.include_stop = true;
  EXPECT_EQ(tell(tokens, options, 3).content, "the quick fox jumps over the lazy dog");
}

TEST(ChoiceStream, AMatchInTheLastOutputNeedsNoAbort) {
  ChoiceOptions options;
  options.stop = {"b"};
  ChoiceStream stream(tiny_model().tokenizer, options);
  EXPECT_FALSE(stream.push(last_out(encode("a b c"), FinishReason::kLength)));
  EXPECT_EQ(stream.end()->reason, FinishReason::kStop);
  ChoiceStream early(tiny_model().tokenizer, options);
  EXPECT_TRUE(early.push(tokens_out(encode("a b c"))));
  EXPECT_FALSE(early.push(last_out(encode(" more"), FinishReason::kAbort))) << "outputs after the end are ignored";
  EXPECT_EQ(early.take().content, "a ");
}

TEST(ChoiceStream, StopStringsDoNotCountBeforeMinTokens) {
  const auto tokens = encode("one two one two one");
  ChoiceOptions options;
  options.stop = {"one"};
  options.min_tokens = 3;
  ASSERT_EQ(tokens.size(), 5u);
  const Told told = tell(tokens, options, 7);
  EXPECT_EQ(told.content, "one two one two ");
  EXPECT_EQ(told.end->reason, FinishReason::kStop);
}

TEST(ChoiceStream, HeldBackTextComesAtTheEnd) {
  ChoiceOptions options;
  options.stop = {"ab!"};
  EXPECT_EQ(tell(encode("xab"), options, 1).content, "xab");
}

TEST(ChoiceStream, AStopTokenIsNotTextUnlessAskedFor) {
  auto tokens = encode("done");
  tokens.push_back(token("<|im_end|>"));
  ChoiceOptions options;
  options.skip_special = false;
  options.stop_token_ids = {tokens.back()};
  const Told told = tell(tokens, options, 0, FinishReason::kStop, tokens.back());
  EXPECT_EQ(told.content, "done");
  EXPECT_EQ(told.tokens, tokens);
  EXPECT_EQ(std::get<Token>(told.end->stop_reason), tokens.back());
  options.include_stop = true;
  EXPECT_EQ(tell(tokens, options, 0, FinishReason::kStop, tokens.back()).content, "done<|im_end|>");
}

TEST(ChoiceStream, AnEosHasNoStopReason) {
  auto tokens = encode("done");
  tokens.push_back(token("<|im_end|>"));
  const Told told = tell(tokens, {}, 0, FinishReason::kStop, tokens.back());
  EXPECT_EQ(told.content, "done");
  EXPECT_TRUE(std::holds_alternative<std::monostate>(told.end->stop_reason));
}

TEST(ChoiceStream, SplitsAndCountsAThoughtInAnyChunking) {
  const auto tokens = encode("let me think\n</think>\n\nThe answer is 4.");
  ChoiceOptions options;
  options.split_reasoning = options.starts_thinking = true;
  for (unsigned seed = 0; seed < 30; ++seed) {
    const Told told = tell(tokens, options, seed);
    EXPECT_EQ(told.reasoning, "let me think");
    EXPECT_EQ(told.content, "The answer is 4.");
  }
  options.keep_reasoning = false;
  EXPECT_EQ(tell(tokens, options, 2).reasoning, "");
  ChoiceStream stream(tiny_model().tokenizer, options);
  stream.push(last_out(tokens, FinishReason::kLength));
  EXPECT_EQ(stream.reasoning_tokens(), static_cast<int32_t>(encode("let me think\n").size()));
}

TEST(ChoiceStream, AnUnfinishedThoughtIsReasoningOnly) {
  ChoiceOptions options;
  options.split_reasoning = options.starts_thinking = true;
  const Told told = tell(encode("still thinking"), options, 4);
  EXPECT_EQ(told.reasoning, "still thinking");
  EXPECT_EQ(told.content, "");
}

TEST(ChoiceStream, AFailureOfTheEngineIsToldWithItsText) {
  ChoiceStream stream(tiny_model().tokenizer, {});
  stream.push(last_out({}, FinishReason::kError, {}, "a step failed"));
  EXPECT_EQ(stream.take().end->error, "a step failed");
}

TEST(ChoiceStream, LogprobsStayParallelToTheTokensOfTheAnswer) {
  ChoiceOptions options;
  options.stop = {"stop"};
  ChoiceStream stream(tiny_model().tokenizer, options);
  RequestOutput out = tokens_out(encode("go until stop and never here"));
  for (const Token id : out.tokens) out.logprobs.push_back({{id, -0.5f, 1}});
  stream.push(std::move(out));
  const ChoiceDelta delta = stream.take();
  ASSERT_EQ(delta.tokens.size(), delta.logprobs.size());
  for (size_t i = 0; i < delta.tokens.size(); ++i) EXPECT_EQ(delta.logprobs[i][0].token, delta.tokens[i]);
}

}  // namespace
}  // namespace weir
