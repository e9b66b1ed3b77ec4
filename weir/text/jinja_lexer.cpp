#include "weir/text/jinja_lexer.h"

#include <algorithm>
#include <optional>

#include "weir/text/jinja_number.h"
#include "weir/text/jinja_unicode.h"
#include "weir/text/unicode.h"

namespace weir::jinja {
namespace {

// "\r\n" and "\r" count as "\n"; one newline at the very end is dropped.
std::string normalize(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r')
      text += source[i];
    else if (i + 1 >= source.size() || source[i + 1] != '\n')
      text += '\n';
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

size_t skip_space(std::string_view text, size_t at) {
  for (size_t next = at; at < text.size() && is_space(next_char(text, next));) at = next;
  return at;
}

std::string_view strip_right(std::string_view text) {
  for (size_t at = text.size(); at > 0 && is_space(previous_char(text, at));) text = text.substr(0, at);
  return text;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  Lexer(std::string_view source, std::string_view where) : where_(where), text_(normalize(source)) {
    std::string repaired;
    if (unicode::replace_invalid_utf8(text_, repaired).data() != text_.data()) bad("the template is not valid UTF-8");
  }

  std::vector<Token> run() {
    while (at_ < text_.size()) data();
    add(TokenKind::kEnd);
    return std::move(tokens_);
  }

 private:
  template <class... Parts>
  [[noreturn]] void bad(const Parts&... parts) const {
    fail(ErrorCode::kInvalidArgument, where_, ", line ", line_, ": ", parts...);
  }

  bool starts(std::string_view what, size_t at) const { return std::string_view(text_).substr(at).starts_with(what); }
  bool starts(std::string_view what) const { return starts(what, at_); }

  void add(TokenKind kind, std::string text = "") { tokens_.push_back({kind, line_, std::move(text), {}}); }

  // Moves to `end`, counting lines; what was passed decides whether the next data starts a line.
  void advance(size_t end) {
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<ptrdiff_t>(at_), text_.begin() + static_cast<ptrdiff_t>(end), '\n'));
    line_starting_ = end > at_ && text_[end - 1] == '\n';
    at_ = end;
  }

  char sign_at(size_t at) const { return at < text_.size() && (text_[at] == '-' || text_[at] == '+') ? text_[at] : '\0'; }

  // Emits [at_, end) as data in front of a tag whose sign is given.
  void add_data(size_t end, char sign, bool variable) {
    std::string_view data = std::string_view(text_).substr(at_, end - at_);
    if (sign == '-') {
      data = strip_right(data);
    } else if (sign != '+' && !variable) {
      const size_t line = data.rfind('\n') == data.npos ? 0 : data.rfind('\n') + 1;
      if ((line > 0 || line_starting_) && skip_space(data, line) == data.size()) data = data.substr(0, line);
    }
    if (!data.empty()) add(TokenKind::kData, std::string(data));
    advance(end);
  }

  void data() {
    size_t tag = at_;
    while ((tag = text_.find('{', tag)) != text_.npos && !starts("{%", tag) && !starts("{{", tag) && !starts("{#", tag)) ++tag;
    if (tag == text_.npos) {
      add(TokenKind::kData, text_.substr(at_));
      return advance(text_.size());
    }
    const char type = text_[tag + 1], sign = sign_at(tag + 2);
    add_data(tag, sign, type == '{');
    const size_t inside = tag + (sign != '\0' ? 3 : 2);
    if (type == '#') return comment(inside);
    if (type == '%') {
      if (const auto body = raw_body(inside)) return raw(*body);
    }
    add(type == '%' ? TokenKind::kBlockBegin : TokenKind::kVariableBegin);
    advance(inside);
    tag_tokens(type == '%');
  }

  // Behind "-%}" white space goes, behind "%}" one newline (trim_blocks), behind "+%}" nothing. 0 when there is no end tag at `at`.
  size_t end_of_tag(std::string_view closing, size_t at) const {
    const char sign = sign_at(at);
    const size_t tag = at + (sign != '\0' ? 1 : 0);
    if (!starts(closing, tag)) return 0;
    const size_t behind = tag + closing.size();
    if (sign == '-') return skip_space(text_, behind);
    if (closing == "}}") return sign == '\0' ? behind : 0;
    return sign == '\0' && starts("\n", behind) ? behind + 1 : behind;
  }

  void comment(size_t inside) {
    for (size_t close = inside; (close = text_.find("#}", close)) != text_.npos;) {
      const size_t from = close > inside && sign_at(close - 1) != '\0' ? close - 1 : close;
      return advance(end_of_tag("#}", from));
    }
    bad("missing end of comment tag");
  }

  // Where the text of a raw block begins, when the tag that begins at `at` (behind its sign) opens one.
  std::optional<size_t> raw_body(size_t at) const {
    at = skip_space(text_, at);
    if (!starts("raw", at)) return std::nullopt;
    at = skip_space(text_, at + 3);
    if (starts("-%}", at)) return skip_space(text_, at + 3);
    if (starts("%}", at)) return at + 2;
    return std::nullopt;
  }

  void raw(size_t body) {
    advance(body);
    if (at_ == text_.size()) return;  // an empty raw block at the very end needs no end for Jinja2
    for (size_t tag = at_; (tag = text_.find("{%", tag)) != text_.npos; ++tag) {
      const char sign = sign_at(tag + 2);
      size_t at = skip_space(text_, tag + (sign != '\0' ? 3 : 2));
      if (!starts("endraw", at)) continue;
      at = skip_space(text_, at + 6);
      const size_t end = end_of_tag("%}", at);
      if (end == 0) continue;
      add_data(tag, sign, false);
      return advance(end);
    }
    bad("missing end of raw block");
  }

  void tag_tokens(bool block) {
    const std::string_view closing = block ? "%}" : "}}";
    std::string open;  // brackets that wait for their partner: inside them an end tag is none
    for (;;) {
      if (at_ >= text_.size()) return;  // the parser reports what is missing
      if (open.empty()) {
        if (const size_t end = end_of_tag(closing, at_); end != 0) {
          add(block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd);
          return advance(end);
        }
      }
      if (const size_t behind = skip_space(text_, at_); behind != at_) {
        advance(behind);
        continue;
      }
      const char c = text_[at_];
      if (is_digit(c))
        number();
      else if (c == '\'' || c == '"')
        string(c);
      else if (is_name(at_))
        name();
      else
        op(open);
    }
  }

  bool is_name(size_t at) const {
    const char32_t c = next_char(text_, at);
    return c == '_' || (flags_of(c) & kAlphanumeric) != 0;
  }

  void name() {
    size_t end = at_;
    while (end < text_.size() && is_name(end)) next_char(text_, end);
    add(TokenKind::kName, text_.substr(at_, end - at_));
    advance(end);
  }

  // Digits of `allowed`, single "_" between them; `at` itself when there is none.
  size_t digits(size_t at, std::string_view allowed) const {
    const auto is = [&](size_t i) { return i < text_.size() && allowed.find(text_[i]) != allowed.npos; };
    if (!is(at)) return at;
    for (;;) {
      if (is(at + 1))
        ++at;
      else if (at + 1 < text_.size() && text_[at + 1] == '_' && is(at + 2))
        at += 2;
      else
        return at + 1;
    }
  }

  void number() {
    constexpr std::string_view kDecimalDigits = "0123456789";
    const size_t whole = digits(at_, kDecimalDigits);
    size_t end = whole;
    bool is_float = false;
    if (at_ == 0 || text_[at_ - 1] != '.') {
      if (starts(".", end) && digits(end + 1, kDecimalDigits) > end + 1) end = digits(end + 1, kDecimalDigits), is_float = true;
      if (end < text_.size() && (text_[end] | 0x20) == 'e') {
        const size_t exponent = end + 1 + (sign_at(end + 1) != '\0' ? 1 : 0);
        if (digits(exponent, kDecimalDigits) > exponent) end = digits(exponent, kDecimalDigits), is_float = true;
      }
    }
    if (!is_float) end = end_of_integer(whole);
    std::string plain = text_.substr(at_, end - at_);
    std::erase(plain, '_');
    Value value;
    if (is_float) {
      value = Value::real(parse_double(plain).value_or(0.0));
    } else {
      try {
        value = Value::integer(parse_int(plain, 0).value_or(0));
      } catch (const Fault& f) {
        bad(f.message);
      }
    }
    tokens_.push_back({is_float ? TokenKind::kFloat : TokenKind::kInteger, line_, plain, value});
    advance(end);
  }

  size_t end_of_integer(size_t whole) const {
    if (text_[at_] != '0') return whole;
    const char letter = at_ + 1 < text_.size() ? static_cast<char>(text_[at_ + 1] | 0x20) : '\0';
    const std::string_view allowed = letter == 'b' ? "01" : letter == 'o' ? "01234567" : letter == 'x' ? "0123456789abcdefABCDEF" : "";
    if (!allowed.empty()) {
      const size_t first = at_ + 2 + (starts("_", at_ + 2) ? 1 : 0);
      if (digits(first, allowed) > first) return digits(first, allowed);
    }
    return digits(at_, "0");
  }

  void string(char quote) {
    size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) bad("a string is not closed");
    add(TokenKind::kString, unescape(std::string_view(text_).substr(at_ + 1, end - at_ - 1)));
    advance(end + 1);
  }

  // Python's unicode-escape, as Jinja2 applies it.
  std::string unescape(std::string_view raw) const {
    std::string out;
    for (size_t i = 0; i < raw.size();) {
      if (raw[i] != '\\') {
        out += raw[i++];
        continue;
      }
      const char c = raw[i + 1];
      constexpr std::string_view kSimple = "\\'\"abfnrtv", kMeaning = "\\'\"\a\b\f\n\r\t\v";
      const size_t simple = kSimple.find(c);
      if (simple != kSimple.npos) {
        out += kMeaning[simple];
        i += 2;
      } else if (c == '\n') {
        i += 2;
      } else if (c >= '0' && c <= '7') {
        size_t end = i + 1;
        while (end < raw.size() && end < i + 4 && raw[end] >= '0' && raw[end] <= '7') ++end;
        append_code(out, raw.substr(i + 1, end - i - 1), 8);
        i = end;
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        if (raw.size() < i + 2 + n) bad("truncated \\", c, " escape in a string");
        append_code(out, raw.substr(i + 2, n), 16);
        i += 2 + n;
      } else if (c == 'N') {
        bad("\\N{…} in a string is not supported");
      } else if (static_cast<unsigned char>(c) >= 0x80) {
        // Jinja2 writes such a character as its own escape first, so the backslash before it swallows that escape's backslash.
        size_t end = i + 1;
        const char32_t code = next_char(raw, end);
        const int digits = code < 0x100 ? 2 : code < 0x10000 ? 4 : 8;
        out += '\\';
        out += digits == 2 ? 'x' : digits == 4 ? 'u' : 'U';
        for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) out += "0123456789abcdef"[code >> shift & 0xf];
        i = end;
      } else {
        out += '\\';
        out += c;
        i += 2;
      }
    }
    return out;
  }

  void append_code(std::string& out, std::string_view digits, int base) const {
    if (digits.find_first_not_of("0123456789abcdefABCDEF") != digits.npos) bad("truncated escape in a string");
    const auto code = static_cast<uint64_t>(parse_int(digits, base).value_or(-1));
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) bad("a string escape names no Unicode character");
    unicode::append_utf8(out, static_cast<char32_t>(code));
  }

  void op(std::string& open) {
    for (const std::string_view two : {"==", "!=", ">=", "<=", "//", "**"}) {
      if (starts(two)) {
        add(TokenKind::kOperator, std::string(two));
        return advance(at_ + 2);
      }
    }
    const char c = text_[at_];
    if (std::string_view("+-/*%~[](){}><=.:|,;").find(c) == std::string_view::npos) {
      size_t end = at_;
      next_char(text_, end);
      bad("unexpected character '", text_.substr(at_, end - at_), "'");
    }
    if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open.empty()) bad("unexpected '", c, "'");
      if (open.back() != c) bad("unexpected '", c, "', expected '", open.back(), "'");
      open.pop_back();
    }
    add(TokenKind::kOperator, std::string(1, c));
    advance(at_ + 1);
  }

  std::string_view where_;
  std::string text_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, std::string_view where) { return Lexer(source, where).run(); }

}  // namespace weir::jinja
