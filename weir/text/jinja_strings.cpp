#include "weir/text/jinja_strings.h"

#include <string.h>

#include <algorithm>

#include "weir/text/jinja_unicode.h"
#include "weir/text/jinja_value.h"
#include "weir/text/unicode.h"

namespace weir::jinja {

std::string_view strip(std::string_view text, std::optional<std::string_view> chars, Side side) {
  const auto goes = [&](char32_t c) {
    if (!chars) return is_space(c);
    for (size_t at = 0; at < chars->size();) {
      if (next_char(*chars, at) == c) return true;
    }
    return false;
  };
  size_t begin = 0, end = text.size();
  if (side != Side::kRight) {
    for (size_t at = 0; at < end && goes(next_char(text, at));) begin = at;
  }
  if (side != Side::kLeft) {
    for (size_t at = end; at > begin && goes(previous_char(text, at));) end = at;
  }
  return text.substr(begin, end - begin);
}

size_t find(std::string_view text, std::string_view part, size_t from) {
  if (from > text.size()) return text.npos;
  if (part.empty()) return from;
  const void* hit = ::memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return hit == nullptr ? text.npos : static_cast<size_t>(static_cast<const char*>(hit) - text.data());
}

size_t find_last(std::string_view text, std::string_view part) {
  if (part.size() <= 16 || text.size() <= 4096) return text.rfind(part);  // few bytes to compare at each place
  const std::string reversed_text(text.rbegin(), text.rend()), reversed_part(part.rbegin(), part.rend());
  const size_t hit = find(reversed_text, reversed_part);
  return hit == text.npos ? text.npos : text.size() - hit - part.size();
}

int64_t count(std::string_view text, std::string_view part) {
  if (part.empty()) return count_chars(text) + 1;
  int64_t n = 0;
  for (size_t at = find(text, part); at != text.npos; at = find(text, part, at + part.size())) ++n;
  return n;
}

namespace {

std::vector<std::string_view> split_on_space(std::string_view text, int64_t max) {
  std::vector<std::string_view> parts;
  for (;;) {
    text = strip(text, std::nullopt, Side::kLeft);
    if (text.empty()) return parts;
    if (max >= 0 && static_cast<int64_t>(parts.size()) >= max) {
      parts.push_back(text);
      return parts;
    }
    size_t end = 0;
    for (size_t at = 0; at < text.size() && !is_space(next_char(text, at));) end = at;
    parts.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
}

std::vector<std::string_view> split_on_space_right(std::string_view text, int64_t max) {
  std::vector<std::string_view> parts;
  for (;;) {
    text = strip(text, std::nullopt, Side::kRight);
    if (text.empty()) break;
    if (max >= 0 && static_cast<int64_t>(parts.size()) >= max) {
      parts.push_back(text);
      break;
    }
    size_t begin = text.size();
    for (size_t at = begin; at > 0 && !is_space(previous_char(text, at));) begin = at;
    parts.push_back(text.substr(begin));
    text = text.substr(0, begin);
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

}  // namespace

std::vector<std::string_view> split(std::string_view text, std::optional<std::string_view> separator, int64_t max) {
  if (!separator) return split_on_space(text, max);
  if (separator->empty()) fault("empty separator");
  std::vector<std::string_view> parts;
  while (max < 0 || static_cast<int64_t>(parts.size()) < max) {
    const size_t at = find(text, *separator);
    if (at == text.npos) break;
    parts.push_back(text.substr(0, at));
    text.remove_prefix(at + separator->size());
  }
  parts.push_back(text);
  return parts;
}

std::vector<std::string_view> split_right(std::string_view text, std::optional<std::string_view> separator, int64_t max) {
  if (!separator) return split_on_space_right(text, max);
  if (separator->empty()) fault("empty separator");
  // From the right is from the left of the reversed bytes.
  std::vector<std::string_view> parts;
  const std::string reversed(text.rbegin(), text.rend()), reversed_separator(separator->rbegin(), separator->rend());
  for (const std::string_view part : split(reversed, reversed_separator, max)) {
    const auto offset = static_cast<size_t>(part.data() - reversed.data());
    parts.push_back(text.substr(text.size() - offset - part.size(), part.size()));
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = at;
    const char32_t c = next_char(text, at);
    if (!is_line_break(c)) continue;
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    lines.push_back(text.substr(begin, (keep_ends ? at : end) - begin));
    begin = at;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to, int64_t max) {
  std::string out;
  const auto put = [&](std::string_view part) {
    if (out.size() + part.size() > kMaxOutputBytes) fault("a string above ", kMaxOutputBytes >> 20, " MiB");
    out += part;
  };
  int64_t n = 0;
  if (from.empty()) {
    for (size_t at = 0;;) {  // in front of every character and at the end
      if (max >= 0 && n++ >= max) {
        put(text.substr(at));
        return out;
      }
      put(to);
      if (at >= text.size()) return out;
      const size_t begin = at;
      next_char(text, at);
      put(text.substr(begin, at - begin));
    }
  }
  size_t begin = 0;
  for (size_t at = find(text, from); at != text.npos && (max < 0 || n < max); at = find(text, from, begin), ++n) {
    put(text.substr(begin, at - begin));
    put(to);
    begin = at + from.size();
  }
  put(text.substr(begin));
  return out;
}

std::string pad(std::string_view text, int64_t width, char32_t fill, Side where_text_goes) {
  const int64_t missing = width - count_chars(text);
  if (missing <= 0) return std::string(text);
  if (missing > static_cast<int64_t>(kMaxOutputBytes / 4)) fault("a string above ", kMaxOutputBytes >> 20, " MiB");
  // str.center puts the odd space left when the width is odd.
  const int64_t left = where_text_goes == Side::kLeft ? 0 : where_text_goes == Side::kRight ? missing : missing / 2 + (missing & width & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i) unicode::append_utf8(out, fill);
  out += text;
  for (int64_t i = left; i < missing; ++i) unicode::append_utf8(out, fill);
  return out;
}

}  // namespace weir::jinja
