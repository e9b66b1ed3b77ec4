// Patterns that files use to speak of tensors by name: shell globs in our recipes, regular expressions ("re:…") in compressed-tensors
// configs. Patterns are untrusted: one that is malformed, not supported or too expensive to match throws Error with the pattern.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace weir {

class NamePattern {
 public:
  // '*' is any run of characters (dots too), '?' one of them, "[abc]", "[a-z]", "[!abc]" one of a set. The whole name must match.
  static NamePattern glob(std::string_view text);
  // What such configs use of Python's `re`, matched from the start of the name (re.match): literals and escapes, '.', sets, groups, '|', ^
  // and $, * + ? {m,n} with their lazy forms, lookahead (?=…) and (?!…). Not: flags, backreferences, lookbehind, \b.
  static NamePattern regex(std::string_view text);

  bool matches(std::string_view name) const;
  const std::string& text() const { return text_; }

 private:
  struct Node;
  class Parser;
  class Matcher;
  NamePattern() = default;

  std::string text_;
  std::shared_ptr<const Node> root_;  // immutable, shared by copies
};

}  // namespace weir
