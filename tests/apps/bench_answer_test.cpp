#include "weir/apps/bench_answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weir {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;

std::string text_event(const std::string& text) { return "data: {\"choices\": [{\"index\": 0, \"text\": \"" + text + "\"}]}\n\n"; }
std::string chat_event(const std::string& delta) { return "data: {\"choices\": [{\"index\": 0, \"delta\": " + delta + "}]}\n\n"; }

TEST(BenchAnswer, TimesCountFromTheStartAndBetweenEvents) {
  AnswerReader reader(BenchApi::kCompletions, 10.0);
  EXPECT_TRUE(reader.feed(text_event("Hel"), 10.5));
  EXPECT_TRUE(reader.feed(text_event("lo"), 10.6));
  EXPECT_TRUE(reader.feed(text_event(""), 10.8)) << "an event without text carries a token too";
  EXPECT_TRUE(reader.feed("data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 7, \"completion_tokens\": 3}}\n\n", 10.9));
  EXPECT_FALSE(reader.feed("data: [DONE]\n\n", 11.0));
  const BenchAnswer answer = reader.finish();
  EXPECT_TRUE(answer.ok()) << answer.error;
  EXPECT_EQ(answer.text, "Hello");
  EXPECT_NEAR(answer.ttft_s, 0.5, 1e-12);
  EXPECT_NEAR(answer.latency_s, 0.8, 1e-12) << "the usage and the end take no part";
  EXPECT_THAT(answer.itl_s, ElementsAre(DoubleNear(0.1, 1e-12), DoubleNear(0.2, 1e-12)));
  EXPECT_EQ(answer.input_tokens, 7);
  EXPECT_EQ(answer.output_tokens, 3);
}

TEST(BenchAnswer, EventsMayBeCutAnywhere) {
  const std::string stream = ": ping\r\n\r\n" + text_event("a") + "event: x\n" + text_event("b") + "data:[DONE]\n\n";
  for (size_t cut = 0; cut <= stream.size(); ++cut) {
    AnswerReader reader(BenchApi::kCompletions, 0);
    reader.feed(stream.substr(0, cut), 1);
    reader.feed(stream.substr(cut), 2);
    const BenchAnswer answer = reader.finish();
    EXPECT_TRUE(answer.ok()) << "cut at " << cut << ": " << answer.error;
    EXPECT_EQ(answer.text, "ab") << "cut at " << cut;
    EXPECT_EQ(answer.itl_s.size(), 1u) << "cut at " << cut;
  }
}

TEST(BenchAnswer, AChatsOpeningChunkIsNoToken) {
  AnswerReader reader(BenchApi::kChat, 0);
  reader.feed(chat_event(R"({"role": "assistant", "content": ""})"), 0.1);
  reader.feed(chat_event(R"({"reasoning": "hm "})"), 0.7);
  reader.feed(chat_event(R"({"content": "yes"})"), 0.9);
  const BenchAnswer answer = reader.finish();
  EXPECT_NEAR(answer.ttft_s, 0.7, 1e-12);
  EXPECT_EQ(answer.text, "hm yes");
  EXPECT_THAT(answer.itl_s, ElementsAre(DoubleNear(0.2, 1e-12)));

  AnswerReader together(BenchApi::kChat, 0);
  together.feed(chat_event(R"({"role": "assistant", "content": "yes"})"), 0.3);
  EXPECT_NEAR(together.finish().ttft_s, 0.3, 1e-12) << "the role together with text is the first token";
}

TEST(BenchAnswer, AnErrorInTheStreamFailsTheRequest) {
  AnswerReader reader(BenchApi::kCompletions, 0);
  reader.feed(text_event("a"), 1);
  EXPECT_FALSE(reader.feed("data: {\"error\": {\"message\": \"out of pages\"}}\n\n", 2));
  EXPECT_TRUE(reader.broken());
  EXPECT_THAT(reader.finish().error, HasSubstr("out of pages"));
}

TEST(BenchAnswer, AnAnswerWithoutATokenFailed) {
  AnswerReader reader(BenchApi::kCompletions, 0);
  reader.feed("data: [DONE]\n\n", 1);
  EXPECT_FALSE(reader.finish().ok());
}

TEST(BenchAnswer, HostileStreamsFailAndDoNotCrash) {
  const std::vector<std::string> streams = {
      "data: {\n\n",
      "data: \xff\xfe\n\n",
      "data: " + std::string(100'000, '[') + "\n\n",
      "data: []\n\n",
      "data: 5\n\n",
      "data: {\"choices\": 5}\n\n",
      "data: {\"choices\": [5]}\n\ndata: {\"choices\": [{\"text\": 7}]}\n\n",
      "data: {\"choices\": [{\"delta\": []}], \"usage\": \"many\"}\n\n",
      "data: {\"usage\": {\"completion_tokens\": -5, \"prompt_tokens\": 1e300}}\n\n",
      "data: {\"error\": 3}\n\n",
  };
  for (const BenchApi api : {BenchApi::kCompletions, BenchApi::kChat})
    for (const std::string& stream : streams) {
      AnswerReader reader(api, 0);
      reader.feed(stream, 1);
      const BenchAnswer answer = reader.finish();
      EXPECT_GE(answer.output_tokens, 0) << stream.substr(0, 80);
    }
  AnswerReader reader(BenchApi::kCompletions, 0);
  const std::string endless(1 << 20, 'x');
  int fed = 0;
  while (fed < 100 && reader.feed(endless, 1)) ++fed;
  EXPECT_LT(fed, 100) << "a line without an end must not fill the memory";
  EXPECT_THAT(reader.finish().error, HasSubstr("longer than"));
}

}  // namespace
}  // namespace weir
