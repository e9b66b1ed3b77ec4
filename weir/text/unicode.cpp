#include "weir/text/unicode.h"

#include <simdjson.h>

namespace weir::unicode {

Utf8Sequence scan_utf8(std::string_view text) {
  const auto lead = static_cast<uint8_t>(text[0]);
  if (lead < 0x80) return {Utf8::kValid, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8::kInvalid, 1};
  const int size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range shuts out overlong forms, surrogates and what lies above U+10FFFF.
  uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (int i = 1; i < size; ++i) {
    if (static_cast<size_t>(i) == text.size()) return {Utf8::kTruncated, i};
    const auto byte = static_cast<uint8_t>(text[static_cast<size_t>(i)]);
    if (byte < low || byte > high) return {Utf8::kInvalid, i};
    low = 0x80, high = 0xBF;
  }
  return {Utf8::kValid, size};
}

void append_utf8(std::string& out, char32_t c) {
  const auto put = [&out](char32_t byte) { out.push_back(static_cast<char>(static_cast<uint8_t>(byte))); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F)), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  }
}

std::string_view replace_invalid_utf8(std::string_view text, std::string& storage) {
  if (simdjson::validate_utf8(text.data(), text.size())) return text;
  storage.clear();
  storage.reserve(text.size() + 16);
  for (size_t at = 0; at < text.size();) {
    const auto [kind, size] = scan_utf8(text.substr(at));
    storage += kind == Utf8::kValid ? text.substr(at, static_cast<size_t>(size)) : kReplacement;
    at += static_cast<size_t>(size);
  }
  return storage;
}

}  // namespace weir::unicode
