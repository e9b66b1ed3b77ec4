#include <algorithm>

#include "weir/text/jinja_expressions.h"

namespace weir::jinja {
namespace {

class Parser : private ExpressionParser {
 public:
  Parser(std::string_view source, std::string_view where) : ExpressionParser(source, where) {}

  Body run() {
    Body body;
    statements(body, {});
    return body;
  }

 private:
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

  int loops_ = 0;          // loops that `break` can leave from here
  int loops_in_file_ = 0;  // loops around this place, through macros too
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
