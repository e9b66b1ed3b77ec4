#include "weir/weights/name_pattern.h"

#include <algorithm>
#include <bitset>
#include <functional>
#include <limits>
#include <vector>

#include "weir/base/error.h"
#include "weir/weights/names.h"

namespace weir {
namespace {

constexpr size_t kMaxPattern = 4'096, kMaxDepth = 40;  // characters; groups inside groups
constexpr int kMaxCount = 1'000;                       // of {m,n}
constexpr int kMaxSteps = 200'000, kMaxRecursion = 3'000;
constexpr int kUnbounded = std::numeric_limits<int>::max();

using Characters = std::bitset<256>;

void add(Characters& set, char c) { set.set(static_cast<unsigned char>(c)); }
void add_range(Characters& set, char first, char last) {
  for (int c = static_cast<unsigned char>(first); c <= static_cast<unsigned char>(last); ++c) set.set(static_cast<size_t>(c));
}

// \d, \w, \s and their opposites; nullopt-like empty set when `c` names none.
Characters named_set(char c) {
  Characters set;
  switch (c) {
    case 'd':
    case 'D': add_range(set, '0', '9'); break;
    case 'w':
    case 'W': add_range(set, '0', '9'), add_range(set, 'a', 'z'), add_range(set, 'A', 'Z'), add(set, '_'); break;
    case 's':
    case 'S':
      for (const char space : {' ', '\t', '\n', '\r', '\f', '\v'}) add(set, space);
      break;
    default: return set;
  }
  return c < 'a' ? ~set : set;
}

bool is_word(char c) { return named_set('w').test(static_cast<unsigned char>(c)); }

}  // namespace

// One item of a sequence, `min` to `max` times.
struct NamePattern::Node {
  enum class Kind : uint8_t { kSet, kGroup, kStart, kEnd, kAhead, kNotAhead };
  Kind kind = Kind::kGroup;
  Characters set;                               // of kSet
  std::vector<std::vector<Node>> alternatives;  // of kGroup, kAhead, kNotAhead
  int min = 1, max = 1;
  bool greedy = true;
};

class NamePattern::Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Node regex() {
    Node root;
    root.alternatives = alternatives(0);
    if (at_ < text_.size()) bad("an unmatched ')'");
    return root;
  }

  Node glob() {
    std::vector<Node> items;
    while (at_ < text_.size()) {
      Node node{.kind = Node::Kind::kSet};
      const char c = text_[at_++];
      if (c == '*') {
        if (!items.empty() && items.back().max == kUnbounded) continue;  // "**" is "*"
        node.set.set(), node.min = 0, node.max = kUnbounded;
      } else if (c == '?') {
        node.set.set();
      } else if (c == '[') {
        node.set = set('!');
      } else {
        add(node.set, c);
      }
      items.push_back(std::move(node));
    }
    items.push_back({.kind = Node::Kind::kEnd});
    Node root;
    root.alternatives.push_back(std::move(items));
    return root;
  }

 private:
  [[noreturn]] void bad(const std::string& what) const {
    fail(ErrorCode::kInvalidArgument, "pattern ", shown(text_), " has ", what, " at character ", at_);
  }
  bool next_is(std::string_view wanted) const { return text_.substr(std::min(at_, text_.size())).starts_with(wanted); }

  std::vector<std::vector<Node>> alternatives(size_t depth) {
    if (depth > kMaxDepth) bad(concat("groups more than ", kMaxDepth, " deep"));
    std::vector<std::vector<Node>> out(1);
    while (at_ < text_.size() && text_[at_] != ')') {
      if (text_[at_] == '|') {
        ++at_;
        out.emplace_back();
      } else {
        out.back().push_back(item(depth));
      }
    }
    return out;
  }

  Node item(size_t depth) {
    Node node{.kind = Node::Kind::kSet};
    const char c = text_[at_++];
    switch (c) {
      case '^': return {.kind = Node::Kind::kStart};
      case '$': return {.kind = Node::Kind::kEnd};
      case '*':
      case '+':
      case '?': --at_, bad(concat("nothing before '", c, "'"));
      case '.':
        node.set.set();
        node.set.reset('\n');
        break;
      case '[': node.set = set('^'); break;
      case '\\': node.set = escape(); break;
      case '(':
        node.kind = group_kind();
        node.alternatives = alternatives(depth + 1);
        if (!next_is(")")) bad("a '(' without ')'");
        ++at_;
        if (node.kind != Node::Kind::kGroup) return node;
        break;
      default: add(node.set, c);
    }
    quantifier(node);
    return node;
  }

  Node::Kind group_kind() {
    if (!next_is("?")) return Node::Kind::kGroup;
    for (const auto& [opening, kind] : {std::pair{"?:", Node::Kind::kGroup}, {"?=", Node::Kind::kAhead}, {"?!", Node::Kind::kNotAhead}})
      if (next_is(opening)) return at_ += 2, kind;
    bad("a kind of group that is not supported (plain ones, (?:…), (?=…) and (?!…) are)");
  }

  Characters escape() {
    if (at_ == text_.size()) bad("a '\\' with nothing behind it");
    const char c = text_[at_++];
    if (const Characters named = named_set(c); named.any()) return named;
    Characters out;
    if (is_word(c)) --at_, bad(concat("an escape that is not supported, '\\", c, "'"));
    add(out, c);
    return out;
  }

  // Behind '['. `negation` is what turns the set around as its first character.
  Characters set(char negation) {
    Characters out;
    const bool turned = at_ < text_.size() && text_[at_] == negation;
    if (turned) ++at_;
    for (bool first = true;; first = false) {
      if (at_ == text_.size()) bad("a '[' without ']'");
      char c = text_[at_++];
      if (c == ']' && !first) return turned ? ~out : out;
      if (c == '\\' && negation == '^') {
        out |= escape();
        continue;
      }
      if (next_is("-") && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        const char last = text_[at_ + 1];
        if (static_cast<unsigned char>(last) < static_cast<unsigned char>(c)) bad(concat("a range backwards, ", c, "-", last));
        add_range(out, c, last);
        at_ += 2;
      } else {
        add(out, c);
      }
    }
  }

  void quantifier(Node& node) {
    if (at_ == text_.size()) return;
    switch (text_[at_]) {
      case '*': node.min = 0, node.max = kUnbounded; break;
      case '+': node.max = kUnbounded; break;
      case '?': node.min = 0; break;
      case '{':
        if (!counts(node)) return;  // a brace that counts nothing means itself, as in Python
        --at_;
        break;
      default: return;
    }
    ++at_;
    if (next_is("?")) ++at_, node.greedy = false;
    if (at_ < text_.size() && (text_[at_] == '*' || text_[at_] == '+' || text_[at_] == '?')) bad("two quantifiers in a row");
  }

  // "{2}", "{2,}", "{,3}", "{2,3}": reads behind the closing brace. False, and nothing read, when it is none of them.
  bool counts(Node& node) {
    const size_t begin = at_++;
    const auto number = [&](int otherwise) {
      if (at_ == text_.size() || text_[at_] < '0' || text_[at_] > '9') return otherwise;
      int value = 0;
      for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
        value = 10 * value + (text_[at_] - '0');
        if (value > kMaxCount) bad(concat("a count above ", kMaxCount));
      }
      return value;
    };
    const int min = number(0);
    const bool one = at_ > begin + 1, range = next_is(",");
    if (range) ++at_;
    const int max = range ? number(kUnbounded) : min;
    if (!next_is("}") || (!one && !range)) {
      at_ = begin;
      return false;
    }
    ++at_;
    if (max < min) bad(concat("counts backwards, {", min, ",", max, "}"));
    node.min = min, node.max = max;
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
};

// Backtracking over what is left to match, which is passed on as a continuation. Steps and depth are bounded.
class NamePattern::Matcher {
 public:
  Matcher(const std::string& pattern, std::string_view name) : pattern_(pattern), name_(name) {}

  using Rest = std::function<bool(size_t)>;

  bool any(const std::vector<std::vector<Node>>& alternatives, size_t at, const Rest& rest) {
    return std::any_of(alternatives.begin(), alternatives.end(), [&](const auto& sequence) { return all(sequence, 0, at, rest); });
  }

 private:
  bool all(const std::vector<Node>& sequence, size_t index, size_t at, const Rest& rest) {
    if (++steps_ > kMaxSteps || depth_ > kMaxRecursion)
      fail(ErrorCode::kInvalidArgument, "pattern ", shown(pattern_), " is too expensive to match with ", shown(name_));
    if (index == sequence.size()) return rest(at);
    const Node& node = sequence[index];
    const auto further = [&](size_t next) { return all(sequence, index + 1, next, rest); };
    switch (node.kind) {
      case Node::Kind::kStart: return at == 0 && further(at);
      case Node::Kind::kEnd: return at == name_.size() && further(at);
      case Node::Kind::kAhead: return any(node.alternatives, at, [](size_t) { return true; }) && further(at);
      case Node::Kind::kNotAhead: return !any(node.alternatives, at, [](size_t) { return true; }) && further(at);
      case Node::Kind::kSet: return run(node, at, further);
      case Node::Kind::kGroup: return repeat(node, 0, at, further);
    }
    return false;
  }

  bool run(const Node& node, size_t at, const Rest& rest) {
    size_t most = at;
    const auto max = static_cast<size_t>(node.max);
    while (most < name_.size() && most - at < max && node.set.test(static_cast<unsigned char>(name_[most]))) ++most;
    const size_t least = at + static_cast<size_t>(node.min);
    if (most < least) return false;
    ++depth_;
    bool found = false;
    if (node.greedy)
      for (size_t end = most + 1; !found && end-- > least;) found = rest(end);
    else
      for (size_t end = least; !found && end <= most; ++end) found = rest(end);
    --depth_;
    return found;
  }

  bool repeat(const Node& node, int count, size_t at, const Rest& rest) {
    const auto once_more = [&] {
      // A turn that eats nothing would go on for ever and bring nothing new, except towards the least count.
      return count < node.max &&
             any(node.alternatives, at, [&](size_t end) { return (end > at || count < node.min) && repeat(node, count + 1, end, rest); });
    };
    const auto stop = [&] { return count >= node.min && rest(at); };
    ++depth_;
    const bool found = node.greedy ? once_more() || stop() : stop() || once_more();
    --depth_;
    return found;
  }

  const std::string& pattern_;
  std::string_view name_;
  int steps_ = 0, depth_ = 0;
};

NamePattern NamePattern::glob(std::string_view text) {
  if (text.size() > kMaxPattern) fail(ErrorCode::kInvalidArgument, "pattern ", shown(text), " is longer than ", kMaxPattern, " characters");
  NamePattern out;
  out.text_ = text;
  out.root_ = std::make_shared<const Node>(Parser(text).glob());
  return out;
}

NamePattern NamePattern::regex(std::string_view text) {
  if (text.size() > kMaxPattern) fail(ErrorCode::kInvalidArgument, "pattern ", shown(text), " is longer than ", kMaxPattern, " characters");
  NamePattern out;
  out.text_ = text;
  out.root_ = std::make_shared<const Node>(Parser(text).regex());
  return out;
}

bool NamePattern::matches(std::string_view name) const {
  return Matcher(text_, name).any(root_->alternatives, 0, [](size_t) { return true; });
}

}  // namespace weir
