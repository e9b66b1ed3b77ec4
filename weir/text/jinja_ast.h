// A parsed template. Immutable after parsing and shared by all threads that render it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "weir/text/jinja_number.h"
#include "weir/text/jinja_value.h"

namespace weir::jinja {

enum class ExprKind : uint8_t {
  kConst,
  kName,
  kList,
  kTuple,
  kDict,       // args: key, value, key, value, …
  kAttribute,  // args[0].name
  kItem,       // args[0][args[1]]
  kSlice,      // args[0][args[1] : args[2] : args[3]], absent parts are null
  kCall,       // args[0](args[1], …, named, *star, **double_star)
  kFilter,     // args[0] | name(args[1], …); args[0] is null where a block is filtered
  kTest,       // args[0] is name(args[1], …)
  kNot,
  kNegative,
  kPositive,
  kArithmetic,  // args[0] ops[0] args[1] ops[1] args[2] …, from the left
  kConcat,      // a ~ b ~ c
  kCompare,     // args[0] comparisons[0] args[1] …, a chain as in Python
  kAnd,         // of all args
  kOr,
  kConditional,  // args[0] if args[1] else args[2] (may be null)
};

enum class Comparison : uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Expr {
  ExprKind kind = ExprKind::kConst;
  int line = 1;
  int depth = 1;     // of the tree below: evaluating and freeing it recurses
  Value value;       // kConst
  std::string name;  // kName, kAttribute, kFilter, kTest
  std::vector<ExprPtr> args;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr star, double_star;
  std::vector<Op> ops;
  std::vector<Comparison> comparisons;
};

// What a value is assigned to: a name, an attribute of a namespace, or a tuple of targets.
struct Target {
  std::string name;       // empty for a tuple
  std::string attribute;  // of the namespace `name`, when not empty
  std::vector<Target> items;
};

struct Stmt;

// Statements that share a scope, where they open one.
struct Body {
  std::vector<std::unique_ptr<Stmt>> statements;
  // Names that the scope assigns, outside any `if`, before it mentions them otherwise, and that no enclosing scope mentions: until
  // the assignment they are undefined even when the caller gave a variable of that name (Jinja2 makes them Python locals).
  std::vector<std::string> unset;
};

enum class StmtKind : uint8_t {
  kData,
  kPrint,
  kIf,  // branches in order; a branch without test is the else
  kFor,
  kSet,
  kSetBlock,
  kMacro,
  kCallBlock,
  kFilterBlock,
  kWith,
  kScope,  // {% generation %}: its body in a scope of its own
  kBreak,
  kContinue,
};

struct MacroDef {
  std::string name;  // empty for the body of a call block
  std::vector<std::string> params;
  std::vector<ExprPtr> defaults;  // of the last params
  bool uses_caller = false, uses_kwargs = false, uses_varargs = false;
  Body body;
};

struct Stmt {
  StmtKind kind = StmtKind::kData;
  int line = 1;
  std::string text;                                  // kData
  ExprPtr expr;                                      // printed, assigned, iterated over, called, or the filter of a block
  Target target;                                     // kFor, kSet, kSetBlock
  Body body, otherwise;                              // otherwise: the else of a loop
  ExprPtr test;                                      // kFor: … if test
  bool recursive = false;                            // kFor
  std::vector<std::pair<ExprPtr, Body>> branches;    // kIf
  std::vector<std::pair<Target, ExprPtr>> bindings;  // kWith
  MacroDef macro;                                    // kMacro, kCallBlock
};

struct Template {
  std::string where;  // names the template in errors
  Body body;
};

constexpr int kMaxNesting = 200;  // of expressions and of statements

// Throws Error(kInvalidArgument) with `where`, line and construct.
Template parse(std::string_view source, std::string where);

// Second pass of parse(): fills Body::unset and refuses filters and tests that do not exist.
void resolve_names(Template& tmpl);

}  // namespace weir::jinja
