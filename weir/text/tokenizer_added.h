// Finds added tokens ("<|im_start|>") in text: leftmost, and the longest of those that begin at the same place.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weir {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool lstrip = false;      // swallows the white space before it
  bool rstrip = false;      // and behind it
  bool normalized = false;  // looked for in normalised text
  bool special = false;
};

class AddedTokenFinder {
 public:
  // The contents must differ and not be empty.
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  struct Match {
    size_t begin = 0, end = 0;  // without stripped white space
    const AddedToken* token = nullptr;
  };
  // The first match that begins at `from` or later.
  std::optional<Match> next(std::string_view text, size_t from) const;

  bool empty() const { return tokens_.empty(); }

 private:
  struct Range {
    uint32_t begin = 0, end = 0;
  };
  std::vector<AddedToken> tokens_;        // sorted by content, so that tokens with a common prefix are neighbours
  std::array<Range, 256> by_first_byte_;  // in tokens_
  char only_first_byte_ = 0;              // when all begin with the same byte, as usual ('<'), memchr finds it
};

// Calls plain(text) and added(id) in the order of the text, with stripping and overlaps exactly as HF `tokenizers` has them.
template <class Plain, class Added>
void cut_added_tokens(const AddedTokenFinder& finder, std::string_view text, Plain&& plain, Added&& added);

// First byte of the white space that ends text; bytes of white space that text begins with.  REQUIRES: text is valid UTF-8
size_t trailing_space(std::string_view text);
size_t leading_space(std::string_view text);

template <class Plain, class Added>
void cut_added_tokens(const AddedTokenFinder& finder, std::string_view text, Plain&& plain, Added&& added) {
  size_t done = 0;
  for (auto match = finder.next(text, 0); match; match = finder.next(text, match->end)) {
    auto [begin, end, token] = *match;
    if (token->lstrip) begin = std::max(done, trailing_space(text.substr(0, begin)));
    if (token->rstrip) end += leading_space(text.substr(end));
    if (done < begin) plain(text.substr(done, begin - done));
    added(token->id);
    done = end;
  }
  if (done < text.size()) plain(text.substr(done));
}

}  // namespace weir
