// Hostile templates: each must end soon with an error or a text, never with a crash, a hang or a swollen process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "weir/base/error.h"
#include "weir/text/chat_template.h"
#include "weir/text/jinja_number.h"
#include "weir/text/jinja_strings.h"
#include "weir/text/jinja_unicode.h"

namespace weir::jinja {
namespace {

using testing::HasSubstr;

std::string outcome(const std::string& text, const Json& variables = Json::object()) {
  try {
    return ChatTemplate(text).render(variables);
  } catch (const Error& e) {
    EXPECT_EQ(e.code, ErrorCode::kInvalidArgument);
    return e.what();
  }
}

std::string repeated(const std::string& text, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += text;
  return out;
}

TEST(JinjaLimits, EndlessWorkIsCut) {
  EXPECT_THAT(outcome(repeated("{% for a in range(100000) %}", 4) + repeated("{% endfor %}", 4)), HasSubstr("steps"));
  EXPECT_THAT(outcome("{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}"), HasSubstr("too deep"));
  EXPECT_THAT(outcome("{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}"), HasSubstr("too deep"));
}

TEST(JinjaLimits, SwellingTextIsCut) {
  EXPECT_THAT(outcome("{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"),
              HasSubstr("MiB"));
  EXPECT_THAT(outcome("{{ 'ab' * 1000000000000 }}"), HasSubstr("MiB"));
  EXPECT_THAT(outcome("{{ ['ab' * 1000000] * 1000 }}"), HasSubstr("MiB"));
  EXPECT_THAT(outcome("{{ [1] * 1000000000000 }}"), HasSubstr("items"));
  EXPECT_THAT(outcome("{{ 'a' | center(1000000000) }}"), HasSubstr("MiB"));
  EXPECT_THAT(outcome("{{ '%999999999d' % 1 }}"), HasSubstr("width"));
  EXPECT_THAT(outcome("{{ ('a' * 10000) | replace('a', 'b' * 100000) }}"), HasSubstr("MiB"));
  EXPECT_THAT(outcome("{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}"),
              HasSubstr("nested deeper"));
  EXPECT_THAT(outcome("{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}"),
              testing::AnyOf(HasSubstr("MiB"), HasSubstr("steps")));
  EXPECT_THAT(outcome("{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = ns.l + ['a' * 100000] %}{% endfor %}"),
              testing::AnyOf(HasSubstr("MiB"), HasSubstr("GiB")));
}

TEST(JinjaLimits, ComparingSharedListsIsCut) {
  EXPECT_THAT(
      outcome("{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(100) %}{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}"
              "{% endfor %}{{ ns.a == ns.b }}"),
      HasSubstr("steps"));
  EXPECT_THAT(
      outcome("{% set ns = namespace(a=[1]) %}{% for i in range(100) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a | tojson }}"),
      testing::AnyOf(HasSubstr("steps"), HasSubstr("MiB")));
}

TEST(JinjaLimits, CyclesAndChainsAreFreed) {
  // Leaks and deep destructors show under the address sanitizer.
  EXPECT_EQ(outcome("{% set ns = namespace() %}{% set ns.me = ns %}{% set ns.list = [ns] %}ok"), "ok");
  EXPECT_EQ(outcome("{% macro m() %}x{% endmacro %}{% set keep = [m] %}ok"), "ok");
  EXPECT_EQ(outcome("{% set ns = namespace() %}{% for a in [1] %}{% set ns.loop = loop %}{{ loop.changed(loop) }}{% endfor %}"), "True");
  EXPECT_EQ(outcome("{% set ns = namespace(p=none) %}{% for i in range(50000) %}{% set ns.p = namespace(p=ns.p) %}{% endfor %}{% set ns.p "
                    "= none %}ok"),
            "ok");
  EXPECT_EQ(
      outcome("{% set ns = namespace(f=none) %}{% macro a(prev) %}{% macro b() %}{{ prev }}{% endmacro %}{% set ns.f = b %}{% endmacro %}"
              "{% for i in range(20000) %}{{ a(ns.f) }}{% endfor %}ok"),
      "ok");
  EXPECT_THAT(
      outcome(
          "{% set ns = namespace(l=1) %}{% for i in range(100000) %}{% for j in [ns.l] %}{% set ns.l = loop %}{% endfor %}{% endfor %}ok"),
      HasSubstr("nested deeper"));
  EXPECT_THAT(outcome("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}"), HasSubstr("too deep"));
}

TEST(JinjaLimits, DeepSourceIsRefused) {
  EXPECT_THAT(outcome("{{ " + repeated("(", 100'000)), HasSubstr("nested deeper"));
  EXPECT_THAT(outcome("{{ " + repeated("[", 100'000)), HasSubstr("nested deeper"));
  EXPECT_THAT(outcome("{{ " + repeated("-", 100'000) + "1 }}"), HasSubstr("nested deeper"));
  EXPECT_THAT(outcome("{{ " + repeated("not ", 100'000) + "1 }}"), HasSubstr("nested deeper"));
  EXPECT_THAT(outcome("{{ a" + repeated(".b", 100'000) + " }}"), HasSubstr("nested deeper"));
  EXPECT_THAT(outcome("{{ a" + repeated(" | upper", 100'000) + " }}"), HasSubstr("nested deeper"));
  EXPECT_THAT(outcome("{{ a" + repeated(" if a else a", 100'000) + " }}"), HasSubstr("nested deeper"));
  EXPECT_THAT(outcome(repeated("{% if a %}", 100'000)), HasSubstr("nested deeper"));
  EXPECT_THAT(outcome(std::string(5 << 20, 'x')), HasSubstr("at most"));
  // Long chains of one operator are fine: templates join dozens of parts.
  EXPECT_EQ(outcome("{{ 1" + repeated(" + 1", 20'000) + " }}"), "20001");
  EXPECT_EQ(outcome("{{ ''" + repeated(" ~ ''", 20'000) + " }}"), "");
  EXPECT_EQ(outcome("{{ 1" + repeated(" and 1", 20'000) + " }}"), "1");
  EXPECT_EQ(outcome("{{ 1" + repeated(" == 1", 20'000) + " }}"), "True");
}

TEST(JinjaLimits, DeepNestingThatIsAllowedFitsTheStack) {
  EXPECT_EQ(outcome("{{ " + repeated("(", 60) + "1" + repeated(")", 60) + " }}"), "1");
  EXPECT_EQ(outcome("{{ " + repeated("[", 60) + repeated("]", 60) + " | length }}"), "1");
  EXPECT_EQ(outcome(repeated("{% if true %}", 150) + "x" + repeated("{% endif %}", 150)), "x");
  EXPECT_EQ(outcome("{% macro m(n) %}{% if n > 0 %}{{ n }},{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(70) | length }}"), "201");
}

TEST(JinjaLimits, NumbersOverflowWithoutHarm) {
  EXPECT_THAT(outcome("{% set ns = namespace(i=3) %}{% for i in range(100) %}{% set ns.i = ns.i * ns.i %}{% endfor %}"),
              HasSubstr("128 bits"));
  EXPECT_THAT(outcome("{{ 2 ** 126 * 2 }}"), HasSubstr("128 bits"));
  EXPECT_THAT(outcome("{{ -(2 ** 126) * 2 - 1 }}"), HasSubstr("128 bits"));
  EXPECT_EQ(outcome("{{ -(2 ** 126) * 2 }}"), "-170141183460469231731687303715884105728");
  EXPECT_EQ(outcome("{{ (-(2 ** 126) * 2) // -1 }}").find("128 bits") != std::string::npos, true);
  EXPECT_EQ(outcome("{{ (-(2 ** 126) * 2) % -1 }}"), "0");
  EXPECT_THAT(outcome("{{ (1e300 * 1e10) | int }}"), HasSubstr("infinity"));
  EXPECT_THAT(outcome("{{ 1e200 | int }}"), HasSubstr("128 bits"));
  EXPECT_THAT(outcome("{{ " + std::string(1000, '9') + " }}"), HasSubstr("128 bits"));
  EXPECT_EQ(outcome("{{ 'abc'[9223372036854775807:] }}{{ 'abc'[-9223372036854775808:] }}{{ [1][170141183460469231731687303715884105727] is "
                    "defined }}"),
            "abcFalse");
  EXPECT_EQ(outcome("{{ 'abc'[::9223372036854775807] }}{{ 'abc'[::-9223372036854775808] }}"), "ac");
  EXPECT_THAT(outcome("{{ range(-9223372036854775808, 9223372036854775807, 1) }}"), HasSubstr("range()"));
  EXPECT_EQ(outcome("{{ range(-9223372036854775808, 9223372036854775807, 9223372036854775807) | list | length }}"), "3");
  EXPECT_EQ(outcome("{{ x }}", {{"x", UINT64_MAX}}), "18446744073709551615");
  EXPECT_EQ(outcome("{{ x }}", {{"x", INT64_MIN}}), "-9223372036854775808");
}

TEST(JinjaLimits, SearchesStayLinear) {
  const Json variables = {{"a", std::string(1 << 20, 'a')}, {"b", std::string(1 << 19, 'a') + "b"}};
  EXPECT_EQ(outcome("{{ a.find(b) }}{{ a.rfind(b) }}{{ a.count(b) }}{{ b in a }}{{ a.split(b) | length }}{{ a.rsplit(b) | length }}"
                    "{{ (a | replace(b, '')) | length }}",
                    variables),
            "-1-10False111048576");
}

TEST(JinjaLimits, VariablesThatAreNotUtf8DoNoHarm) {
  const Json variables = {{"x", "a\xff\xc3"}, {"y", "\xe4\xbd"}};
  outcome(
      "{{ x }}{{ x | upper }}{{ x[::-1] }}{{ x | length }}{{ [x] }}{{ x | tojson }}{{ x.split(y) }}{{ x | list }}{{ y | title }}{{ x | "
      "trim(y) }}",
      variables);
  EXPECT_THAT(outcome("a\xff"), HasSubstr("not valid UTF-8"));
}

TEST(JinjaLimits, RandomTokensNeverCrash) {
  static constexpr const char* kTokens[] = {"{{",
                                            "}}",
                                            "{%",
                                            "%}",
                                            "{#",
                                            "#}",
                                            "-",
                                            "+",
                                            "{%-",
                                            "-%}",
                                            " ",
                                            "\n",
                                            "for",
                                            "in",
                                            "if",
                                            "else",
                                            "elif",
                                            "endfor",
                                            "endif",
                                            "set",
                                            "endset",
                                            "macro",
                                            "endmacro",
                                            "call",
                                            "endcall",
                                            "filter",
                                            "endfilter",
                                            "with",
                                            "endwith",
                                            "raw",
                                            "endraw",
                                            "break",
                                            "continue",
                                            "recursive",
                                            "x",
                                            "l",
                                            "d",
                                            "ns",
                                            "loop",
                                            "m",
                                            "(",
                                            ")",
                                            "[",
                                            "]",
                                            "{",
                                            "}",
                                            ",",
                                            ":",
                                            ".",
                                            "|",
                                            "~",
                                            "*",
                                            "**",
                                            "/",
                                            "//",
                                            "%",
                                            "==",
                                            "<",
                                            "=",
                                            "not",
                                            "and",
                                            "or",
                                            "is",
                                            "defined",
                                            "1",
                                            "0",
                                            "2.5",
                                            "'a'",
                                            "\"",
                                            "'",
                                            "upper",
                                            "join",
                                            "map",
                                            "tojson",
                                            "list",
                                            "namespace",
                                            "range",
                                            "none",
                                            "true",
                                            "caller",
                                            "loop.index",
                                            "l[0]",
                                            "x.y",
                                            "{{ x }}",
                                            "{% for x in l %}",
                                            "{% endfor %}",
                                            "{% if x %}",
                                            "{% endif %}"};
  const Json variables = {{"x", "text"}, {"l", {1, "a", nullptr}}, {"d", {{"k", 1.5}}}};
  std::mt19937 rng(13);
  int rendered = 0, refused = 0;
  for (int round = 0; round < 30'000; ++round) {
    std::string text = rng() % 2 == 0 ? "{{ " : "{% ";
    for (auto n = rng() % 14; n > 0; --n) text += std::string(kTokens[rng() % std::size(kTokens)]) + (rng() % 3 == 0 ? "" : " ");
    text += rng() % 2 == 0 ? "}}" : "%}";
    try {
      ChatTemplate(text).render(variables);
      ++rendered;
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(rendered, 50);
  EXPECT_GT(refused, 50);
}

}  // namespace

// ---- the parts on their own

TEST(JinjaNumber, PrintsDoublesAsPythonDoes) {
  EXPECT_EQ(repr_of_double(0.1), "0.1");
  EXPECT_EQ(repr_of_double(1e16), "1e+16");
  EXPECT_EQ(repr_of_double(123456789012345.0), "123456789012345.0");
  EXPECT_EQ(repr_of_double(5e-324), "5e-324");
  EXPECT_EQ(repr_of_double(-0.0), "-0.0");
}

TEST(JinjaNumber, ComparesIntegersWithDoublesExactly) {
  EXPECT_EQ(compare((Int{1} << 53) + 1, 9007199254740992.0), 1) << "the double cannot hold the integer";
  EXPECT_EQ(compare(-2, -2.5), 1);
  EXPECT_EQ(compare(2, 2.5), -1);
  EXPECT_EQ(compare(0, std::nan("")), 2);
  EXPECT_EQ(compare(INT64_MAX, HUGE_VAL), -1);
}

TEST(JinjaStrings, SplitsFromTheRightAsFromTheLeftOfTheMirrorImage) {
  std::mt19937 rng(2);
  for (int round = 0; round < 3000; ++round) {
    std::string text, separator;
    for (auto n = rng() % 12; n > 0; --n) text += "ab"[rng() % 2];
    for (auto n = 1 + rng() % 3; n > 0; --n) separator += "ab"[rng() % 2];
    std::vector<std::string> want;
    std::string rest = text;
    const int64_t max = static_cast<int64_t>(rng() % 4) - 1;
    for (size_t at; (max < 0 || static_cast<int64_t>(want.size()) < max) && (at = rest.rfind(separator)) != rest.npos; rest.resize(at))
      want.insert(want.begin(), rest.substr(at + separator.size()));
    want.insert(want.begin(), rest);
    const auto got = split_right(text, separator, max);
    ASSERT_EQ(std::vector<std::string>(got.begin(), got.end()), want) << text << " by " << separator << ", at most " << max;
    ASSERT_EQ(find_last(text, separator), text.rfind(separator));
  }
}

TEST(JinjaUnicode, WalksBackwardsOverTheSameCharacters) {
  for (const std::string text : {"aé你👍", "\u07ff\u0800\uffff", "\xff\xff", ""}) {
    std::vector<char32_t> forwards, backwards;
    for (size_t at = 0; at < text.size();) forwards.push_back(next_char(text, at));
    for (size_t at = text.size(); at > 0;) backwards.insert(backwards.begin(), previous_char(text, at));
    EXPECT_EQ(forwards, backwards);
  }
}

}  // namespace weir::jinja
