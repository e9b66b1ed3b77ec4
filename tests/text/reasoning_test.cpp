#include "weir/text/reasoning.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace weir {
namespace {

struct Parts {
  std::string reasoning, content;
  bool operator==(const Parts&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Parts& p) {
  return out << "{reasoning: \"" << p.reasoning << "\", content: \"" << p.content << "\"}";
}

Parts split(const std::vector<std::string>& chunks, bool thinking) {
  ReasoningParser parser(thinking);
  Parts parts;
  const auto add = [&](const ReasoningParser::Delta& d) {
    parts.reasoning += d.reasoning;
    parts.content += d.content;
  };
  for (const std::string& chunk : chunks) add(parser.push(chunk));
  add(parser.finish());
  return parts;
}
Parts split(const std::string& text, bool thinking) { return split(std::vector<std::string>{text}, thinking); }

TEST(Reasoning, EndsAtTheClosingTag) {
  EXPECT_EQ(split("\nI add.\n</think>\n\n12", true), (Parts{"I add.", "12"}));
  EXPECT_EQ(split("I add.</think>12\n", true), (Parts{"I add.", "12\n"}));
  EXPECT_EQ(split("\n\na\n\nb\n\n</think>c", true), (Parts{"\na\n\nb", "c"})) << "one newline goes at the start, all at the end";
  EXPECT_EQ(split("</think>c", true), (Parts{"", "c"}));
}

TEST(Reasoning, EverythingIsContentWithoutThinking) {
  EXPECT_EQ(split("\n\n12 </think> 13", false), (Parts{"", "\n\n12 </think> 13"}));
  EXPECT_EQ(split("", false), (Parts{"", ""}));
}

TEST(Reasoning, AnOpeningTagAtTheStartBeginsAThought) {
  EXPECT_EQ(split("<think>\nhm\n</think>\n\n12", false), (Parts{"hm", "12"}));
  EXPECT_EQ(split("<think>\nhm\n</think>\n\n12", true), (Parts{"hm", "12"})) << "the prompt opened it already";
  EXPECT_EQ(split("12 <think>hm</think>", false), (Parts{"", "12 <think>hm</think>"})) << "only at the start";
}

TEST(Reasoning, AnUnfinishedThoughtIsReasoningOnly) {
  EXPECT_EQ(split("\nI wonder\n", true), (Parts{"I wonder\n", ""}));
  EXPECT_EQ(split("I wonder </thi", true), (Parts{"I wonder </thi", ""}));
  EXPECT_EQ(split("", true), (Parts{"", ""}));
}

TEST(Reasoning, AToolCallEndsTheThoughtAndIsContent) {
  EXPECT_EQ(split("I ask.\n<tool_call>\n<function=f>", true), (Parts{"I ask.", "<tool_call>\n<function=f>"}));
  EXPECT_EQ(split("a</think>\n\n<tool_call>x", true), (Parts{"a", "<tool_call>x"}));
}

TEST(Reasoning, ASecondClosingTagIsSwallowed) {
  EXPECT_EQ(split("a</think>\n</think>\n\nb", true), (Parts{"a", "b"}));
  EXPECT_EQ(split("a</think>b</think>\nc", true), (Parts{"a", "b\nc"}));
  EXPECT_EQ(split("a<tool_call>b</think>c", true), (Parts{"a", "<tool_call>bc"}));
  EXPECT_EQ(split("a</think>b</think>c</think>d", true), (Parts{"a", "bc</think>d"})) << "only one: a third one is meant";
}

TEST(Reasoning, PassesTextOnAsSoonAsItIsCertain) {
  ReasoningParser parser(true);
  EXPECT_EQ(parser.push("I think").reasoning, "I think");
  EXPECT_EQ(parser.push(" <").reasoning, " ");
  EXPECT_EQ(parser.push("b>").reasoning, "<b>");
  EXPECT_EQ(parser.push("\n").reasoning, "") << "dropped if the thought ends here";
  EXPECT_EQ(parser.push("so").reasoning, "\nso");
  EXPECT_EQ(parser.push("</think>").content, "");
  EXPECT_EQ(parser.push("\nyes").content, "yes");
}

TEST(Reasoning, AnyChunkingGivesTheSameParts) {
  static constexpr const char* kPieces[] = {"</think>", "<think>", "<tool_call>", "\n",    "\n\n", "a", " ",
                                            "<",        "</",      "</thin",      "<tool", "é",    ">"};
  std::mt19937 rng(9);
  for (int round = 0; round < 20'000; ++round) {
    std::string text;
    for (size_t n = rng() % 12; n > 0; --n) text += kPieces[rng() % std::size(kPieces)];
    std::vector<std::string> chunks;
    for (size_t at = 0; at < text.size();) {
      const size_t size = rng() % 5;
      chunks.push_back(text.substr(at, size));
      at += size;
    }
    for (const bool thinking : {false, true})
      ASSERT_EQ(split(chunks, thinking), split(text, thinking)) << "round " << round << ", text " << text;
  }
}

TEST(Reasoning, LongRunsOfNewlinesStayCheap) {
  ReasoningParser parser(true);
  parser.push("a");
  for (int i = 0; i < 1'000'000; ++i) ASSERT_TRUE(parser.push("\n").reasoning.empty());
  EXPECT_EQ(parser.push("b").reasoning.size(), 1'000'001u);
}

}  // namespace
}  // namespace weir
