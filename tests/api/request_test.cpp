#include "weir/api/request.h"

#include <gtest/gtest.h>

#include "tests/api/tiny_model.h"
#include "weir/api/endpoints.h"
#include "weir/api/errors.h"

namespace weir {
namespace {

CompletionRequest completion(const std::string& fields) {
  return read_completion_request("{\"prompt\": \"x\"" + (fields.empty() ? "" : ", " + fields) + "}", tiny_model(), tiny_options());
}

ChatRequest chat(const std::string& fields, const std::string& messages = R"([{"role": "user", "content": "hi"}])") {
  return read_chat_request("{\"messages\": " + messages + (fields.empty() ? "" : ", " + fields) + "}", tiny_model(), tiny_options());
}

// The field an error names, and its text.
template <class Call>
std::pair<std::string, std::string> refusal(Call call) {
  try {
    call();
  } catch (const FieldError& error) {
    return {error.param, error.what()};
  } catch (const Error& error) {
    return {"", error.what()};
  }
  ADD_FAILURE() << "accepted";
  return {};
}

TEST(CompletionRequest, TakesTheModelsDefaultsAndTheRequestsOwnValues) {
  const auto plain = completion("");
  EXPECT_FLOAT_EQ(plain.common.sampling.temperature, 0.6f);
  EXPECT_EQ(plain.common.sampling.top_k, 20);
  EXPECT_FALSE(plain.common.max_tokens);
  const auto own = completion(R"("temperature": 0, "top_k": -1, "top_p": 1, "min_p": 0.1, "seed": -5, "max_tokens": 7, "min_tokens": 2,
    "presence_penalty": 0.5, "frequency_penalty": -0.5, "repetition_penalty": 1.2, "ignore_eos": true, "stop_token_ids": [3, 4],
    "logit_bias": {"5": -100, "6": 1.5}, "allowed_token_ids": [7], "logprobs": 3, "prompt_logprobs": 0, "n": 2, "best_of": 2, "priority": -3)");
  const SamplingParams& s = own.common.sampling;
  EXPECT_EQ(s.temperature, 0);
  EXPECT_EQ(s.top_k, 0);
  EXPECT_EQ(s.seed, static_cast<uint64_t>(-5));
  EXPECT_EQ(s.stop_token_ids, (std::vector<Token>{3, 4}));
  EXPECT_EQ(s.logit_bias, (std::vector<std::pair<Token, float>>{{5, -100.f}, {6, 1.5f}}));
  EXPECT_EQ(s.allowed_token_ids, std::vector<Token>{7});
  EXPECT_EQ(s.logprobs, 3);
  EXPECT_EQ(s.prompt_logprobs, 0);
  EXPECT_TRUE(s.ignore_eos);
  EXPECT_EQ(own.common.max_tokens, 7);
  EXPECT_EQ(own.common.n, 2);
  EXPECT_EQ(own.common.priority, -3);
}

TEST(CompletionRequest, ACacheSaltIsAShortText) {
  EXPECT_EQ(completion(R"("cache_salt": "tenant 7")").common.cache_salt, "tenant 7");
  EXPECT_EQ(chat(R"("cache_salt": "tenant 7")").common.cache_salt, "tenant 7");
  EXPECT_EQ(completion("").common.cache_salt, "");
  EXPECT_EQ(refusal([] { completion(R"("cache_salt": "")"); }).first, "cache_salt");
  EXPECT_EQ(refusal([] { completion(R"("cache_salt": 1)"); }).first, "cache_salt");
  EXPECT_EQ(refusal([] { completion("\"cache_salt\": \"" + std::string(2000, 'x') + "\""); }).first, "cache_salt");
}

TEST(CompletionRequest, NullIsAbsentAndUnknownFieldsAreIgnored) {
  const auto request =
      completion(R"("temperature": null, "stop": null, "stream_options": null, "user": "u", "cache_salt": null, "xyz": {"a": []})");
  EXPECT_FLOAT_EQ(request.common.sampling.temperature, 0.6f);
}

TEST(CompletionRequest, PromptsComeInFourForms) {
  const auto prompts = [](const std::string& json) {
    return read_completion_request("{\"prompt\": " + json + "}", tiny_model(), tiny_options()).prompts;
  };
  EXPECT_EQ(prompts(R"("a")"), (std::vector<PromptInput>{std::string("a")}));
  EXPECT_EQ(prompts(R"(["a", "b"])"), (std::vector<PromptInput>{std::string("a"), std::string("b")}));
  EXPECT_EQ(prompts("[1, 2]"), (std::vector<PromptInput>{std::vector<Token>{1, 2}}));
  EXPECT_EQ(prompts("[[1], [2, 2047]]"), (std::vector<PromptInput>{std::vector<Token>{1}, std::vector<Token>{2, 2047}}));
}

TEST(CompletionRequest, StopIsAStringOrAList) {
  EXPECT_EQ(completion(R"("stop": "a")").common.stop, std::vector<std::string>{"a"});
  EXPECT_EQ(completion(R"("stop": ["a", "b"])").common.stop, (std::vector<std::string>{"a", "b"}));
}

TEST(CompletionRequest, WrongValuesNameTheField) {
  const std::pair<std::string, std::string> bad[] = {
      {R"("temperature": "hot")", "temperature"},
      {R"("max_tokens": 1.5)", "max_tokens"},
      {R"("max_tokens": -1)", "max_tokens"},
      {R"("max_tokens": 0)", "max_tokens"},
      {R"("max_tokens": 4294967297)", "max_tokens"},
      {R"("max_tokens": 1000000000000000000000000)", "max_tokens"},
      {R"("n": 0)", "n"},
      {R"("n": 129)", "n"},
      {R"("n": true)", "n"},
      {R"("n": 2, "best_of": 3)", "best_of"},
      {R"("top_k": -2)", "top_k"},
      {R"("stream": 1)", "stream"},
      {R"("stream_options": {})", "stream_options"},
      {R"("stop": [1])", "stop[0]"},
      {R"("stop": "")", "stop"},
      {R"("logprobs": true)", "logprobs"},
      {R"("logprobs": 21)", "logprobs"},
      {R"("logit_bias": {"x": 1})", "logit_bias[\"x\"]"},
      {R"("logit_bias": {"2048": 1})", "logit_bias[\"2048\"]"},
      {R"("logit_bias": {"1": 101})", "logit_bias[\"1\"]"},
      {R"("stop_token_ids": [2048])", "stop_token_ids[0]"},
      {R"("allowed_token_ids": [])", "allowed_token_ids"},
      {R"("seed": 1e3)", "seed"},
      {R"("stream": true, "prompt_logprobs": 1)", "prompt_logprobs"},
      {R"("response_format": {"type": "json_object"})", "response_format"},
      {R"("structured_outputs": {"regex": "a"})", "structured_outputs"},
      {R"("suffix": "x")", "suffix"},
      {R"("bad_words": [""])", "bad_words"},
      {R"("temperature": 1e300)", "temperature"},
  };
  for (const auto& [fields, param] : bad) {
    const auto [named, message] = refusal([&] { completion(fields); });
    EXPECT_EQ(named, param) << fields << ": " << message;
    EXPECT_NE(message.find(param.substr(0, param.find('['))), std::string::npos) << message;
  }
}

TEST(CompletionRequest, BadPromptsAreRefused) {
  for (const char* prompt :
       {"5", "[]", "{}", "true", "[[]", "[1, \"a\"]", "[-1]", "[2048]", "[1.5]", "[[1], 2]", "[null]", "[18446744073709551615]"})
    refusal([&] { read_completion_request(concat("{\"prompt\": ", prompt, "}"), tiny_model(), tiny_options()); });
  EXPECT_EQ(refusal([] { read_completion_request("{}", tiny_model(), tiny_options()); }).first, "prompt");
}

TEST(CompletionRequest, BodiesThatAreNoObjectAreRefused) {
  for (const char* body : {"", "{", "[]", "null", "17", "\"x\"", "{\"prompt\": \"\xff\"}", "{\"prompt\": \"x\"} x"})
    refusal([&] { read_completion_request(body, tiny_model(), tiny_options()); });
}

TEST(CompletionRequest, AMillionUnknownFieldsAreHarmless) {
  std::string body = "{\"prompt\": \"x\"";
  for (int i = 0; i < 200'000; ++i) body += ",\"k" + std::to_string(i) + "\":1";
  EXPECT_EQ(read_completion_request(body + "}", tiny_model(), tiny_options()).prompts.size(), 1u);
}

TEST(CompletionRequest, AnUnknownModelIsNotFoundAndServedOnesAreNamed) {
  try {
    completion(R"("model": "gpt-5")");
    FAIL();
  } catch (const FieldError& error) {
    EXPECT_EQ(error.code, ErrorCode::kNotFound);
    EXPECT_NE(std::string(error.what()).find("gpt-5"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("weir-tiny"), std::string::npos);
    const Json json = error_json(to_api_error(error));
    EXPECT_EQ(json["error"]["code"], 404);
    EXPECT_EQ(json["error"]["param"], "model");
    EXPECT_EQ(json["error"]["type"], "NotFoundError");
  }
  completion(R"("model": "weir-tiny")");
}

TEST(CompletionRequest, EchoWithLogprobsAsksForThePromptsToo) {
  const auto request = completion(R"("echo": true, "logprobs": 2, "max_tokens": 0)");
  EXPECT_EQ(request.common.sampling.prompt_logprobs, 2);
  EXPECT_FALSE(request.common.return_prompt_logprobs);
}

TEST(CompletionRequest, BadWordsAreForbiddenAtTheStartAndBehindASpace) {
  const auto words = completion(R"("bad_words": ["dog"])").common.sampling.bad_words;
  ASSERT_FALSE(words.empty());
  EXPECT_EQ(words[0], tiny_model().tokenizer->encode("dog"));
}

TEST(ChatRequest, MaxCompletionTokensWinsOverItsOldName) {
  EXPECT_EQ(chat(R"("max_tokens": 5, "max_completion_tokens": 9)").common.max_tokens, 9);
  EXPECT_EQ(chat(R"("max_tokens": 5)").common.max_tokens, 5);
}

TEST(ChatRequest, LogprobsIsABoolAndTopLogprobsACount) {
  EXPECT_FALSE(chat("").common.sampling.logprobs);
  EXPECT_EQ(chat(R"("logprobs": true)").common.sampling.logprobs, 0);
  EXPECT_EQ(chat(R"("logprobs": true, "top_logprobs": 4)").common.sampling.logprobs, 4);
  EXPECT_EQ(refusal([] { chat(R"("logprobs": 3)"); }).first, "logprobs");
  EXPECT_EQ(refusal([] { chat(R"("top_logprobs": 3)"); }).first, "top_logprobs");
}

TEST(ChatRequest, MessagesBecomeWhatTemplatesExpect) {
  const auto request = chat("", R"([
    {"role": "system", "content": [{"type": "text", "text": "be brief"}]},
    {"role": "user", "content": "hi", "name": "ann", "unknown": 1},
    {"role": "assistant", "content": null, "reasoning": "hm",
     "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"b\": 1, \"a\": [2]}"}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "42"}])");
  EXPECT_EQ(dump_json(request.conversation.messages),
            R"([{"role":"system","content":[{"type":"text","text":"be brief"}]},{"role":"user","content":"hi","name":"ann"},)"
            R"({"role":"assistant","content":"","reasoning":"hm","reasoning_content":"hm","tool_calls":[{"type":"function","function":)"
            R"({"name":"f","arguments":{"b":1,"a":[2]}},"id":"c1"}]},{"role":"tool","content":"42","tool_call_id":"c1"}])");
}

TEST(ChatRequest, BadMessagesNameTheirPlace) {
  const std::pair<const char*, const char*> bad[] = {
      {"[]", "messages"},
      {"\"hi\"", "messages"},
      {"[5]", "messages[0]"},
      {"[{}]", "messages[0].role"},
      {R"([{"role": "user", "content": "a"}, {"role": 3}])", "messages[1].role"},
      {R"([{"role": "user", "content": 7}])", "messages[0].content"},
      {R"([{"role": "user", "content": [{"type": "text"}]}])", "messages[0].content[0].text"},
      {R"([{"role": "user", "content": [{"type": "hologram"}]}])", "messages[0].content[0].type"},
      {R"([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}])", "messages[0].content[0]"},
      {R"([{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "data:,"}}]}])", "messages[0].content[0]"},
      {R"([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}])",
       "messages[0].tool_calls[0].function.arguments"},
  };
  for (const auto& [messages, param] : bad) EXPECT_EQ(refusal([&] { chat("", messages); }).first, param);
  EXPECT_NE(refusal([] { chat("", R"([{"role": "user", "content": [{"type": "image_url"}]}])"); }).second.find("not built: images"),
            std::string::npos);
}

TEST(ChatRequest, ToolsPassThroughAndForcingThemIsRefused) {
  const std::string tools = R"("tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}])";
  EXPECT_EQ(chat(tools + R"(, "tool_choice": "auto")").conversation.tools.size(), 1u);
  EXPECT_EQ(refusal([&] { chat(tools + R"(, "tool_choice": "required")"); }).first, "tool_choice");
  EXPECT_EQ(refusal([&] { chat(tools + R"(, "tool_choice": {"type": "function", "function": {"name": "f"}})"); }).first, "tool_choice");
  EXPECT_EQ(refusal([&] { chat(R"("tools": [{"type": "function"}])"); }).first, "tools[0].function");
}

TEST(ChatRequest, TemplateKwargsOfTheRequestWinOverTheServers) {
  ApiOptions options = tiny_options();
  options.default_chat_template_kwargs = {{"enable_thinking", false}, {"other", 1}};
  const auto request = read_chat_request(
      R"({"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {"enable_thinking": true}})", tiny_model(), options);
  EXPECT_EQ(request.conversation.template_kwargs["enable_thinking"], true);
  EXPECT_EQ(request.conversation.template_kwargs["other"], 1);
  EXPECT_EQ(refusal([] { chat(R"("chat_template_kwargs": {"messages": []})"); }).first, "chat_template_kwargs");
}

TEST(ChatRequest, ContinuingAndANewTurnExcludeEachOther) {
  EXPECT_TRUE(chat("").conversation.add_generation_prompt);
  EXPECT_FALSE(chat(R"("continue_final_message": true)").conversation.add_generation_prompt);
  EXPECT_EQ(refusal([] { chat(R"("continue_final_message": true, "add_generation_prompt": true)"); }).first, "continue_final_message");
}

TEST(ChatRequest, ResponseFormatTextIsFine) {
  chat(R"("response_format": {"type": "text"})");
  const auto [param, message] = refusal([] { chat(R"("response_format": {"type": "json_schema"})"); });
  EXPECT_EQ(param, "response_format");
  EXPECT_NE(message.find("not built: structured output"), std::string::npos);
}

TEST(Endpoints, TokenizeAndDetokenizeAreARoundTrip) {
  const Json tokenized = tokenize(R"({"prompt": "naïve 東京 <|im_start|>", "return_token_strs": true})", tiny_model(), tiny_options());
  EXPECT_EQ(tokenized["count"], tokenized["tokens"].size());
  EXPECT_EQ(tokenized["token_strs"].size(), tokenized["tokens"].size());
  EXPECT_EQ(tokenized["max_model_len"], 512);
  EXPECT_EQ(detokenize(dump_json({{"tokens", tokenized["tokens"]}}), tiny_model(), tiny_options())["prompt"], "naïve 東京 <|im_start|>");
  EXPECT_EQ(refusal([] { detokenize(R"({"tokens": [99999]})", tiny_model(), tiny_options()); }).first, "tokens[0]");
}

TEST(Endpoints, ModelsListsEveryServedName) {
  const Json models = models_json(tiny_model(), tiny_options(), 7);
  ASSERT_EQ(models["data"].size(), 2u);
  EXPECT_EQ(models["data"][1]["id"], "weir-tiny");
  EXPECT_EQ(models["data"][0]["max_model_len"], 512);
  EXPECT_THROW(model_json("x", tiny_model(), tiny_options(), 7), FieldError);
}

}  // namespace
}  // namespace weir
