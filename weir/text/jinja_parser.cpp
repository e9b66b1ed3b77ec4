#include <algorithm>
#include <functional>
#include <initializer_list>

#include "weir/text/jinja_ast.h"
#include "weir/text/jinja_lexer.h"

namespace weir::jinja {
namespace {

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kData: return "text";
    case TokenKind::kVariableBegin: return "'{{'";
    case TokenKind::kVariableEnd: return "'}}'";
    case TokenKind::kBlockBegin: return "'{%'";
    case TokenKind::kBlockEnd: return "'%}'";
    case TokenKind::kString: return "a string";
    case TokenKind::kEnd: return "the end of the template";
    default: return concat("'", token.text, "'");
  }
}

class Parser {
 public:
  Parser(std::string_view source, std::string_view where) : where_(where), tokens_(tokenize(source, where)) {}

  Body run() {
    Body body;
    statements(body, {});
    return body;
  }

 private:
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
    explicit Nested(Parser& p) : parser(p) {
      if (++parser.nesting_ > kMaxNesting) parser.bad("nested deeper than ", kMaxNesting);
    }
    ~Nested() { --parser.nesting_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;
    Parser& parser;
  };

  // ---- expressions

  ExprPtr make(ExprKind kind, int line) {
    auto e = std::make_unique<Expr>();
    e->kind = kind;
    e->line = line;
    return e;
  }

  template <class... Args>
  ExprPtr make(ExprKind kind, int line, Args... args) {
    ExprPtr e = make(kind, line);
    (e->args.push_back(std::move(args)), ...);
    return finished(std::move(e));
  }

  // Every node passes here when its children are in place.
  ExprPtr finished(ExprPtr e) {
    const auto count = [&](const ExprPtr& child) {
      if (child != nullptr) e->depth = std::max(e->depth, child->depth + 1);
    };
    for (const ExprPtr& child : e->args) count(child);
    for (const auto& [name, child] : e->named) count(child);
    count(e->star);
    count(e->double_star);
    if (e->depth > kMaxNesting) bad_at(e->line, "an expression is nested deeper than ", kMaxNesting);
    return e;
  }

  ExprPtr constant(Value value, int line) {
    ExprPtr e = make(ExprKind::kConst, line);
    e->value = std::move(value);
    return e;
  }

  ExprPtr expression(bool conditional = true) {
    const Nested nested(*this);
    if (!conditional) return logical_or();
    int line = now().line;
    ExprPtr left = logical_or();
    while (skip_word("if")) {
      ExprPtr test = logical_or();
      ExprPtr otherwise = skip_word("else") ? expression() : nullptr;
      left = make(ExprKind::kConditional, line, std::move(left), std::move(test), std::move(otherwise));
      line = now().line;
    }
    return left;
  }

  ExprPtr logical(ExprKind kind, std::string_view keyword, ExprPtr (Parser::*part)()) {
    const int line = now().line;
    ExprPtr left = (this->*part)();
    if (!word(keyword)) return left;
    ExprPtr chain = make(kind, line);
    chain->args.push_back(std::move(left));
    while (skip_word(keyword)) chain->args.push_back((this->*part)());
    return finished(std::move(chain));
  }
  ExprPtr logical_or() { return logical(ExprKind::kOr, "or", &Parser::logical_and); }
  ExprPtr logical_and() { return logical(ExprKind::kAnd, "and", &Parser::logical_not); }

  ExprPtr logical_not() {
    const Nested nested(*this);
    const int line = now().line;
    if (skip_word("not")) return make(ExprKind::kNot, line, logical_not());
    return comparison();
  }

  ExprPtr comparison() {
    static constexpr std::pair<std::string_view, Comparison> kSymbols[] = {{"==", Comparison::kEq}, {"!=", Comparison::kNe},
                                                                           {"<", Comparison::kLt},  {"<=", Comparison::kLe},
                                                                           {">", Comparison::kGt},  {">=", Comparison::kGe}};
    const int line = now().line;
    ExprPtr left = sum(), chain;
    for (;;) {
      Comparison comparison = Comparison::kEq;
      const auto* symbol = std::find_if(std::begin(kSymbols), std::end(kSymbols), [&](const auto& s) { return op(s.first); });
      if (symbol != std::end(kSymbols))
        comparison = symbol->second, ++at_;
      else if (skip_word("in"))
        comparison = Comparison::kIn;
      else if (word("not") && is_name(ahead(), "in"))
        comparison = Comparison::kNotIn, at_ += 2;
      else
        break;
      if (chain == nullptr) {
        chain = make(ExprKind::kCompare, line);
        chain->args.push_back(std::move(left));
      }
      chain->comparisons.push_back(comparison);
      chain->args.push_back(sum());
    }
    return chain == nullptr ? std::move(left) : finished(std::move(chain));
  }

  ExprPtr arithmetic(std::initializer_list<std::pair<std::string_view, Op>> symbols, ExprPtr (Parser::*part)()) {
    const int line = now().line;
    ExprPtr left = (this->*part)(), chain;
    for (;;) {
      const auto* symbol = std::find_if(symbols.begin(), symbols.end(), [&](const auto& s) { return op(s.first); });
      if (symbol == symbols.end()) break;
      ++at_;
      if (chain == nullptr) {
        chain = make(ExprKind::kArithmetic, line);
        chain->args.push_back(std::move(left));
      }
      chain->ops.push_back(symbol->second);
      chain->args.push_back((this->*part)());
    }
    return chain == nullptr ? std::move(left) : finished(std::move(chain));
  }
  ExprPtr sum() { return arithmetic({{"+", Op::kAdd}, {"-", Op::kSub}}, &Parser::concat); }
  ExprPtr product() { return arithmetic({{"*", Op::kMul}, {"/", Op::kDiv}, {"//", Op::kFloorDiv}, {"%", Op::kMod}}, &Parser::power); }
  ExprPtr power() { return arithmetic({{"**", Op::kPow}}, &Parser::operand); }

  ExprPtr concat() {
    const int line = now().line;
    ExprPtr left = product();
    if (!op("~")) return left;
    ExprPtr chain = make(ExprKind::kConcat, line);
    chain->args.push_back(std::move(left));
    while (skip_op("~")) chain->args.push_back(product());
    return finished(std::move(chain));
  }

  ExprPtr operand() { return unary(true); }

  ExprPtr unary(bool with_filter) {
    const Nested nested(*this);
    const int line = now().line;
    ExprPtr e;
    if (skip_op("-"))
      e = make(ExprKind::kNegative, line, unary(false));
    else if (skip_op("+"))
      e = make(ExprKind::kPositive, line, unary(false));
    else
      e = primary();
    e = postfix(std::move(e));
    return with_filter ? filters_and_tests(std::move(e)) : std::move(e);
  }

  ExprPtr primary() {
    const Token& token = now();
    switch (token.kind) {
      case TokenKind::kName: {
        ++at_;
        if (token.text == "true" || token.text == "True") return constant(Value::boolean(true), token.line);
        if (token.text == "false" || token.text == "False") return constant(Value::boolean(false), token.line);
        if (token.text == "none" || token.text == "None") return constant(Value::none(), token.line);
        ExprPtr e = make(ExprKind::kName, token.line);
        e->name = token.text;
        for (MacroDef* macro : macros_) {
          macro->uses_caller |= token.text == "caller";
          macro->uses_kwargs |= token.text == "kwargs";
          macro->uses_varargs |= token.text == "varargs";
        }
        return e;
      }
      case TokenKind::kString: {
        std::string text;
        while (now().kind == TokenKind::kString) text += take().text;
        return constant(Value::constant(std::move(text)), token.line);
      }
      case TokenKind::kInteger:
      case TokenKind::kFloat: ++at_; return constant(token.number, token.line);
      default: break;
    }
    if (skip_op("(")) {
      ExprPtr e = tuple(/*explicit_parentheses=*/true);
      expect_op(")");
      return e;
    }
    if (op("[")) return list();
    if (op("{")) return dict();
    bad("unexpected ", describe(token));
  }

  bool at_tuple_end(std::string_view end_word) const {
    return now().kind == TokenKind::kVariableEnd || now().kind == TokenKind::kBlockEnd || op(")") || (!end_word.empty() && word(end_word));
  }

  ExprPtr tuple(bool explicit_parentheses = false, bool conditional = true, std::string_view end_word = "") {
    const int line = now().line;
    std::vector<ExprPtr> items;
    bool is_tuple = false;
    for (;;) {
      if (!items.empty()) expect_op(",");
      if (at_tuple_end(end_word)) break;
      items.push_back(expression(conditional));
      if (!op(",")) break;
      is_tuple = true;
    }
    if (!is_tuple && !items.empty()) return std::move(items[0]);
    if (!is_tuple && !explicit_parentheses) bad("expected an expression, got ", describe(now()));
    ExprPtr e = make(ExprKind::kTuple, line);
    e->args = std::move(items);
    return finished(std::move(e));
  }

  ExprPtr list() {
    ExprPtr e = make(ExprKind::kList, take().line);
    while (!op("]")) {
      if (!e->args.empty()) expect_op(",");
      if (op("]")) break;
      e->args.push_back(expression());
    }
    expect_op("]");
    return finished(std::move(e));
  }

  ExprPtr dict() {
    ExprPtr e = make(ExprKind::kDict, take().line);
    while (!op("}")) {
      if (!e->args.empty()) expect_op(",");
      if (op("}")) break;
      e->args.push_back(expression());
      expect_op(":");
      e->args.push_back(expression());
    }
    expect_op("}");
    return finished(std::move(e));
  }

  ExprPtr postfix(ExprPtr e) {
    for (;;) {
      const int line = now().line;
      if (skip_op(".")) {
        const Token& token = take();
        if (token.kind == TokenKind::kName) {
          e = make(ExprKind::kAttribute, line, std::move(e));
          e->name = token.text;
        } else if (token.kind == TokenKind::kInteger) {
          e = make(ExprKind::kItem, line, std::move(e), constant(token.number, token.line));
        } else {
          bad_at(token.line, "expected a name or a number after '.', got ", describe(token));
        }
      } else if (skip_op("[")) {
        e = subscript(std::move(e), line);
      } else if (op("(")) {
        e = call(std::move(e));
      } else {
        return e;
      }
    }
  }

  ExprPtr subscript(ExprPtr object, int line) {
    std::vector<ExprPtr> parts;
    bool is_slice = false;
    while (!op("]")) {
      if (!parts.empty()) expect_op(",");
      if (is_slice) bad("a slice among several subscripts is not supported");
      ExprPtr first = op(":") ? nullptr : expression();
      if (!skip_op(":")) {
        parts.push_back(std::move(first));
        continue;
      }
      if (!parts.empty()) bad("a slice among several subscripts is not supported");
      is_slice = true;
      const auto part = [&]() -> ExprPtr { return op(":") || op("]") || op(",") ? nullptr : expression(); };
      parts.push_back(std::move(first));
      parts.push_back(part());
      parts.push_back(skip_op(":") ? part() : nullptr);
    }
    expect_op("]");
    if (is_slice) return make(ExprKind::kSlice, line, std::move(object), std::move(parts[0]), std::move(parts[1]), std::move(parts[2]));
    if (parts.size() == 1) return make(ExprKind::kItem, line, std::move(object), std::move(parts[0]));
    ExprPtr key = make(ExprKind::kTuple, line);
    key->args = std::move(parts);
    return make(ExprKind::kItem, line, std::move(object), finished(std::move(key)));
  }

  void arguments(Expr& e) {
    const int line = now().line;
    expect_op("(");
    const auto ensure = [&](bool ok) {
      if (!ok) bad_at(line, "invalid order of arguments in a call");
    };
    bool comma = false;
    while (!op(")")) {
      if (comma) {
        expect_op(",");
        if (op(")")) break;
      }
      comma = true;
      if (skip_op("*")) {
        ensure(e.star == nullptr && e.double_star == nullptr);
        e.star = expression();
      } else if (skip_op("**")) {
        ensure(e.double_star == nullptr);
        e.double_star = expression();
      } else if (now().kind == TokenKind::kName && is_op(ahead(), "=")) {
        ensure(e.double_star == nullptr);
        const std::string name = take().text;
        ++at_;
        if (std::any_of(e.named.begin(), e.named.end(), [&](const auto& n) { return n.first == name; }))
          bad("argument '", name, "' is given twice");
        e.named.emplace_back(name, expression());
      } else {
        ensure(e.star == nullptr && e.double_star == nullptr && e.named.empty());
        e.args.push_back(expression());
      }
    }
    expect_op(")");
  }

  ExprPtr call(ExprPtr callee) {
    ExprPtr e = make(ExprKind::kCall, now().line);
    e->args.push_back(std::move(callee));
    arguments(*e);
    return finished(std::move(e));
  }

  std::string dotted_name() {
    std::string name = expect_name();
    while (skip_op(".")) name.append(".").append(expect_name());
    return name;
  }

  ExprPtr filter(ExprPtr input) {
    ExprPtr e = make(ExprKind::kFilter, now().line);
    e->name = dotted_name();
    e->args.push_back(std::move(input));
    if (op("(")) arguments(*e);
    return finished(std::move(e));
  }

  ExprPtr test(ExprPtr input) {
    const int line = now().line;
    ++at_;
    const bool negated = skip_word("not");
    ExprPtr e = make(ExprKind::kTest, line);
    e->name = dotted_name();
    e->args.push_back(std::move(input));
    const TokenKind kind = now().kind;
    if (op("(")) {
      arguments(*e);
    } else if ((kind == TokenKind::kName || kind == TokenKind::kString || kind == TokenKind::kInteger || kind == TokenKind::kFloat ||
                op("[") || op("{")) &&
               !word_of({"else", "or", "and"})) {
      if (word("is")) bad("tests cannot be chained with 'is'");
      ExprPtr argument = primary();
      e->args.push_back(postfix(std::move(argument)));
    }
    e = finished(std::move(e));
    return negated ? make(ExprKind::kNot, line, std::move(e)) : std::move(e);
  }

  ExprPtr filters_and_tests(ExprPtr e) {
    for (;;) {
      if (skip_op("|"))
        e = filter(std::move(e));
      else if (word("is"))
        e = test(std::move(e));
      else if (op("("))
        e = call(std::move(e));
      else
        return e;
    }
  }

  // ---- targets

  static constexpr std::string_view kConstants[] = {"true", "false", "none", "True", "False", "None"};

  std::string target_name() {
    const int line = now().line;
    std::string name = expect_name();
    if (std::find(std::begin(kConstants), std::end(kConstants), name) != std::end(kConstants))
      bad_at(line, "cannot assign to '", name, "'");
    return name;
  }

  Target target_of(const Expr& e) {
    Target target;
    if (e.kind == ExprKind::kName) {
      if (e.name == "loop" && loops_in_file_ > 0) bad_at(e.line, "cannot assign to the special variable 'loop' inside a loop");
      target.name = e.name;
    } else if (e.kind == ExprKind::kTuple) {
      for (const ExprPtr& item : e.args) target.items.push_back(target_of(*item));
    } else {
      bad_at(e.line, "cannot assign to this expression");
    }
    return target;
  }

  // One target, or several with commas between, which unpack a sequence.
  Target target(std::string_view end_word, bool with_namespace) {
    Target whole;
    bool is_tuple = false;
    while (!at_tuple_end(end_word)) {
      if (with_namespace && now().kind == TokenKind::kName && is_op(ahead(), ".")) {
        Target t;
        t.name = take().text;
        ++at_;
        t.attribute = expect_name();
        whole.items.push_back(std::move(t));
      } else {
        const ExprPtr e = primary();
        whole.items.push_back(target_of(*e));
      }
      if (!op(",")) break;
      is_tuple = true;
      ++at_;
    }
    if (is_tuple) return whole;
    if (whole.items.empty()) bad("expected a name to assign to, got ", describe(now()));
    return std::move(whole.items[0]);
  }

  // ---- statements

  // Up to a tag of one of the names in `ends` (left as the current token), or the end of the template when there are none.
  void statements(Body& body, Names ends) {
    for (;;) {
      switch (now().kind) {
        case TokenKind::kData: {
          Stmt& s = add(body, StmtKind::kData);
          s.text = take().text;
          break;
        }
        case TokenKind::kVariableBegin: {
          Stmt& s = add(body, StmtKind::kPrint);
          ++at_;
          s.expr = tuple();
          if (now().kind != TokenKind::kVariableEnd) bad("expected '}}', got ", describe(now()));
          ++at_;
          break;
        }
        case TokenKind::kBlockBegin:
          ++at_;
          if (word_of(ends)) return;
          statement(body);
          expect_block_end();
          break;
        default:
          if (now().kind == TokenKind::kEnd && ends.size() == 0) return;
          bad(ends.size() == 0 ? "unexpected " : "a block is not closed: unexpected ", describe(now()),
              ends.size() == 0 ? "" : weir::concat(", expected {% ", *(ends.end() - 1), " %}"));
      }
    }
  }

  Stmt& add(Body& body, StmtKind kind) {
    auto s = std::make_unique<Stmt>();
    s->kind = kind;
    s->line = now().line;
    body.statements.push_back(std::move(s));
    return *body.statements.back();
  }

  // The body of a tag whose words are read: up to one of `ends`.
  void block(Body& body, Names ends) {
    skip_op(":");
    expect_block_end();
    statements(body, ends);
  }
  void block_to(Body& body, std::string_view end) {
    block(body, {end});
    ++at_;
  }

  void statement(Body& body) {
    const Nested nested(*this);
    if (now().kind != TokenKind::kName) bad("expected the name of a tag, got ", describe(now()));
    static const std::pair<std::string_view, void (Parser::*)(Body&)> kTags[] = {
        {"for", &Parser::for_tag},
        {"if", &Parser::if_tag},
        {"set", &Parser::set_tag},
        {"macro", &Parser::macro_tag},
        {"call", &Parser::call_tag},
        {"filter", &Parser::filter_tag},
        {"with", &Parser::with_tag},
        {"print", &Parser::print_tag},
        {"generation", &Parser::generation_tag},
        {"break", &Parser::break_tag},
        {"continue", &Parser::continue_tag},
    };
    for (const auto& [name, parse] : kTags) {
      if (word(name)) return (this->*parse)(body);
    }
    if (word_of({"extends", "block", "include", "import", "from", "autoescape"})) bad("the tag '", now().text, "' is not supported");
    bad("unknown tag '", now().text, "'");
  }

  void for_tag(Body& body) {
    Stmt& s = add(body, StmtKind::kFor);
    ++at_;
    ++loops_in_file_;
    s.target = target("in", false);
    if (!skip_word("in")) bad("expected 'in', got ", describe(now()));
    s.expr = tuple(false, /*conditional=*/false, "recursive");
    if (skip_word("if")) s.test = expression();
    s.recursive = skip_word("recursive");
    ++loops_;
    block(s.body, {"else", "endfor"});
    --loops_;
    if (take().text == "else") block_to(s.otherwise, "endfor");
    --loops_in_file_;
  }

  void if_tag(Body& body) {
    Stmt& s = add(body, StmtKind::kIf);
    for (;;) {
      ++at_;
      ExprPtr test = tuple(false, /*conditional=*/false);
      s.branches.emplace_back(std::move(test), Body{});
      block(s.branches.back().second, {"elif", "else", "endif"});
      if (word("elif")) continue;
      if (take().text == "else") {
        s.branches.emplace_back(nullptr, Body{});
        block_to(s.branches.back().second, "endif");
      }
      return;
    }
  }

  void set_tag(Body& body) {
    Stmt& s = add(body, StmtKind::kSet);
    ++at_;
    s.target = target("", true);
    if (skip_op("=")) {
      s.expr = tuple();
      return;
    }
    s.kind = StmtKind::kSetBlock;
    while (skip_op("|")) s.expr = filter(std::move(s.expr));
    block_to(s.body, "endset");
  }

  void signature(MacroDef& macro) {
    expect_op("(");
    while (!op(")")) {
      if (!macro.params.empty()) expect_op(",");
      const std::string name = target_name();
      if (std::find(macro.params.begin(), macro.params.end(), name) != macro.params.end()) bad("parameter '", name, "' occurs twice");
      if (skip_op("="))
        macro.defaults.push_back(expression());
      else if (!macro.defaults.empty())
        bad("a parameter without default follows one with default");
      macro.params.push_back(name);
    }
    expect_op(")");
  }

  // Loops outside a macro cannot be left from inside it.
  void macro_body(MacroDef& macro, std::string_view end) {
    const int outer_loops = std::exchange(loops_, 0);
    macros_.push_back(&macro);
    block_to(macro.body, end);
    macros_.pop_back();
    loops_ = outer_loops;
    const auto it = std::find(macro.params.begin(), macro.params.end(), "caller");
    if (macro.uses_caller && it != macro.params.end() && macro.params.end() - it > static_cast<ptrdiff_t>(macro.defaults.size()))
      bad("the parameter 'caller' of a macro needs a default");
  }

  void macro_tag(Body& body) {
    Stmt& s = add(body, StmtKind::kMacro);
    ++at_;
    s.macro.name = target_name();
    signature(s.macro);
    macro_body(s.macro, "endmacro");
  }

  void call_tag(Body& body) {
    Stmt& s = add(body, StmtKind::kCallBlock);
    ++at_;
    if (op("(")) signature(s.macro);
    s.expr = expression();
    if (s.expr->kind != ExprKind::kCall) bad("expected the call of a macro");
    macro_body(s.macro, "endcall");
  }

  void filter_tag(Body& body) {
    Stmt& s = add(body, StmtKind::kFilterBlock);
    ++at_;
    s.expr = filter(nullptr);
    while (skip_op("|")) s.expr = filter(std::move(s.expr));
    block_to(s.body, "endfilter");
  }

  void with_tag(Body& body) {
    Stmt& s = add(body, StmtKind::kWith);
    ++at_;
    while (now().kind != TokenKind::kBlockEnd) {
      if (!s.bindings.empty()) expect_op(",");
      Target name = target("", false);
      expect_op("=");
      ExprPtr value = expression();
      s.bindings.emplace_back(std::move(name), std::move(value));
    }
    block_to(s.body, "endwith");
  }

  void print_tag(Body& body) {
    ++at_;
    for (bool first = true; now().kind != TokenKind::kBlockEnd; first = false) {
      if (!first) expect_op(",");
      Stmt& s = add(body, StmtKind::kPrint);
      s.expr = expression();
    }
  }

  void generation_tag(Body& body) {
    Stmt& s = add(body, StmtKind::kScope);
    ++at_;
    const int outer_loops = std::exchange(loops_, 0);
    block_to(s.body, "endgeneration");
    loops_ = outer_loops;
  }

  void leave(Body& body, StmtKind kind) {
    if (loops_ == 0) bad("'", now().text, "' outside a loop");
    add(body, kind);
    ++at_;
  }
  void break_tag(Body& body) { leave(body, StmtKind::kBreak); }
  void continue_tag(Body& body) { leave(body, StmtKind::kContinue); }

  std::string_view where_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
  int loops_ = 0;                  // loops that `break` can leave from here
  int loops_in_file_ = 0;          // loops around this place, through macros too
  std::vector<MacroDef*> macros_;  // whose bodies are being parsed
};

}  // namespace

Template parse(std::string_view source, std::string where) {
  constexpr size_t kMaxTemplateBytes = size_t{4} << 20;
  if (source.size() > kMaxTemplateBytes)
    fail(ErrorCode::kInvalidArgument, where, ": a template of ", source.size(), " bytes, at most ", kMaxTemplateBytes, " are accepted");
  Template tmpl;
  tmpl.body = Parser(source, where).run();
  tmpl.where = std::move(where);
  resolve_names(tmpl);
  return tmpl;
}

}  // namespace weir::jinja
