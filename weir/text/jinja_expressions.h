// Expressions of the template language, parsed by recursive descent with Jinja2's precedences (which are not all Python's). The
// statements' parser builds on it: they share the tokens.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "weir/text/jinja_ast.h"
#include "weir/text/jinja_lexer.h"

namespace weir::jinja {

std::string describe(const Token& token);  // as an error names it

class ExpressionParser {
 protected:
  ExpressionParser(std::string_view source, std::string_view where) : where_(where), tokens_(tokenize(source, where)) {}

  using Names = std::initializer_list<std::string_view>;

  // ---- tokens

  template <class... Parts>
  [[noreturn]] void bad_at(int line, const Parts&... parts) const {
    fail(ErrorCode::kInvalidArgument, where_, ", line ", line, ": ", parts...);
  }
  template <class... Parts>
  [[noreturn]] void bad(const Parts&... parts) const {
    bad_at(now().line, parts...);
  }

  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& take() {
    const Token& token = now();
    if (token.kind != TokenKind::kEnd) ++at_;
    return token;
  }
  static bool is_op(const Token& token, std::string_view text) { return token.kind == TokenKind::kOperator && token.text == text; }
  static bool is_name(const Token& token, std::string_view text) { return token.kind == TokenKind::kName && token.text == text; }
  bool op(std::string_view text) const { return is_op(now(), text); }
  bool word(std::string_view text) const { return is_name(now(), text); }
  bool word_of(Names words) const {
    return std::any_of(words.begin(), words.end(), [&](auto w) { return word(w); });
  }
  bool skip_op(std::string_view text) { return op(text) && (++at_, true); }
  bool skip_word(std::string_view text) { return word(text) && (++at_, true); }
  void expect_op(std::string_view text) {
    if (!skip_op(text)) bad("expected '", text, "', got ", describe(now()));
  }
  std::string expect_name() {
    if (now().kind != TokenKind::kName) bad("expected a name, got ", describe(now()));
    return take().text;
  }
  void expect_block_end() {
    if (now().kind != TokenKind::kBlockEnd) bad("expected '%}', got ", describe(now()));
    ++at_;
  }

  // Parsing recurses with the nesting of the template, which must not exhaust the stack.
  struct Nested {
    explicit Nested(ExpressionParser& p) : parser(p) {
      if (++parser.nesting_ > kMaxNesting) parser.bad("nested deeper than ", kMaxNesting);
    }
    ~Nested() { --parser.nesting_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;
    ExpressionParser& parser;
  };

  // ---- expressions

  // conditional: `a if b else c` is allowed.
  ExprPtr expression(bool conditional = true);
  // One expression, or several with commas between. explicit_parentheses: "()" is an empty tuple; end_word also ends it.
  ExprPtr tuple(bool explicit_parentheses = false, bool conditional = true, std::string_view end_word = "");
  bool at_tuple_end(std::string_view end_word) const;
  ExprPtr primary();
  ExprPtr filter(ExprPtr input);  // behind "|"; input is null where a block is filtered

  std::string_view where_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
  std::vector<MacroDef*> macros_;  // whose bodies are being parsed: they learn which special names those mention

 private:
  static ExprPtr make(ExprKind kind, int line);
  template <class... Args>
  ExprPtr make(ExprKind kind, int line, Args... args) {
    ExprPtr e = make(kind, line);
    (e->args.push_back(std::move(args)), ...);
    return finished(std::move(e));
  }
  // Every node passes here when its children are in place.
  ExprPtr finished(ExprPtr e);
  ExprPtr constant(Value value, int line);
  ExprPtr logical(ExprKind kind, std::string_view keyword, ExprPtr (ExpressionParser::*part)());
  ExprPtr logical_or();
  ExprPtr logical_and();
  ExprPtr logical_not();
  ExprPtr comparison();
  ExprPtr arithmetic(std::initializer_list<std::pair<std::string_view, Op>> symbols, ExprPtr (ExpressionParser::*part)());
  ExprPtr sum();
  ExprPtr product();
  ExprPtr power();
  ExprPtr concat();
  ExprPtr operand();
  ExprPtr unary(bool with_filter);
  ExprPtr list();
  ExprPtr dict();
  ExprPtr postfix(ExprPtr e);
  ExprPtr subscript(ExprPtr object, int line);
  void arguments(Expr& e);
  ExprPtr call(ExprPtr callee);
  std::string dotted_name();
  ExprPtr test(ExprPtr input);
  ExprPtr filters_and_tests(ExprPtr e);
};

}  // namespace weir::jinja
