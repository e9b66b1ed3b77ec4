#include "weir/text/jinja_unicode.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "weir/text/unicode.h"

namespace weir::jinja {
namespace {

uint32_t find_map(const tables::CaseMap* maps, size_t n, char32_t c) {
  const auto* end = maps + n;
  const auto* it = std::lower_bound(maps, end, c, [](const tables::CaseMap& m, char32_t value) { return m.from < value; });
  return it != end && it->from == c ? it->to : 0;
}

const tables::CaseMaps* find_maps(const tables::CaseMaps* maps, size_t n, char32_t c) {
  const auto* end = maps + n;
  const auto* it = std::lower_bound(maps, end, c, [](const tables::CaseMaps& m, char32_t value) { return m.from < value; });
  return it != end && it->from == c ? it : nullptr;
}

void append_mapped(std::string& out, char32_t c, uint32_t one, const tables::CaseMaps* several) {
  if (one != 0) return unicode::append_utf8(out, one);
  if (several == nullptr) return unicode::append_utf8(out, c);
  for (const uint32_t to : several->to) {
    if (to != 0) unicode::append_utf8(out, to);
  }
}

void append_upper(std::string& out, char32_t c) {
  if (c < 0x80) return unicode::append_utf8(out, c >= 'a' && c <= 'z' ? c - 32 : c);
  append_mapped(out, c, find_map(tables::kUpper, tables::kNumUpper, c), find_maps(tables::kUpperSeveral, tables::kNumUpperSeveral, c));
}

void append_title(std::string& out, char32_t c) {
  if (const uint32_t one = find_map(tables::kTitle, tables::kNumTitle, c)) return unicode::append_utf8(out, one);
  if (const auto* several = find_maps(tables::kTitleSeveral, tables::kNumTitleSeveral, c)) return append_mapped(out, c, 0, several);
  append_upper(out, c);
}

// A capital sigma that ends a word becomes the final form: a cased letter before it and none behind it, ignorables skipped.
bool is_final_sigma(std::string_view text, size_t begin, size_t end) {
  uint16_t flags = 0;
  for (size_t at = begin; at > 0;) {
    flags = flags_of(previous_char(text, at));
    if ((flags & kCaseIgnorable) == 0) break;
  }
  if ((flags & kCased) == 0) return false;
  flags = 0;
  for (size_t at = end; at < text.size();) {
    flags = flags_of(next_char(text, at));
    if ((flags & kCaseIgnorable) == 0) break;
  }
  return (flags & kCased) == 0;
}

void append_lower(std::string& out, std::string_view text, size_t begin, size_t end, char32_t c) {
  if (c < 0x80) return unicode::append_utf8(out, c >= 'A' && c <= 'Z' ? c + 32 : c);
  if (c == 0x3a3) return unicode::append_utf8(out, is_final_sigma(text, begin, end) ? 0x3c2 : 0x3c3);
  append_mapped(out, c, find_map(tables::kLower, tables::kNumLower, c), find_maps(tables::kLowerSeveral, tables::kNumLowerSeveral, c));
}

}  // namespace

uint16_t flags_of(char32_t c) {
  const auto* it = std::upper_bound(tables::kFlags, tables::kFlags + tables::kNumFlags, c,
                                    [](char32_t value, const tables::FlagRun& run) { return value < run.first; });
  return std::prev(it)->flags;
}

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
         c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool is_line_break(char32_t c) { return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029; }

char32_t next_char(std::string_view text, size_t& at) {
  const auto [kind, size] = unicode::scan_utf8(text.substr(at));
  const char32_t c = kind == unicode::Utf8::kValid ? unicode::char_at(text.data() + at).code : U'\ufffd';
  at += static_cast<size_t>(size);
  return c;
}

char32_t previous_char(std::string_view text, size_t& end) {
  const auto continues = [&](size_t i) { return (static_cast<unsigned char>(text[i]) & 0xc0) == 0x80; };
  size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && continues(begin)) --begin;
  size_t at = begin;
  const char32_t c = next_char(text.substr(0, end), at);
  if (at != end) return --end, U'\ufffd';
  end = begin;
  return c;
}

int64_t count_chars(std::string_view text) {
  size_t at = 0;
  for (uint64_t word = 0; at + sizeof word <= text.size(); at += sizeof word) {  // most text is ASCII
    std::memcpy(&word, text.data() + at, sizeof word);
    if ((word & 0x8080808080808080u) != 0) break;
  }
  auto n = static_cast<int64_t>(at);
  for (; at < text.size(); ++n) next_char(text, at);
  return n;
}

size_t byte_of_char(std::string_view text, int64_t index) {
  size_t at = 0;
  for (int64_t i = 0; i < index && at < text.size(); ++i) next_char(text, at);
  return at;
}

std::string lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = next_char(text, at);
    append_lower(out, text, begin, at, c);
  }
  return out;
}

std::string upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) append_upper(out, next_char(text, at));
  return out;
}

std::string title(std::string_view text) {
  std::string out;
  bool in_word = false;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = next_char(text, at);
    if (in_word)
      append_lower(out, text, begin, at, c);
    else
      append_title(out, c);
    in_word = (flags_of(c) & kCased) != 0;
  }
  return out;
}

std::string capitalize(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = next_char(text, at);
    if (begin > 0)
      append_lower(out, text, begin, at, c);
    else
      append_title(out, c);
  }
  return out;
}

std::string swap_case(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = next_char(text, at);
    const uint16_t flags = flags_of(c);
    if (flags & kUppercase)
      append_lower(out, text, begin, at, c);
    else if (flags & kLowercase)
      append_upper(out, c);
    else
      unicode::append_utf8(out, c);
  }
  return out;
}

}  // namespace weir::jinja
