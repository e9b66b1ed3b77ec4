// Which names each scope of a template mentions. Jinja2 decides at compile time which names are local to a scope, and a template can
// see the difference (Body::unset); the same walk refuses filters and tests that do not exist, where Jinja2 refuses them.
#include <set>

#include "weir/text/jinja_ast.h"
#include "weir/text/jinja_builtins.h"

namespace weir::jinja {
namespace {

struct Scope {
  const Scope* outer = nullptr;
  std::set<std::string_view> names;  // mentioned here, not found in an outer scope
  bool knows(std::string_view name) const {
    for (const Scope* s = this; s != nullptr; s = s->outer) {
      if (s->names.contains(name)) return true;
    }
    return false;
  }
};

class Walk {
 public:
  explicit Walk(std::string_view where) : where_(where) {}

  // First all mentions in this scope, then the scopes inside it, which see them all.
  void scope(Scope& s, Body& body) {
    Body* const outer_body = std::exchange(body_, &body);
    const int outer_branch = std::exchange(branch_, 0);
    for (auto& stmt : body.statements) mentions(s, *stmt);
    branch_ = outer_branch;
    body_ = outer_body;
    inner_scopes(s, body);
  }

 private:
  // ---- expressions: names are loaded, in the order Jinja2 visits them

  // optional: inside an `if`, where an unknown filter is an error only when it is reached.
  void load(Scope& s, const Expr* e, bool optional) {
    if (e == nullptr) return;
    if (e->kind == ExprKind::kName && !s.knows(e->name)) s.names.insert(e->name);
    optional = optional || e->kind == ExprKind::kConditional;
    if (!optional && e->kind == ExprKind::kFilter && !is_filter(e->name)) bad(*e, "filter");
    if (!optional && e->kind == ExprKind::kTest && !is_test(e->name)) bad(*e, "test");
    for (const ExprPtr& arg : e->args) load(s, arg.get(), optional);
    for (const auto& [name, arg] : e->named) load(s, arg.get(), optional);
    load(s, e->star.get(), optional);
    load(s, e->double_star.get(), optional);
  }

  [[noreturn]] void bad(const Expr& e, const char* what) const {
    fail(ErrorCode::kInvalidArgument, where_, ", line ", e.line, ": no ", what, " named '", e.name, "'");
  }

  void store(Scope& s, std::string_view name) {
    if (s.names.contains(name)) return;
    if (branch_ == 0 && (s.outer == nullptr || !s.outer->knows(name))) body_->unset.emplace_back(name);
    s.names.insert(name);
  }

  void store(Scope& s, const Target& target) {
    if (!target.attribute.empty()) {
      if (!s.knows(target.name)) s.names.insert(target.name);
    } else if (!target.name.empty()) {
      store(s, target.name);
    }
    for (const Target& item : target.items) store(s, item);
  }

  static void parameter(Scope& s, const Target& target) {
    if (!target.name.empty()) s.names.insert(target.name);
    for (const Target& item : target.items) parameter(s, item);
  }

  // ---- what a statement mentions in the scope it stands in

  void mentions(Scope& s, const Stmt& stmt) {
    const bool optional = branch_ > 0;
    switch (stmt.kind) {
      case StmtKind::kPrint:
      case StmtKind::kFor:
      case StmtKind::kCallBlock: return load(s, stmt.expr.get(), optional);
      case StmtKind::kIf:
        ++branch_;
        for (const auto& [test, body] : stmt.branches) {
          load(s, test.get(), true);
          for (const auto& inner : body.statements) mentions(s, *inner);
        }
        --branch_;
        return;
      case StmtKind::kSet: load(s, stmt.expr.get(), optional); return store(s, stmt.target);
      case StmtKind::kSetBlock: return store(s, stmt.target);
      case StmtKind::kMacro: return store(s, stmt.macro.name);
      case StmtKind::kWith:
        for (const auto& [target, value] : stmt.bindings) load(s, value.get(), optional);
        return;
      default: return;
    }
  }

  // ---- the scopes that a statement opens

  void inner_scopes(Scope& s, Body& body) {
    for (auto& stmt : body.statements) open(s, *stmt);
  }

  void open(Scope& outer, Stmt& stmt) {
    Scope inner{&outer, {}};
    switch (stmt.kind) {
      case StmtKind::kIf:
        for (auto& [test, body] : stmt.branches) inner_scopes(outer, body);
        return;
      case StmtKind::kFor: {
        parameter(inner, stmt.target);
        Scope test = inner, otherwise{&outer, {}};
        inner.names.insert("loop");
        load(test, stmt.test.get(), false);
        scope(inner, stmt.body);
        return scope(otherwise, stmt.otherwise);
      }
      case StmtKind::kMacro:
      case StmtKind::kCallBlock:
        for (const std::string& name : stmt.macro.params) inner.names.insert(name);
        for (const ExprPtr& value : stmt.macro.defaults) load(inner, value.get(), false);
        if (stmt.macro.uses_caller) inner.names.insert("caller");
        if (stmt.macro.uses_kwargs) inner.names.insert("kwargs");
        if (stmt.macro.uses_varargs) inner.names.insert("varargs");
        return scope(inner, stmt.macro.body);
      case StmtKind::kWith:
        for (const auto& [target, value] : stmt.bindings) parameter(inner, target);
        return scope(inner, stmt.body);
      case StmtKind::kFilterBlock:
      case StmtKind::kSetBlock: {
        Scope filter{&outer, {}};
        load(filter, stmt.expr.get(), false);
        return scope(inner, stmt.body);
      }
      case StmtKind::kScope: return scope(inner, stmt.body);
      default: return;
    }
  }

  std::string_view where_;
  Body* body_ = nullptr;  // whose `unset` is being filled
  int branch_ = 0;        // depth of `if` inside the scope
};

}  // namespace

void resolve_names(Template& tmpl) {
  Scope top;
  Walk(tmpl.where).scope(top, tmpl.body);
}

}  // namespace weir::jinja
