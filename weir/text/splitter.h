// Cuts text into the pieces that byte pairs are merged inside: Qwen's regular expression, written out by hand.
#pragma once

#include <optional>
#include <string_view>

namespace weir {

class Splitter {
 public:
  // The pattern of Qwen3.5 and the one of Qwen2, Qwen2.5 and Qwen3, which differ in combining marks: part of a word, or not.
  // nullopt for every other regular expression.
  static std::optional<Splitter> for_pattern(std::string_view regex);

  // End of the piece that begins at text[begin]; pieces cover the text without gaps. Linear over all pieces of a text.
  // REQUIRES: text is valid UTF-8, begin < text.size() is the start of a character
  size_t piece_end(std::string_view text, size_t begin) const;

 private:
  explicit Splitter(bool marks_join_words) : marks_join_words_(marks_join_words) {}
  bool marks_join_words_;
};

}  // namespace weir
