#include "weir/text/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

namespace weir {
namespace {

struct Found {
  std::string text;
  std::optional<size_t> stop;
  bool operator==(const Found&) const = default;
};

// Tries every end, shortest first.
Found search(const std::string& text, const std::vector<std::string>& stops, bool include_stop) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::optional<size_t> best;
    for (size_t i = 0; i < stops.size(); ++i) {
      const bool ends = !stops[i].empty() && std::string_view(text).substr(0, end).ends_with(stops[i]);
      if (ends && (!best || stops[i].size() > stops[*best].size())) best = i;
    }
    if (best) return {text.substr(0, include_stop ? end : end - stops[*best].size()), best};
  }
  return {text, std::nullopt};
}

Found stream(const std::vector<std::string>& chunks, const std::vector<std::string>& stops, bool include_stop) {
  StopMatcher matcher(stops, include_stop);
  Found found;
  for (const std::string& chunk : chunks) {
    const auto match = matcher.push(chunk);
    found.text += match.safe;
    if (match.matched_index) found.stop = match.matched_index;
  }
  if (!found.stop) found.text += matcher.finish();
  return found;
}

TEST(StopMatcher, HoldsBackWhatMayBecomeAStopString) {
  StopMatcher matcher({"<END>"}, false);
  EXPECT_EQ(matcher.push("Hello <").safe, "Hello ");
  EXPECT_EQ(matcher.push("EN").safe, "");
  EXPECT_EQ(matcher.push("!").safe, "<EN!");
  const auto match = matcher.push(" bye<END> never seen");
  EXPECT_EQ(match.safe, " bye");
  EXPECT_EQ(match.matched_index, 0u);
  EXPECT_EQ(matcher.push("more").safe, "");
}

TEST(StopMatcher, KeepsTheStopStringWhenAsked) {
  StopMatcher matcher({"\n\n"}, true);
  EXPECT_EQ(matcher.push("a\n").safe, "a");
  const auto match = matcher.push("\nb");
  EXPECT_EQ(match.safe, "\n\n");
  EXPECT_EQ(match.matched_index, 0u);
}

TEST(StopMatcher, ReleasesWhatItHeldAtTheEnd) {
  StopMatcher matcher({"stop"}, false);
  EXPECT_EQ(matcher.push("do not sto").safe, "do not ");
  EXPECT_EQ(matcher.finish(), "sto");
}

TEST(StopMatcher, PrefersTheStringThatIsCompleteFirstThenTheLongest) {
  EXPECT_EQ(stream({"abcd"}, {"abcd", "bc"}, false), (Found{"a", 1}));
  EXPECT_EQ(stream({"abc"}, {"c", "abc", "bc"}, false), (Found{"", 1}));
}

TEST(StopMatcher, PassesAllTextWithoutStopStrings) {
  EXPECT_EQ(stream({"any", "thing"}, {}, false), (Found{"anything", std::nullopt}));
  EXPECT_EQ(stream({"any", "thing"}, {""}, false), (Found{"anything", std::nullopt}));
}

TEST(StopMatcher, NeverCutsACharacter) {
  StopMatcher matcher({"\u00e8!"}, false);  // the text's é shares its first byte with the stop string's è
  EXPECT_EQ(matcher.push("caf\u00e9").safe, "caf\u00e9");
  EXPECT_EQ(matcher.push("\u00e8").safe, "");
  EXPECT_EQ(matcher.push("?").safe, "\u00e8?");
}

TEST(StopMatcher, AgreesWithANaiveSearchForAnyChunking) {
  std::mt19937 rng(3);
  const auto word = [&](size_t longest) {
    std::string s;
    for (size_t n = rng() % (longest + 1); n > 0; --n) s += "aab"[rng() % 3];
    return s;
  };
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::string> stops, chunks;
    for (size_t n = rng() % 5; n > 0; --n) stops.push_back(word(round % 2 == 0 ? 4 : 9));
    std::string text;
    for (size_t n = rng() % 8; n > 0; --n) text += chunks.emplace_back(word(6));
    const bool include_stop = rng() % 2 == 0;
    ASSERT_EQ(stream(chunks, stops, include_stop), search(text, stops, include_stop)) << "round " << round << ", text " << text;
  }
}

TEST(StopMatcher, ManyLongStopStringsStayCheap) {
  // Each push would cost a megabyte of comparisons if the text were searched again from the start.
  const std::vector<std::string> stops(16, std::string(1023, 'a') + "b");
  StopMatcher matcher(stops, false);
  size_t shown = 0;
  for (int i = 0; i < 200'000; ++i) shown += matcher.push("a").safe.size();
  EXPECT_EQ(shown, 200'000u - 1023u);
  EXPECT_EQ(matcher.push("b").matched_index, 0u);
}

}  // namespace
}  // namespace weir
