#include "weir/text/splitter.h"

#include "weir/text/unicode.h"

namespace weir {
namespace {

using namespace unicode;

constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

bool is_newline(char32_t c) { return c == '\r' || c == '\n'; }

// Bytes of s, t, re, ve, m, ll or d at p in any case, 0 for none. U+017F (long s) is a case form of s; no other letter here has one.
size_t contraction(const char* p, const char* end) {
  const auto lower = [&](ptrdiff_t i) { return i < end - p ? p[i] | 0x20 : 0; };
  switch (lower(0)) {
    case 's':
    case 't':
    case 'm':
    case 'd': return 1;
    case 'r':
    case 'v': return lower(1) == 'e' ? 2 : 0;
    case 'l': return lower(1) == 'l' ? 2 : 0;
  }
  return end - p >= 2 && p[0] == '\xC5' && p[1] == '\xBF' ? 2 : 0;
}

}  // namespace

std::optional<Splitter> Splitter::for_pattern(std::string_view regex) {
  if (regex == kQwen35) return Splitter(true);
  if (regex == kQwen2) return Splitter(false);
  return std::nullopt;
}

size_t Splitter::piece_end(std::string_view text, size_t begin) const {
  const char* const end = text.data() + text.size();
  const char* const start = text.data() + begin;
  const auto is_word = [this](CharClass k) { return k == CharClass::kLetter || (k == CharClass::kMark && marks_join_words_); };
  const auto is_symbol = [this](CharClass k) { return k == CharClass::kOther || (k == CharClass::kMark && !marks_join_words_); };
  // Behind the longest run of characters from p on that have the class.
  const auto run = [end](const char* p, auto has_class) {
    while (p != end) {
      const auto [code, size] = char_at(p);
      if (!has_class(char_class(code))) break;
      p += size;
    }
    return p;
  };
  const auto at = [&](const char* p) { return static_cast<size_t>(p - text.data()); };

  const auto [first, first_size] = char_at(start);
  const CharClass kind = char_class(first);
  const char* const second = start + first_size;
  const auto second_class = [&] { return char_class(char_at(second).code); };

  // The alternatives of the regular expression, in their order.
  if (first == '\'')
    if (const size_t size = contraction(second, end)) return at(second) + size;
  if (is_word(kind)) return at(run(second, is_word));
  if (kind != CharClass::kNumber && !is_newline(first) && second != end && is_word(second_class())) return at(run(second, is_word));
  if (kind == CharClass::kNumber) return at(second);
  if (is_symbol(kind) || (first == ' ' && second != end && is_symbol(second_class()))) {
    const char* p = run(second, is_symbol);
    while (p != end && is_newline(static_cast<unsigned char>(*p))) ++p;
    return at(p);
  }

  // White space: up to its last newline if there is one, else leaving its last character to a word that follows.
  const char* last = start;
  const char* after_newline = nullptr;
  const char* p = start;
  while (p != end) {
    const auto [code, size] = char_at(p);
    if (char_class(code) != CharClass::kSpace) break;
    last = p;
    p += size;
    if (is_newline(code)) after_newline = p;
  }
  if (after_newline) return at(after_newline);
  return at(p == end || last == start ? p : last);
}

}  // namespace weir
