// Characters, Normalization Form C and the split pattern.
#include "weir/text/unicode.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "weir/text/normalizer.h"
#include "weir/text/splitter.h"

namespace weir {
namespace {

using unicode::char_class;
using unicode::CharClass;

constexpr std::string_view kQwen35Pattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
    "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr std::string_view kQwen3Pattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

std::vector<std::string> split(std::string_view text, std::string_view pattern = kQwen35Pattern) {
  const auto splitter = Splitter::for_pattern(pattern);
  std::vector<std::string> pieces;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = splitter.value().piece_end(text, begin);
    pieces.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  return pieces;
}

std::string normalized(std::string_view text) {
  std::string storage;
  return std::string(nfc(text, storage));
}

std::string replaced(std::string_view bytes) {
  std::string storage;
  return std::string(unicode::replace_invalid_utf8(bytes, storage));
}

using Pieces = std::vector<std::string>;

TEST(Unicode, ClassesAreThoseOfVersion16) {
  EXPECT_EQ(char_class(0x10D4A), CharClass::kLetter) << "GARAY CAPITAL LETTER A, new in 16.0";
  EXPECT_EQ(char_class(0x1C89), CharClass::kLetter) << "CYRILLIC CAPITAL LETTER TJE, new in 16.0";
  EXPECT_EQ(char_class(0x10D40), CharClass::kNumber) << "GARAY DIGIT ZERO, new in 16.0";
  EXPECT_EQ(char_class(0x0897), CharClass::kMark) << "ARABIC PEPET, new in 16.0";
  EXPECT_EQ(char_class(0x088F), CharClass::kOther) << "ARABIC LETTER NOON WITH RING ABOVE came with 17.0";
}

TEST(Unicode, WhiteSpaceIsThatOfTheRegularExpression) {
  std::vector<uint32_t> spaces;
  for (char32_t c = 0; c < 0x110000; ++c)
    if (char_class(c) == CharClass::kSpace) spaces.push_back(c);
  EXPECT_EQ(spaces,
            (std::vector<uint32_t>{9,      10,     11,     12,     13,     32,     0x85,   0xA0,   0x1680, 0x2000, 0x2001, 0x2002, 0x2003,
                                   0x2004, 0x2005, 0x2006, 0x2007, 0x2008, 0x2009, 0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}));
}

TEST(Unicode, EveryCharacterSurvivesItsUtf8) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    const auto code_point = static_cast<uint32_t>(c);
    std::string text;
    unicode::append_utf8(text, c);
    const auto [kind, size] = unicode::scan_utf8(text);
    ASSERT_EQ(kind, unicode::Utf8::kValid) << code_point;
    ASSERT_EQ(static_cast<size_t>(size), text.size()) << code_point;
    ASSERT_EQ(static_cast<uint32_t>(unicode::char_at(text.data()).code), code_point);
    for (size_t cut = 1; cut < text.size(); ++cut)
      ASSERT_EQ(unicode::scan_utf8(text.substr(0, cut)).kind, unicode::Utf8::kTruncated) << code_point << " cut to " << cut;
  }
}

TEST(Unicode, EachMaximalSubpartOfBadUtf8IsOneReplacement) {
  const std::string r(unicode::kReplacement);
  EXPECT_EQ(replaced("a\xE4\xBD\xA0z"), "a\xE4\xBD\xA0z");
  EXPECT_EQ(replaced("\x80"), r);
  EXPECT_EQ(replaced("\xE4\xBD"), r) << "cut off";
  EXPECT_EQ(replaced("\xE4\xBDx"), r + "x");
  EXPECT_EQ(replaced("\xF0\x9F\x98\xE4\xBD\xA0"), r + "\xE4\xBD\xA0");
  EXPECT_EQ(replaced("\xC0\xAF"), r + r) << "overlong";
  EXPECT_EQ(replaced("\xE0\x80\x80"), r + r + r) << "overlong";
  EXPECT_EQ(replaced("\xED\xA0\x80"), r + r + r) << "a surrogate";
  EXPECT_EQ(replaced("\xF4\x90\x80\x80"), r + r + r + r) << "above U+10FFFF";
  EXPECT_EQ(replaced("\xFF\xFE"), r + r);
}

TEST(Normalizer, ComposesDecomposesAndReorders) {
  EXPECT_EQ(normalized("e\u0301"), "\u00E9");
  EXPECT_EQ(normalized("\u212B"), "\u00C5") << "the Angstrom sign is a letter";
  EXPECT_EQ(normalized("xe\u0302\u0323y"), "x\u1EC7y") << "both marks, in either order";
  EXPECT_EQ(normalized("q\u0307\u0323"), "q\u0323\u0307") << "marks are sorted by class";
  EXPECT_EQ(normalized("q\u0301\u0302"), "q\u0301\u0302") << "marks of one class keep their order";
  EXPECT_EQ(normalized("\u0344"), "\u0308\u0301") << "excluded from composition";
  EXPECT_EQ(normalized("\u0958"), "\u0915\u093C") << "excluded from composition";
  EXPECT_EQ(normalized("\u1100\u1161\u11A8\u1100\u1161"), "\uAC01\uAC00");
  EXPECT_EQ(normalized("\uAC00\u11A8"), "\uAC01");
  EXPECT_EQ(normalized("\u09C7\u09BE"), "\u09CB") << "a starter that composes with the one before";
  EXPECT_EQ(normalized("\u0301a"), "\u0301a") << "a mark without a base";
}

TEST(Normalizer, LeavesCharactersNewerThanUnicode9Alone) {
  EXPECT_EQ(normalized("\U000105D2\u0307"), "\U000105D2\u0307") << "U+105C9 came with 16.0";
  EXPECT_EQ(normalized("q\u0345\u0897"), "q\u0345\u0897") << "U+0897 came with 16.0";
}

TEST(Normalizer, ReturnsNormalTextItselfWithoutACopy) {
  for (const std::string_view text : {"", "plain", "\u00E9t\u00E9 \u4F60\u597D \uD55C\uAD6D \U0001F600"}) {
    std::string storage;
    EXPECT_EQ(nfc(text, storage).data(), text.data());
  }
}

TEST(Normalizer, AMegabyteOfUnorderedMarksTakesNoQuadraticTime) {
  std::string text = "q";
  for (int i = 0; i < 1 << 18; ++i) text += i % 2 ? "\u0323" : "\u0307";
  const std::string result = normalized(text);
  EXPECT_EQ(result.size(), text.size());
  EXPECT_EQ(normalized(result), result);
}

TEST(Splitter, KnowsTwoPatternsAndNoOther) {
  EXPECT_TRUE(Splitter::for_pattern(kQwen35Pattern));
  EXPECT_TRUE(Splitter::for_pattern(kQwen3Pattern));
  EXPECT_FALSE(Splitter::for_pattern("\\s+"));
  EXPECT_FALSE(Splitter::for_pattern(""));
}

TEST(Splitter, CutsWordsDigitsSymbolsAndContractions) {
  EXPECT_EQ(split("Hello, world 42!"), (Pieces{"Hello", ",", " world", " ", "4", "2", "!"}));
  EXPECT_EQ(split("it's THEY'LL'x"), (Pieces{"it", "'s", " THEY", "'LL", "'x"}));
  EXPECT_EQ(split("'\u017Fx"), (Pieces{"'\u017F", "x"})) << "long s is an s in another case";
  EXPECT_EQ(split("(a) --b"), (Pieces{"(a", ")", " --", "b"}));
  EXPECT_EQ(split("x;\r\n\ny"), (Pieces{"x", ";\r\n\n", "y"}));
}

TEST(Splitter, KeepsSpaceForTheWordAndNewlinesTogether) {
  EXPECT_EQ(split("a   b"), (Pieces{"a", "  ", " b"}));
  EXPECT_EQ(split("a  "), (Pieces{"a", "  "}));
  EXPECT_EQ(split("a \n \n  b"), (Pieces{"a", " \n \n", " ", " b"}));
  EXPECT_EQ(split("a\n1"), (Pieces{"a", "\n", "1"}));
  EXPECT_EQ(split("\t\tx"), (Pieces{"\t", "\tx"}));
  EXPECT_EQ(split("  1"), (Pieces{" ", " ", "1"}));
  EXPECT_EQ(split("\u3000\u4F60"), (Pieces{"\u3000\u4F60"}));
}

TEST(Splitter, MarksBelongToWordsOnlyInTheNewerPattern) {
  EXPECT_EQ(split("q\u0323a"), (Pieces{"q\u0323a"}));
  EXPECT_EQ(split("q\u0323a", kQwen3Pattern), (Pieces{"q", "\u0323a"}));
  EXPECT_EQ(split(" \u0323\u0323!", kQwen3Pattern), (Pieces{" \u0323\u0323!"}));
  EXPECT_EQ(split(" \u0323\u0323!"), (Pieces{" \u0323\u0323", "!"}));
}

}  // namespace
}  // namespace weir
