#include "weir/text/tokenizer_added.h"

#include <algorithm>
#include <cstring>

#include "weir/text/unicode.h"

namespace weir {
namespace {

uint8_t byte_at(const std::string& s, size_t i) { return static_cast<uint8_t>(s[i]); }

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end(), [](const AddedToken& a, const AddedToken& b) { return a.content < b.content; });
  for (uint32_t i = 0; i < tokens_.size(); ++i) {
    auto& range = by_first_byte_[byte_at(tokens_[i].content, 0)];
    if (range.begin == range.end) range.begin = i;
    range.end = i + 1;
  }
  if (!tokens_.empty() && tokens_.front().content[0] == tokens_.back().content[0]) only_first_byte_ = tokens_.front().content[0];
}

std::optional<AddedTokenFinder::Match> AddedTokenFinder::next(std::string_view text, size_t from) const {
  if (tokens_.empty()) return std::nullopt;
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (only_first_byte_) {
      const void* found = std::memchr(text.data() + begin, only_first_byte_, text.size() - begin);
      if (!found) return std::nullopt;
      begin = static_cast<size_t>(static_cast<const char*>(found) - text.data());
    }
    auto [low, high] = by_first_byte_[static_cast<uint8_t>(text[begin])];
    // [low, high): the tokens that begin with the `length` bytes of text at begin; the one that is no longer comes first.
    const AddedToken* longest = nullptr;
    for (size_t length = 1; low != high; ++length) {
      if (tokens_[low].content.size() == length) longest = &tokens_[low++];
      if (begin + length == text.size()) break;
      const auto byte = static_cast<uint8_t>(text[begin + length]);
      const auto first = tokens_.begin() + low, last = tokens_.begin() + high;
      const auto lower = std::partition_point(first, last, [&](const AddedToken& t) { return byte_at(t.content, length) < byte; });
      const auto upper = std::partition_point(lower, last, [&](const AddedToken& t) { return byte_at(t.content, length) == byte; });
      low = static_cast<uint32_t>(lower - tokens_.begin());
      high = static_cast<uint32_t>(upper - tokens_.begin());
    }
    if (longest) return Match{begin, begin + longest->content.size(), longest};
  }
  return std::nullopt;
}

size_t trailing_space(std::string_view text) {
  size_t begin = text.size();
  while (begin > 0) {
    size_t p = begin - 1;
    while (p > 0 && (static_cast<uint8_t>(text[p]) & 0xC0) == 0x80) --p;
    if (unicode::char_class(unicode::char_at(text.data() + p).code) != unicode::CharClass::kSpace) break;
    begin = p;
  }
  return begin;
}

size_t leading_space(std::string_view text) {
  size_t p = 0;
  while (p < text.size()) {
    const auto [code, size] = unicode::char_at(text.data() + p);
    if (unicode::char_class(code) != unicode::CharClass::kSpace) break;
    p += static_cast<size_t>(size);
  }
  return p;
}

}  // namespace weir
