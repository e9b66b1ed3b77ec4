#include "weir/text/jinja_unicode.h"

#include <algorithm>
#include <array>

namespace weir::jinja {
namespace {

constexpr char32_t kReplacement = 0xfffd;

// Length of the valid sequence that starts at text[at], 0 when there is none; its code point in c.
size_t decode(std::string_view text, size_t at, char32_t& c) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  if (first < 0x80) return c = first, 1;
  const size_t length = first >= 0xf0 && first < 0xf5 ? 4 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xc2 && first < 0xe0 ? 2 : 0;
  if (length == 0 || at + length > text.size()) return 0;
  c = first & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80) return 0;
    c = c << 6 | (byte(at + i) & 0x3f);
  }
  constexpr std::array<char32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  return c < kLeast[length] || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff ? 0 : length;
}

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
  if (one != 0) return append_char(out, one);
  if (several == nullptr) return append_char(out, c);
  for (const uint32_t to : several->to) {
    if (to != 0) append_char(out, to);
  }
}

void append_upper(std::string& out, char32_t c) {
  if (c < 0x80) return append_char(out, c >= 'a' && c <= 'z' ? c - 32 : c);
  append_mapped(out, c, find_map(tables::kUpper, tables::kNumUpper, c), find_maps(tables::kUpperSeveral, tables::kNumUpperSeveral, c));
}

void append_title(std::string& out, char32_t c) {
  if (const uint32_t one = find_map(tables::kTitle, tables::kNumTitle, c)) return append_char(out, one);
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
  if (c < 0x80) return append_char(out, c >= 'A' && c <= 'Z' ? c + 32 : c);
  if (c == 0x3a3) return append_char(out, is_final_sigma(text, begin, end) ? 0x3c2 : 0x3c3);
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
  char32_t c = kReplacement;
  const size_t length = decode(text, at, c);
  at += length == 0 ? 1 : length;
  return length == 0 ? kReplacement : c;
}

char32_t previous_char(std::string_view text, size_t& end) {
  const size_t first = end >= 4 ? end - 4 : 0;
  for (size_t at = end - 1;; --at) {
    char32_t c = kReplacement;
    if (decode(text, at, c) == end - at) return end = at, c;
    if (at == first) break;
  }
  --end;
  return kReplacement;
}

void append_char(std::string& out, char32_t c) {
  const auto put = [&](uint32_t byte) { out += static_cast<char>(byte); };
  if (c < 0x80) return put(c);
  if (c < 0x800) return put(0xc0 | c >> 6), put(0x80 | (c & 0x3f));
  if (c < 0x10000) return put(0xe0 | c >> 12), put(0x80 | (c >> 6 & 0x3f)), put(0x80 | (c & 0x3f));
  put(0xf0 | c >> 18), put(0x80 | (c >> 12 & 0x3f)), put(0x80 | (c >> 6 & 0x3f)), put(0x80 | (c & 0x3f));
}

bool valid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    char32_t c = 0;
    const size_t length = decode(text, at, c);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

int64_t count_chars(std::string_view text) {
  // Valid text has one character for every byte that is not a continuation; anything else is counted the slow way.
  const auto leads = std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
  if (leads == static_cast<int64_t>(text.size()) && std::all_of(text.begin(), text.end(), [](char c) { return c >= 0; })) return leads;
  int64_t n = 0;
  for (size_t at = 0; at < text.size(); ++n) next_char(text, at);
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
      append_char(out, c);
  }
  return out;
}

}  // namespace weir::jinja
