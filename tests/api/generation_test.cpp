#include "weir/api/generation.h"

#include <gtest/gtest.h>

#include "tests/api/tiny_model.h"
#include "weir/api/endpoints.h"
#include "weir/api/prompt.h"

namespace weir {
namespace {

Generation completion(const std::string& body) {
  return {read_completion_request(body, tiny_model(), tiny_options()), tiny_model(), tiny_options(), AnswerId{"1", 99}};
}
Generation chat(const std::string& fields, const std::string& text = "hi") {
  const std::string body = R"({"messages": [{"role": "user", "content": ")" + text + "\"}]" + (fields.empty() ? "" : ", " + fields) + "}";
  return {read_chat_request(body, tiny_model(), tiny_options()), tiny_model(), tiny_options(), AnswerId{"1", 99}};
}

std::vector<Token> encode(std::string_view text) { return tiny_model().tokenizer->encode(text); }

RequestOutput out(std::vector<Token> tokens, std::optional<FinishReason> reason = {}) {
  RequestOutput output;
  output.tokens = std::move(tokens);
  if (reason) output.finish = Finish{*reason, {}, {}};
  return output;
}

// Logprobs -0.25 for the token itself and falling ones for `alternatives`.
PositionLogprobs position(Token token, std::vector<Token> alternatives) {
  PositionLogprobs all = {{token, -0.25f, 1}};
  float logprob = -0.25f;
  int32_t rank = 1;
  for (const Token other : alternatives) all.push_back({other, logprob, rank++}), logprob -= 1;
  return all;
}

std::vector<Json> parsed(const std::vector<std::string>& chunks) {
  std::vector<Json> all;
  for (const std::string& chunk : chunks) all.push_back(parse_json(chunk, "chunk"));
  return all;
}

template <class Call>
FieldError refusal(Call call) {
  try {
    call();
  } catch (const FieldError& error) {
    return error;
  }
  ADD_FAILURE() << "accepted";
  return {ErrorCode::kInternal, "", ""};
}

TEST(Generation, ACompletionHasOpenAisShape) {
  Generation generation = completion(R"({"prompt": "red blue", "max_tokens": 3})");
  const Request request = generation.engine_request(0, RequestId{5});
  EXPECT_EQ(request.prompt, encode("red blue"));
  EXPECT_EQ(request.sampling->max_tokens, 3);
  EXPECT_EQ(index(request.id), 5u);
  RequestOutput output = out(encode(" green"), FinishReason::kLength);
  output.usage = {.cached_tokens = 1, .accepted_drafts = 2, .rejected_drafts = 3};  // one of the two came behind the end
  EXPECT_FALSE(generation.push(0, output));
  ASSERT_TRUE(generation.finished());
  const auto prompt_tokens = encode("red blue").size(), answer_tokens = encode(" green").size();
  EXPECT_EQ(generation.take_response(),
            Json({{"id", "cmpl-1"},
                  {"object", "text_completion"},
                  {"created", 99},
                  {"model", "tiny"},
                  {"choices",
                   Json::array(
                       {{{"index", 0}, {"text", " green"}, {"logprobs", nullptr}, {"finish_reason", "length"}, {"stop_reason", nullptr}}})},
                  {"usage",
                   {{"prompt_tokens", prompt_tokens},
                    {"total_tokens", prompt_tokens + answer_tokens},
                    {"completion_tokens", answer_tokens},
                    {"prompt_tokens_details", {{"cached_tokens", 1}}},
                    {"completion_tokens_details", {{"accepted_prediction_tokens", 1}, {"rejected_prediction_tokens", 3}}}}}}));
}

TEST(Generation, ChoicesCountSamplesWithinPromptsAndSharePromptTokens) {
  Generation generation = completion(R"({"prompt": ["a", "b"], "n": 3, "seed": 10})");
  ASSERT_EQ(generation.num_choices(), 6);
  EXPECT_EQ(generation.engine_request(2, {}).prompt, encode("a"));
  EXPECT_EQ(generation.engine_request(3, {}).prompt, encode("b"));
  EXPECT_EQ(generation.engine_request(3, {}).sampling->seed, 10u);
  EXPECT_EQ(generation.engine_request(5, {}).sampling->seed, 12u);
  for (int i = 0; i < 6; ++i) generation.push(i, out(encode("x"), FinishReason::kStop));
  const Json response = generation.take_response();
  EXPECT_EQ(response["choices"].size(), 6u);
  EXPECT_EQ(response["choices"][4]["index"], 4);
  EXPECT_EQ(response["usage"]["prompt_tokens"], 2);
  EXPECT_EQ(response["usage"]["completion_tokens"], 6);
}

TEST(Generation, CompletionsDefaultTo16TokensOrWhatIsLeft) {
  EXPECT_EQ(completion(R"({"prompt": "a"})").engine_request(0, {}).sampling->max_tokens, 16);
  Json prompt = Json::array();
  for (int i = 0; i < 505; ++i) prompt.push_back(1);
  EXPECT_EQ(completion(dump_json({{"prompt", prompt}})).engine_request(0, {}).sampling->max_tokens, 7);
}

TEST(Generation, ChatDefaultsToTheRestOfTheContext) {
  const Request request = chat("").engine_request(0, {});
  EXPECT_EQ(request.sampling->max_tokens, 512 - static_cast<int32_t>(request.prompt.size()));
}

TEST(Generation, APromptThatDoesNotFitNamesBothLengths) {
  Json prompt = Json::array();
  for (int i = 0; i < 512; ++i) prompt.push_back(1);
  const auto full = refusal([&] { completion(dump_json({{"prompt", prompt}})); });
  EXPECT_EQ(full.param, "prompt");
  EXPECT_NE(std::string(full.what()).find("maximum context length is 512 tokens"), std::string::npos);
  EXPECT_NE(std::string(full.what()).find("513 tokens (512 in the prompt, 1 in the completion)"), std::string::npos) << full.what();
  completion(dump_json({{"prompt", prompt}, {"max_tokens", 0}, {"echo", true}}));  // nothing is generated, so it fits
  refusal([&] { completion(R"({"prompt": "x", "max_tokens": 512})"); });
  EXPECT_EQ(refusal([&] { chat(R"("max_tokens": 512)"); }).param, "messages");
  refusal([&] { completion(dump_json({{"prompt", std::string(1'000'000, 'x')}})); });
}

TEST(Generation, RangesOfTheSamplerAreFieldsOfTheRequest) {
  for (const char* field : {"temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"})
    EXPECT_EQ(refusal([&] { completion(concat("{\"prompt\": \"x\", \"", field, "\": -7}")); }).param, field);
  EXPECT_EQ(refusal([&] { completion(R"({"prompt": "x", "max_tokens": 4, "min_tokens": 9})"); }).param, "min_tokens");
  EXPECT_EQ(refusal([&] { completion(R"({"prompt": ""})"); }).param, "prompt");
}

TEST(Generation, StreamsACompletionInPiecesAndEndsWithTheUsage) {
  Generation generation = completion(R"({"prompt": "x", "stream": true, "stream_options": {"include_usage": true}})");
  EXPECT_TRUE(generation.take_chunks().empty());
  generation.push(0, out(encode("hello")));
  auto chunks = parsed(generation.take_chunks());
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0]["choices"][0]["text"], "hello");
  EXPECT_EQ(chunks[0]["choices"][0]["finish_reason"], nullptr);
  EXPECT_FALSE(chunks[0].contains("usage"));
  EXPECT_TRUE(generation.take_chunks().empty()) << "nothing new";
  generation.push(0, out({}, FinishReason::kAbort));
  chunks = parsed(generation.take_chunks());
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0]["choices"][0]["finish_reason"], "abort");
  EXPECT_EQ(chunks[1]["choices"], Json::array());
  EXPECT_EQ(chunks[1]["usage"]["completion_tokens"], encode("hello").size());
  EXPECT_TRUE(generation.take_chunks().empty());
}

TEST(Generation, ContinuousUsageIsInEveryChunk) {
  Generation generation =
      completion(R"({"prompt": "x", "stream": true, "stream_options": {"include_usage": true, "continuous_usage_stats": true}})");
  generation.push(0, out({encode("a")[0]}));
  EXPECT_EQ(parsed(generation.take_chunks())[0]["usage"]["completion_tokens"], 1);
}

TEST(Generation, StreamsAChatWithItsRoleFirst) {
  Generation generation = chat(R"("stream": true, "return_token_ids": true, "chat_template_kwargs": {"enable_thinking": false})");
  generation.push(0, out(encode("yes"), FinishReason::kStop));
  const auto chunks = parsed(generation.take_chunks());
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0]["object"], "chat.completion.chunk");
  EXPECT_EQ(chunks[0]["id"], "chatcmpl-1");
  EXPECT_EQ(chunks[0]["choices"][0]["delta"], Json({{"role", "assistant"}, {"content", ""}}));
  EXPECT_EQ(chunks[0]["prompt_token_ids"].size(), generation.engine_request(0, {}).prompt.size());
  EXPECT_FALSE(chunks[1].contains("prompt_token_ids"));
  EXPECT_EQ(chunks[1]["choices"][0]["delta"], Json({{"content", "yes"}}));
  EXPECT_EQ(chunks[1]["choices"][0]["token_ids"], Json(encode("yes")));
  EXPECT_EQ(chunks[1]["choices"][0]["finish_reason"], "stop");
}

TEST(Generation, AThoughtHasTwoNamesAndItsOwnCount) {
  Generation generation = chat("");
  generation.push(0, out(encode("hm\n</think>\n\nyes"), FinishReason::kStop));
  const Json response = generation.take_response();
  const Json& message = response["choices"][0]["message"];
  EXPECT_EQ(message["content"], "yes");
  EXPECT_EQ(message["reasoning"], "hm");
  EXPECT_EQ(message["reasoning_content"], "hm");
  EXPECT_EQ(response["usage"]["completion_tokens_details"]["reasoning_tokens"], encode("hm\n").size());
}

TEST(Generation, AnUnfinishedThoughtHasNoContent) {
  Generation generation = chat("");
  generation.push(0, out(encode("hm"), FinishReason::kLength));
  const Json response = generation.take_response();
  const Json& message = response["choices"][0]["message"];
  EXPECT_EQ(message["content"], nullptr);
  EXPECT_EQ(message["reasoning"], "hm");
}

TEST(Generation, WithoutThinkingEverythingIsContent) {
  Generation generation = chat(R"("chat_template_kwargs": {"enable_thinking": false})");
  generation.push(0, out(encode("yes"), FinishReason::kStop));
  const Json response = generation.take_response();
  EXPECT_EQ(response["choices"][0]["message"]["content"], "yes");
  EXPECT_EQ(response["choices"][0]["message"]["reasoning"], nullptr);
}

TEST(Generation, CompletionLogprobsHaveOpenAisFourLists) {
  Generation generation = completion(R"({"prompt": "x", "logprobs": 1, "max_tokens": 2})");
  const Token a = encode("a")[0], e = encode("b")[0];
  RequestOutput output = out({a, e}, FinishReason::kLength);
  output.logprobs = {position(a, {a}), position(e, {a})};
  output.logprobs[1][0].logprob = -std::numeric_limits<float>::infinity();
  generation.push(0, output);
  EXPECT_EQ(generation.take_response()["choices"][0]["logprobs"],
            Json({{"text_offset", {0, 1}},
                  {"token_logprobs", {-0.25, -9999.0}},
                  {"tokens", {"a", "b"}},
                  {"top_logprobs", {{{"a", -0.25}}, {{"b", -9999.0}, {"a", -0.25}}}}}));
}

TEST(Generation, LogprobsOfAStreamAreThoseOfTheWholeInPieces) {
  Generation generation = completion(R"({"prompt": "x", "logprobs": 0, "stream": true, "max_tokens": 9})");
  Json tokens = Json::array(), offsets = Json::array();
  std::string text;
  const auto all = encode("né 🦊 b");
  for (size_t i = 0; i < all.size(); ++i) {
    RequestOutput output = out({all[i]}, i + 1 == all.size() ? std::optional(FinishReason::kLength) : std::nullopt);
    output.logprobs = {position(all[i], {})};
    generation.push(0, output);
    for (const Json& chunk : parsed(generation.take_chunks())) {
      const Json& choice = chunk["choices"][0];
      text += choice["text"].get<std::string>();
      for (const Json& token : choice["logprobs"]["tokens"]) tokens.push_back(token);
      for (const Json& offset : choice["logprobs"]["text_offset"]) offsets.push_back(offset);
    }
  }
  EXPECT_EQ(text, "né 🦊 b");
  EXPECT_EQ(tokens.size(), all.size());
  EXPECT_EQ(offsets[0], 0);
  EXPECT_TRUE(std::is_sorted(offsets.begin(), offsets.end()));
}

TEST(Generation, EchoWithLogprobsScoresThePromptFirst) {
  Generation generation = completion(R"({"prompt": "red blue", "logprobs": 1, "echo": true, "max_tokens": 0})");
  EXPECT_TRUE(generation.engine_request(0, {}).prompt_only);
  const auto prompt = encode("red blue");
  RequestOutput output = out({}, FinishReason::kLength);
  for (size_t i = 1; i < prompt.size(); ++i) output.prompt_logprobs.push_back(position(prompt[i], {prompt[0]}));
  generation.push(0, output);
  const Json response = generation.take_response();
  const Json& choice = response["choices"][0];
  EXPECT_EQ(choice["text"], "red blue");
  EXPECT_EQ(choice["logprobs"]["tokens"].size(), prompt.size());
  EXPECT_EQ(choice["logprobs"]["token_logprobs"][0], nullptr);
  EXPECT_EQ(choice["logprobs"]["top_logprobs"][0], nullptr);
  EXPECT_EQ(choice["logprobs"]["token_logprobs"][1], -0.25);
  EXPECT_FALSE(choice.contains("prompt_logprobs"));
  EXPECT_EQ(response["usage"]["completion_tokens"], 0);
}

TEST(Generation, AStreamedEchoWaitsForTheLogprobsOfThePrompt) {
  Generation generation = completion(R"({"prompt": [5, 6], "logprobs": 0, "echo": true, "stream": true})");
  EXPECT_TRUE(generation.take_chunks().empty());
  RequestOutput output = out({7});
  output.prompt_logprobs = {position(6, {})};
  output.logprobs = {position(7, {})};
  generation.push(0, output);
  const auto chunks = parsed(generation.take_chunks());
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0]["choices"][0]["logprobs"]["tokens"].size(), 3u);
  EXPECT_TRUE(
      chunks[0]["choices"][0]["text"].get<std::string>().starts_with(tiny_model().tokenizer->decode(std::vector<Token>{5, 6}, false)));
}

TEST(Generation, PromptLogprobsAreByTokenIdWithRanks) {
  Generation generation = completion(R"({"prompt": [5, 6], "prompt_logprobs": 1, "max_tokens": 1})");
  RequestOutput output = out({7}, FinishReason::kLength);
  output.prompt_logprobs = {{{6, -2.0f, 9}, {8, -0.5f, 1}}};
  generation.push(0, output);
  const Json logprobs = generation.take_response()["choices"][0]["prompt_logprobs"];
  EXPECT_EQ(logprobs[0], nullptr);
  EXPECT_EQ(logprobs[1]["6"]["rank"], 9);
  EXPECT_EQ(logprobs[1]["8"]["logprob"], -0.5);
  EXPECT_EQ(logprobs[1]["8"]["decoded_token"], tiny_model().tokenizer->token_text(8));
}

TEST(Generation, ChatLogprobsCarryBytesAndTheMostLikelyAlternatives) {
  Generation generation = chat(R"("logprobs": true, "top_logprobs": 1, "chat_template_kwargs": {"enable_thinking": false})");
  const Token a = encode("a")[0], b = encode("b")[0];
  RequestOutput output = out({a}, FinishReason::kStop);
  output.logprobs = {{{a, -3.0f, 2}, {b, -0.5f, 1}}};
  generation.push(0, output);
  EXPECT_EQ(generation.take_response()["choices"][0]["logprobs"],
            Json({{"content", Json::array({{{"token", "a"},
                                            {"logprob", -3.0},
                                            {"bytes", {97}},
                                            {"top_logprobs", Json::array({{{"token", "b"}, {"logprob", -0.5}, {"bytes", {98}}}})}}})}}));
}

TEST(Generation, TokensOfLogprobsMayBeSpelledAsIds) {
  Generation generation = completion(R"({"prompt": "x", "logprobs": 0, "max_tokens": 1, "return_tokens_as_token_ids": true})");
  RequestOutput output = out({7}, FinishReason::kLength);
  output.logprobs = {position(7, {})};
  generation.push(0, output);
  EXPECT_EQ(generation.take_response()["choices"][0]["logprobs"]["tokens"][0], "token_id:7");
}

TEST(Generation, AStopStringAsksForAnAbortAndIsTheStopReason) {
  Generation generation = completion(R"({"prompt": "x", "stop": ["END"], "max_tokens": 50})");
  EXPECT_TRUE(generation.push(0, out(encode("before END after"))));
  const Json response = generation.take_response();
  EXPECT_EQ(response["choices"][0]["text"], "before ");
  EXPECT_EQ(response["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(response["choices"][0]["stop_reason"], "END");
}

TEST(Generation, AFailureOfTheEngineEndsTheAnswer) {
  Generation plain = completion(R"({"prompt": "x"})");
  RequestOutput output = out({}, FinishReason::kError);
  output.finish->error = "a step failed";
  plain.push(0, output);
  EXPECT_EQ(plain.failure(), "a step failed");
  Generation streamed = completion(R"({"prompt": "x", "stream": true})");
  streamed.push(0, output);
  EXPECT_EQ(parsed(streamed.take_chunks())[0]["error"]["message"], "a step failed");
}

TEST(Generation, ContinuesTheFinalMessage) {
  const std::string body = R"({"messages": [{"role": "user", "content": "count"}, {"role": "assistant", "content": "one, two, "}],
    "continue_final_message": true, "echo": true, "chat_template_kwargs": {"enable_thinking": false}})";
  Generation generation{read_chat_request(body, tiny_model(), tiny_options()), tiny_model(), tiny_options(), AnswerId{"1", 99}};
  const std::string prompt = tiny_model().tokenizer->decode(generation.engine_request(0, {}).prompt, false);
  EXPECT_TRUE(prompt.ends_with("one, two,")) << prompt;  // the template trims the content
  generation.push(0, out(encode("three"), FinishReason::kStop));
  EXPECT_EQ(generation.take_response()["choices"][0]["message"]["content"], "one, two, three");
}

TEST(Prompt, OnlyTheLastTurnOpensAThought) {
  EXPECT_TRUE(ends_inside_thought("<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n<think>\n"));
  EXPECT_FALSE(ends_inside_thought("<|im_start|>assistant\n<think>\n\n</think>\n\n"));
  EXPECT_FALSE(ends_inside_thought("<|im_start|>user\nwhat is <think>?<|im_end|>\n<|im_start|>assistant\n"));
  EXPECT_TRUE(ends_inside_thought("a </think> b <think> c"));
  EXPECT_FALSE(ends_inside_thought(""));
}

TEST(Prompt, ATemplateThatRefusesIsABadRequestAboutTheMessages) {
  const std::string body = R"({"messages": [{"role": "robot", "content": "x"}]})";
  const auto error =
      refusal([&] { Generation(read_chat_request(body, tiny_model(), tiny_options()), tiny_model(), tiny_options(), AnswerId{"1", 99}); });
  EXPECT_EQ(error.param, "messages");
  EXPECT_NE(std::string(error.what()).find("Unexpected message role"), std::string::npos);
}

}  // namespace
}  // namespace weir
