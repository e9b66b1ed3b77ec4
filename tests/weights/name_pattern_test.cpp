#include "weir/weights/name_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "weir/base/error.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::HasSubstr;

bool glob(const char* pattern, const char* name) { return NamePattern::glob(pattern).matches(name); }
bool regex(const char* pattern, const char* name) { return NamePattern::regex(pattern).matches(name); }

TEST(Glob, MeansTheWholeName) {
  EXPECT_TRUE(glob("lm_head", "lm_head"));
  EXPECT_FALSE(glob("lm_head", "lm_head.weight"));
  EXPECT_FALSE(glob("head", "lm_head"));
  EXPECT_TRUE(glob("*.experts.*", "model.layers.3.mlp.experts.17.up_proj"));
  EXPECT_TRUE(glob("*.[qkv]_proj", "layers.3.self_attn.k_proj"));
  EXPECT_FALSE(glob("*.[qkv]_proj", "layers.3.self_attn.o_proj"));
  EXPECT_TRUE(glob("*.[!qkv]_proj", "layers.3.self_attn.o_proj"));
  EXPECT_TRUE(glob("layers.?.x", "layers.3.x"));
  EXPECT_FALSE(glob("layers.?.x", "layers.33.x"));
  EXPECT_TRUE(glob("layers.[0-9].x", "layers.7.x"));
  EXPECT_TRUE(glob("**", ""));
  EXPECT_TRUE(glob("a.b(c)+", "a.b(c)+")) << "nothing else is special";
}

TEST(Regex, MatchesFromTheStartAsPythonDoes) {
  EXPECT_TRUE(regex("lm_head", "lm_head.weight"));
  EXPECT_FALSE(regex("head", "lm_head"));
  EXPECT_TRUE(regex(".*head", "lm_head"));
  EXPECT_TRUE(regex("^mtp\\..*", "mtp.layers.0.mlp.gate"));
  EXPECT_FALSE(regex("^mtp\\..*", "mtpx"));
  EXPECT_TRUE(regex(".*mlp\\.gate$", "layers.3.mlp.gate"));
  EXPECT_FALSE(regex(".*mlp\\.gate$", "layers.3.mlp.gate_proj"));
  EXPECT_TRUE(regex(".*(gate|up)_proj$", "x.up_proj"));
  EXPECT_TRUE(regex(".*\\.layers\\.(\\d|1\\d)\\.x", "m.layers.17.x"));
  EXPECT_FALSE(regex(".*\\.layers\\.(?:\\d|1\\d)\\.x", "m.layers.27.x"));
  EXPECT_TRUE(regex("a{2,3}b", "aaab"));
  EXPECT_FALSE(regex("a{2,3}b", "aaaab"));
  EXPECT_FALSE(regex("a{2}b", "ab"));
  EXPECT_TRUE(regex("a{,2}b", "b"));
  EXPECT_TRUE(regex("a{x}", "a{x}")) << "a brace that counts nothing means itself";
  EXPECT_TRUE(regex("(ab)+?c", "ababc"));
  EXPECT_TRUE(regex("(a|ab)(c|bcd)$", "abcd"));
  EXPECT_TRUE(regex("[^.]+\\.[]x]", "abc.]"));
  EXPECT_TRUE(regex("(a*)*b", "aab"));
  EXPECT_TRUE(regex("(){3}x", "x"));
}

TEST(Regex, LooksAhead) {
  EXPECT_TRUE(regex("^(?!.*self_attn).*proj$", "layers.1.mlp.up_proj"));
  EXPECT_FALSE(regex("^(?!.*self_attn).*proj$", "layers.1.self_attn.q_proj"));
  EXPECT_TRUE(regex(".*(?=_proj)", "q_proj"));
}

template <class Body>
std::string error_of(Body body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "(no error)";
}

TEST(Patterns, ThatAreMalformedSayWhere) {
  for (const auto& [pattern, why] : {std::pair{"a(b", "'(' without ')'"},
                                     {"a)b", "unmatched ')'"},
                                     {"[abc", "'[' without ']'"},
                                     {"*a", "nothing before '*'"},
                                     {"a\\", "nothing behind it"},
                                     {"(?<=a)b", "not supported"},
                                     {"(?i)a", "not supported"},
                                     {"a\\b", "'\\b'"},
                                     {"(a)\\1", "'\\1'"},
                                     {"a**", "two quantifiers"},
                                     {"[z-a]", "backwards"},
                                     {"a{3,2}", "backwards"},
                                     {"a{1001}", "above 1000"}})
    EXPECT_THAT(error_of([&] { NamePattern::regex(pattern); }), AllOf(HasSubstr(why), HasSubstr("pattern"))) << pattern;
  EXPECT_THAT(error_of([] { NamePattern::glob("[a"); }), HasSubstr("without ']'"));
  EXPECT_THAT(error_of([] { NamePattern::regex(std::string(5'000, 'a')); }), HasSubstr("longer than"));
  EXPECT_THAT(error_of([] { NamePattern::regex(std::string(100, '(')); }), HasSubstr("deep"));
}

TEST(Patterns, ThatNeverEndAreErrors) {
  EXPECT_THAT(error_of([] { regex("(a|aa)*c", std::string(60, 'a').c_str()); }), HasSubstr("too expensive"));
  EXPECT_THAT(error_of([] { regex("(a)*c", std::string(100'000, 'a').c_str()); }), HasSubstr("too expensive"));
  EXPECT_TRUE(regex(".*c", (std::string(100'000, 'a') + "c").c_str()));
}

}  // namespace
}  // namespace weir
