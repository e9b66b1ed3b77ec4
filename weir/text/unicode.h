// Characters: UTF-8 in and out, and the classes of Qwen's split pattern (Unicode 16, pinned: see tools/unicode/generate.py).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "weir/text/unicode_tables.h"

namespace weir::unicode {

// \p{L}, \p{M}, \p{N}, \s (which is White_Space) and everything else. A character has one class only.
enum class CharClass : uint8_t { kOther, kLetter, kMark, kNumber, kSpace };

inline uint8_t property(char32_t c) {  // REQUIRES: c < 0x110000
  constexpr char32_t kMask = (1u << kPropertyShift) - 1;
  return kProperty[(size_t{kPropertyBlock[c >> kPropertyShift]} << kPropertyShift) | (c & kMask)];
}
inline CharClass char_class(char32_t c) { return static_cast<CharClass>(property(c) & 7); }

struct Char {
  char32_t code;
  int size;  // bytes
};

// The character at p, inside text that is known to be valid UTF-8.
inline Char char_at(const char* p) {
  const auto byte = [p](int i) { return static_cast<char32_t>(static_cast<uint8_t>(p[i])); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}

// What the bytes at the start of text are. A bad sequence is as long as its maximal subpart (Unicode 3.9, D93b), so that replacing each
// by one U+FFFD gives what Python's bytes.decode("utf-8", "replace") and Rust's from_utf8_lossy give.
enum class Utf8 { kValid, kInvalid, kTruncated };  // truncated: the text ends where more bytes could complete the character
struct Utf8Sequence {
  Utf8 kind;
  int size;  // bytes, at least 1
};
Utf8Sequence scan_utf8(std::string_view text);  // REQUIRES: text is not empty

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

void append_utf8(std::string& out, char32_t c);

// Returns text when it is valid UTF-8, else a copy in storage with every bad sequence replaced by U+FFFD.
std::string_view replace_invalid_utf8(std::string_view text, std::string& storage);

}  // namespace weir::unicode
