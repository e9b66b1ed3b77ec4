#include "weir/text/jinja_expressions.h"

namespace weir::jinja {

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

ExprPtr ExpressionParser::make(ExprKind kind, int line) {
  auto e = std::make_unique<Expr>();
  e->kind = kind;
  e->line = line;
  return e;
}

ExprPtr ExpressionParser::finished(ExprPtr e) {
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

ExprPtr ExpressionParser::constant(Value value, int line) {
  ExprPtr e = make(ExprKind::kConst, line);
  e->value = std::move(value);
  return e;
}

ExprPtr ExpressionParser::expression(bool conditional) {
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

ExprPtr ExpressionParser::logical(ExprKind kind, std::string_view keyword, ExprPtr (ExpressionParser::*part)()) {
  const int line = now().line;
  ExprPtr left = (this->*part)();
  if (!word(keyword)) return left;
  ExprPtr chain = make(kind, line);
  chain->args.push_back(std::move(left));
  while (skip_word(keyword)) chain->args.push_back((this->*part)());
  return finished(std::move(chain));
}

ExprPtr ExpressionParser::logical_or() { return logical(ExprKind::kOr, "or", &ExpressionParser::logical_and); }

ExprPtr ExpressionParser::logical_and() { return logical(ExprKind::kAnd, "and", &ExpressionParser::logical_not); }

ExprPtr ExpressionParser::logical_not() {
  const Nested nested(*this);
  const int line = now().line;
  if (skip_word("not")) return make(ExprKind::kNot, line, logical_not());
  return comparison();
}

ExprPtr ExpressionParser::comparison() {
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

ExprPtr ExpressionParser::arithmetic(std::initializer_list<std::pair<std::string_view, Op>> symbols, ExprPtr (ExpressionParser::*part)()) {
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

ExprPtr ExpressionParser::sum() { return arithmetic({{"+", Op::kAdd}, {"-", Op::kSub}}, &ExpressionParser::concat); }

ExprPtr ExpressionParser::product() {
  return arithmetic({{"*", Op::kMul}, {"/", Op::kDiv}, {"//", Op::kFloorDiv}, {"%", Op::kMod}}, &ExpressionParser::power);
}

ExprPtr ExpressionParser::power() { return arithmetic({{"**", Op::kPow}}, &ExpressionParser::operand); }

ExprPtr ExpressionParser::concat() {
  const int line = now().line;
  ExprPtr left = product();
  if (!op("~")) return left;
  ExprPtr chain = make(ExprKind::kConcat, line);
  chain->args.push_back(std::move(left));
  while (skip_op("~")) chain->args.push_back(product());
  return finished(std::move(chain));
}

ExprPtr ExpressionParser::operand() { return unary(true); }

ExprPtr ExpressionParser::unary(bool with_filter) {
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

ExprPtr ExpressionParser::primary() {
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

bool ExpressionParser::at_tuple_end(std::string_view end_word) const {
  return now().kind == TokenKind::kVariableEnd || now().kind == TokenKind::kBlockEnd || op(")") || (!end_word.empty() && word(end_word));
}

ExprPtr ExpressionParser::tuple(bool explicit_parentheses, bool conditional, std::string_view end_word) {
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

ExprPtr ExpressionParser::list() {
  ExprPtr e = make(ExprKind::kList, take().line);
  while (!op("]")) {
    if (!e->args.empty()) expect_op(",");
    if (op("]")) break;
    e->args.push_back(expression());
  }
  expect_op("]");
  return finished(std::move(e));
}

ExprPtr ExpressionParser::dict() {
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

ExprPtr ExpressionParser::postfix(ExprPtr e) {
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

ExprPtr ExpressionParser::subscript(ExprPtr object, int line) {
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

void ExpressionParser::arguments(Expr& e) {
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

ExprPtr ExpressionParser::call(ExprPtr callee) {
  ExprPtr e = make(ExprKind::kCall, now().line);
  e->args.push_back(std::move(callee));
  arguments(*e);
  return finished(std::move(e));
}

std::string ExpressionParser::dotted_name() {
  std::string name = expect_name();
  while (skip_op(".")) name.append(".").append(expect_name());
  return name;
}

ExprPtr ExpressionParser::filter(ExprPtr input) {
  ExprPtr e = make(ExprKind::kFilter, now().line);
  e->name = dotted_name();
  e->args.push_back(std::move(input));
  if (op("(")) arguments(*e);
  return finished(std::move(e));
}

ExprPtr ExpressionParser::test(ExprPtr input) {
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

ExprPtr ExpressionParser::filters_and_tests(ExprPtr e) {
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

}  // namespace weir::jinja
