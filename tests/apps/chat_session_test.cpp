#include "weir/apps/chat_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "weir/base/error.h"

namespace weir {
namespace {

using testing::HasSubstr;

Json body(const ChatSession& session) { return parse_json(session.request_body(), "body"); }

std::string chunk(const char* delta) { return concat(R"(data: {"choices":[{"index":0,"delta":)", delta, R"(,"finish_reason":null}]})"); }

TEST(ChatSession, SendsTheWholeConversation) {
  ChatSession session({.model = "m", .system = "be brief"});
  session.ask("one");
  session.answered("1");
  session.ask("two");
  const Json want =
      Json::parse(R"([{"role":"system","content":"be brief"},{"role":"user","content":"one"},{"role":"assistant","content":"1"},
                                    {"role":"user","content":"two"}])");
  EXPECT_EQ(body(session)["messages"], want);
  EXPECT_EQ(body(session)["model"], "m");
  EXPECT_EQ(body(session)["stream"], true);
}

TEST(ChatSession, AnUnansweredQuestionIsForgotten) {
  ChatSession session({.model = "m"});
  session.ask("one");
  session.answered("");
  EXPECT_EQ(session.num_turns(), 0u);
  session.ask("two");
  EXPECT_EQ(body(session)["messages"].size(), 1u);
  session.reset();
  EXPECT_EQ(session.num_turns(), 0u);
}

TEST(ChatSession, SettingsAreSentOnlyWhenSet) {
  ChatSession plain({.model = "m"});
  for (const char* name : {"temperature", "top_p", "top_k", "max_tokens", "seed", "chat_template_kwargs"})
    EXPECT_FALSE(body(plain).contains(name)) << name;
  ChatSession set({.model = "m", .thinking = false, .temperature = 0, .max_tokens = 9});
  EXPECT_EQ(body(set)["temperature"], 0);
  EXPECT_EQ(body(set)["max_tokens"], 9);
  EXPECT_EQ(body(set)["chat_template_kwargs"]["enable_thinking"], false);
}

TEST(ChatStream, TellsThoughtsFromAnswers) {
  ChatStream stream;
  EXPECT_EQ(stream.push(chunk(R"({"role":"assistant","content":""})")).content, "");
  EXPECT_EQ(stream.push(chunk(R"({"reasoning":"hm","reasoning_content":"hm"})")).reasoning, "hm");
  EXPECT_EQ(stream.push(chunk(R"({"reasoning_content":"old name"})")).reasoning, "old name");
  EXPECT_EQ(stream.push(chunk(R"({"content":"yes"})")).content + stream.finish().content, "yes");
  EXPECT_FALSE(stream.done());
  stream.push("data: [DONE]");
  EXPECT_TRUE(stream.done());
}

TEST(ChatStream, SplitsThoughtsThatCameAsContent) {
  ChatStream stream;
  std::string reasoning, content;
  const auto add = [&](const ChatStream::Delta& delta) { reasoning += delta.reasoning, content += delta.content; };
  for (const char* piece : {"<thi", "nk>12", "</think>", "twelve"}) add(stream.push(chunk(Json{{"content", piece}}.dump().c_str())));
  add(stream.finish());
  EXPECT_EQ(reasoning, "12");
  EXPECT_EQ(content, "twelve");
}

TEST(ChatStream, ReadsUsageAndFinishReason) {
  ChatStream stream;
  stream.push(R"(data: {"choices":[{"delta":{"content":"x"},"finish_reason":"length"}],"usage":{"completion_tokens":7}})");
  stream.push(R"(data: {"choices":[],"usage":{"completion_tokens":8}})");
  EXPECT_EQ(stream.finish_reason(), "length");
  EXPECT_EQ(stream.completion_tokens(), 8);
}

TEST(ChatStream, IgnoresWhatIsNoData) {
  ChatStream stream;
  for (const char* line : {"", ": keep-alive", "event: message", "id: 3", "data: {}", "data: []", "data: null", R"(data: {"choices":{}})",
                           R"(data: {"choices":[1]})"})
    EXPECT_EQ(stream.push(line).content, "") << line;
}

TEST(ChatStream, AnErrorInsideTheStreamIsThrown) {
  ChatStream stream;
  try {
    stream.push(R"(data: {"error":{"message":"engine died"}})");
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "engine died");
  }
  EXPECT_THROW(ChatStream().push("data: {broken"), Error);
}

TEST(ErrorMessage, IsFoundWhereServersPutIt) {
  EXPECT_EQ(error_message(404, R"({"error":{"message":"no such model"}})"), "no such model");
  EXPECT_EQ(error_message(400, R"({"message":"old form"})"), "old form");
  EXPECT_EQ(error_message(400, R"({"error":"short"})"), "short");
  EXPECT_THAT(error_message(502, "<html>"), HasSubstr("502"));
}

}  // namespace
}  // namespace weir
