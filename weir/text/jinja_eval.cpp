#include "weir/text/jinja_eval.h"

#include <algorithm>

namespace weir::jinja {
namespace {

constexpr int kMaxDepth = 400;
constexpr size_t kBytesOfMacro = 256;  // what a macro or namespace costs until the end of the rendering, about

// & < > ' " as markupsafe writes them.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '\'': out += "&#39;"; break;
      case '"': out += "&#34;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string as_markup(const Value& v) { return v.str().markup ? v.text() : escaped(v.text()); }

}  // namespace

Interpreter::Deeper::Deeper(Interpreter& interpreter) : in(interpreter) {
  if (++in.depth_ > kMaxDepth) {
    --in.depth_;
    fault("calls are nested too deep");
  }
}

Interpreter::~Interpreter() {
  std::vector<FramePtr> frames;
  for (const auto& macro : macros_) frames.push_back(std::move(macro->frame));
  std::vector<Value> values;
  for (const FramePtr& macro_frame : frames) {
    for (Frame* frame = macro_frame.get(); frame != nullptr; frame = frame->outer.get()) {
      for (auto& [name, value] : frame->names) values.push_back(std::move(value));
      frame->names.clear();
    }
  }
  for (const auto& ns : namespaces_) {
    for (auto& [name, value] : ns->attributes) values.push_back(std::move(value));
    ns->attributes.clear();
  }
}

std::string Interpreter::run() {
  try {
    globals_ = heap_.from_json(variables_);
    if (!globals_.is(Kind::kDict)) fault("the variables must be an object");
    execute(template_.body, make_frame(template_.body, nullptr));
  } catch (const Fault& f) {
    fail(ErrorCode::kInvalidArgument, template_.where, ", line ", line_, ": ", f.message);
  }
  return std::move(output_);
}

void Interpreter::write(std::string_view text) {
  if (out_->size() + text.size() > kMaxOutputBytes) fault("output above ", kMaxOutputBytes >> 20, " MiB");
  heap_.work(text.size());
  *out_ += text;
}

template <class F>
Interpreter::Flow Interpreter::capture(std::string& out, F&& body) {
  std::string* const outer = std::exchange(out_, &out);
  const Flow flow = body();
  out_ = outer;
  return flow;
}

// ---- names

Interpreter::FramePtr Interpreter::make_frame(const Body& body, const FramePtr& outer) {
  auto frame = std::make_shared<Frame>();
  frame->outer = outer;
  frame->body = &body;
  return frame;
}

void Interpreter::set(Frame& frame, std::string_view name, Value value) {
  for (auto& [key, old] : frame.names) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  frame.names.emplace_back(name, std::move(value));
}

Value Interpreter::lookup(std::string_view name, const Frame* frame) {
  for (; frame != nullptr; frame = frame->outer.get()) {
    for (const auto& [key, value] : frame->names) {
      if (key == name) return value;
    }
    const auto& unset = frame->body->unset;
    if (std::find(unset.begin(), unset.end(), name) != unset.end()) return Value::undefined(concat("'", name, "' is undefined"));
  }
  if (const Value* value = globals_.dict().find(name)) return *value;
  if (const GlobalFunction* function = find_global(name))
    return Value(Kind::kFunction, std::shared_ptr<void>(const_cast<GlobalFunction*>(function), [](void*) {}));
  return Value::undefined(concat("'", name, "' is undefined"));
}

void Interpreter::assign(const Target& target, const Value& value, const FramePtr& frame) {
  heap_.step();
  if (!target.attribute.empty()) {
    Value ns = lookup(target.name, frame.get());
    if (!ns.is(Kind::kNamespace)) fault("cannot assign attribute on non-namespace object");
    if (target.attribute.starts_with('_'))
      fault("cannot store the attribute '", target.attribute, "' on a namespace: it begins with an underscore");
    auto& space = ns.object<Namespace>();
    if (Value* old = space.find(target.attribute)) {
      *old = value;
      return;
    }
    heap_.hold(kBytesOfMacro);
    space.attributes.emplace_back(target.attribute, value);
    return;
  }
  if (!target.name.empty()) return set(*frame, target.name, value);
  const std::vector<Value> items = to_vector(heap_, value);
  if (items.size() != target.items.size())
    fault(items.size() < target.items.size() ? "not enough" : "too many", " values to unpack (expected ", target.items.size(), ", got ",
          items.size(), ")");
  for (size_t i = 0; i < items.size(); ++i) assign(target.items[i], items[i], frame);
}

Value Interpreter::make_namespace(std::vector<std::pair<std::string, Value>> attributes) {
  heap_.hold(kBytesOfMacro * (1 + attributes.size()));
  auto ns = std::make_shared<Namespace>();
  ns->attributes = std::move(attributes);
  namespaces_.push_back(ns);
  return Value(Kind::kNamespace, ns);
}

Value Interpreter::make_macro(const MacroDef& definition, const FramePtr& frame) {
  heap_.hold(kBytesOfMacro);
  auto macro = std::make_shared<Macro>(Macro{&definition, frame});
  macros_.push_back(macro);
  return Value(Kind::kMacro, macro);
}

// ---- statements

Interpreter::Flow Interpreter::execute(const Body& body, const FramePtr& frame) {
  for (const auto& stmt : body.statements) {
    if (const Flow flow = execute(*stmt, frame); flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute_inner(const Body& body, const FramePtr& outer) { return execute(body, make_frame(body, outer)); }

Interpreter::Flow Interpreter::execute(const Stmt& stmt, const FramePtr& frame) {
  const Deeper deeper(*this);
  heap_.step();
  line_ = stmt.line;
  switch (stmt.kind) {
    case StmtKind::kData: write(stmt.text); return Flow::kNext;
    case StmtKind::kPrint: {
      const Value value = evaluate(*stmt.expr, frame);
      append_str(heap_, value, *out_);
      return Flow::kNext;
    }
    case StmtKind::kIf: return execute_if(stmt, frame);
    case StmtKind::kFor: {
      const Value iterable = evaluate(*stmt.expr, frame);
      if (!stmt.recursive) return execute_loop(stmt, iterable, frame, 0);
      execute_loop(stmt, iterable, frame, 0);
      return Flow::kNext;
    }
    case StmtKind::kSet: assign(stmt.target, evaluate(*stmt.expr, frame), frame); return Flow::kNext;
    case StmtKind::kSetBlock: return execute_set_block(stmt, frame);
    case StmtKind::kMacro: set(*frame, stmt.macro.name, make_macro(stmt.macro, frame)); return Flow::kNext;
    case StmtKind::kCallBlock: execute_call_block(stmt, frame); return Flow::kNext;
    case StmtKind::kFilterBlock: return execute_filter_block(stmt, frame);
    case StmtKind::kWith: return execute_with(stmt, frame);
    case StmtKind::kScope: return execute_inner(stmt.body, frame);
    case StmtKind::kBreak: return Flow::kBreak;
    case StmtKind::kContinue: return Flow::kContinue;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute_if(const Stmt& stmt, const FramePtr& frame) {
  for (const auto& [test, body] : stmt.branches) {
    if (test == nullptr || truthy(evaluate(*test, frame))) return execute(body, frame);
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute_loop(const Stmt& stmt, const Value& iterable, const FramePtr& outer, int depth0) {
  auto loop = std::make_shared<Loop>();
  loop->interpreter = this;
  loop->stmt = &stmt;
  loop->outer = outer;
  loop->iterable = iterable;
  loop->source = iterate(iterable);
  loop->depth0 = depth0;
  // A template may keep `loop`; what it holds of this scope goes now, or they would keep each other alive.
  struct End {
    Loop& loop;
    ~End() {
      loop.outer.reset();
      loop.changed.reset();
    }
  } const end{*loop};
  const Value loop_value(Kind::kLoop, loop, iterable.depth() + 1);

  // As in Jinja2, the else also runs after items that all ended in `continue` or `break`.
  bool completed = false;
  while (loop->advance()) {
    const FramePtr frame = make_frame(stmt.body, outer);
    frame->names.reserve(4);
    frame->names.emplace_back("loop", loop_value);
    assign(stmt.target, loop->current, frame);
    const Flow flow = execute(stmt.body, frame);
    completed |= flow == Flow::kNext;
    if (flow == Flow::kBreak) break;
  }
  return completed ? Flow::kNext : execute_inner(stmt.otherwise, outer);
}

Interpreter::Flow Interpreter::execute_set_block(const Stmt& stmt, const FramePtr& frame) {
  std::string out;
  if (const Flow flow = capture(out, [&] { return execute_inner(stmt.body, frame); }); flow != Flow::kNext) return flow;
  Value value = text(std::move(out));
  if (stmt.expr != nullptr) value = evaluate_filter_block(*stmt.expr, value, frame);
  assign(stmt.target, value, frame);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute_filter_block(const Stmt& stmt, const FramePtr& frame) {
  std::string out;
  const FramePtr inner = make_frame(stmt.body, frame);
  if (const Flow flow = capture(out, [&] { return execute(stmt.body, inner); }); flow != Flow::kNext) return flow;
  append_str(heap_, evaluate_filter_block(*stmt.expr, text(std::move(out)), inner), *out_);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute_with(const Stmt& stmt, const FramePtr& frame) {
  const FramePtr inner = make_frame(stmt.body, frame);
  for (const auto& [target, value] : stmt.bindings) assign(target, evaluate(*value, frame), inner);
  return execute(stmt.body, inner);
}

void Interpreter::execute_call_block(const Stmt& stmt, const FramePtr& frame) {
  const Value caller = make_macro(stmt.macro, frame);
  append_str(heap_, evaluate_call(*stmt.expr, frame, &caller), *out_);
}

// ---- loops

bool Loop::fetch(Value& item) {
  if (taken < prefetched.size()) return item = prefetched[taken++], true;
  Interpreter& in = *interpreter;
  while (outer != nullptr && next(in.heap(), source, item)) {
    if (stmt->test == nullptr) return true;
    const auto frame = in.make_frame(stmt->body, outer);
    in.assign(stmt->target, item, frame);
    if (truthy(in.evaluate(*stmt->test, frame))) return true;
  }
  return false;
}

bool Loop::advance() {
  Value item;
  if (after)
    item = *std::exchange(after, std::nullopt);
  else if (!fetch(item))
    return false;
  ++index0;
  before = std::exchange(current, std::move(item));
  return true;
}

const std::optional<Value>& Loop::peek() {
  Value item;
  if (!after && fetch(item)) after = std::move(item);
  return after;
}

int64_t Loop::total() {
  if (!length) {
    if (stmt->test == nullptr && has_length(iterable)) {
      length = weir::jinja::length(iterable);
    } else {
      Value item;
      std::vector<Value> rest;
      while (fetch(item)) {
        interpreter->heap().hold(sizeof(Value));
        rest.push_back(item);
      }
      length = static_cast<int64_t>(rest.size()) + index0 + 1 + (after ? 1 : 0);
      prefetched = std::move(rest);
      taken = 0;
    }
  }
  return *length;
}

// ---- expressions

std::vector<Value> Interpreter::evaluate_all(const Expr& e, const FramePtr& frame) {
  std::vector<Value> items;
  items.reserve(e.args.size());
  for (const ExprPtr& arg : e.args) items.push_back(evaluate(*arg, frame));
  return items;
}

Value Interpreter::evaluate(const Expr& e, const FramePtr& frame) {
  const Deeper deeper(*this);
  heap_.step();
  line_ = e.line;
  switch (e.kind) {
    case ExprKind::kConst: return e.value;
    case ExprKind::kName: return lookup(e.name, frame.get());
    case ExprKind::kList: return heap_.list(evaluate_all(e, frame));
    case ExprKind::kTuple: return heap_.tuple(evaluate_all(e, frame));
    case ExprKind::kDict: return evaluate_dict(e, frame);
    case ExprKind::kAttribute: return attribute_of(*this, evaluate(*e.args[0], frame), e.name);
    case ExprKind::kItem: {
      const Value object = evaluate(*e.args[0], frame);
      return item_of(*this, object, evaluate(*e.args[1], frame));
    }
    case ExprKind::kSlice: {
      Value parts[4];
      for (size_t i = 0; i < 4; ++i) parts[i] = e.args[i] == nullptr ? Value::none() : evaluate(*e.args[i], frame);
      return slice_of(*this, parts[0], parts[1], parts[2], parts[3]);
    }
    case ExprKind::kCall: return evaluate_call(e, frame, nullptr);
    case ExprKind::kFilter: return evaluate_filter(e, evaluate(*e.args[0], frame), frame);
    case ExprKind::kTest: {
      const Value input = evaluate(*e.args[0], frame);
      Args args = evaluate_args(e, frame);
      return Value::boolean(apply_test(e.name, input, args));
    }
    case ExprKind::kNot: return Value::boolean(!truthy(evaluate(*e.args[0], frame)));
    case ExprKind::kNegative:
    case ExprKind::kPositive: {
      const Value value = evaluate(*e.args[0], frame);
      if (!value.is_defined()) fault(value.why_undefined());
      if (!value.is_number()) fault("bad operand type for unary ", e.kind == ExprKind::kNegative ? "-" : "+", ": '", type_name(value), "'");
      if (e.kind == ExprKind::kNegative) return negate(value);
      return value.is(Kind::kBool) ? Value::integer(value.as_int()) : value;
    }
    case ExprKind::kArithmetic: {
      Value left = evaluate(*e.args[0], frame);
      for (size_t i = 0; i < e.ops.size(); ++i) left = binary(e.ops[i], left, evaluate(*e.args[i + 1], frame));
      return left;
    }
    case ExprKind::kConcat: return evaluate_concat(e, frame);
    case ExprKind::kCompare: return evaluate_compare(e, frame);
    case ExprKind::kAnd:
    case ExprKind::kOr: {
      const bool stop_at = e.kind == ExprKind::kOr;
      for (size_t i = 0;; ++i) {
        Value value = evaluate(*e.args[i], frame);
        if (i + 1 == e.args.size() || truthy(value) == stop_at) return value;
      }
    }
    case ExprKind::kConditional:
      if (truthy(evaluate(*e.args[1], frame))) return evaluate(*e.args[0], frame);
      if (e.args[2] != nullptr) return evaluate(*e.args[2], frame);
      return Value::undefined(concat("the inline if-expression on line ", e.line, " evaluated to false and no else section was defined."));
  }
  return Value();
}

Value Interpreter::evaluate_dict(const Expr& e, const FramePtr& frame) {
  Dict::Items items;
  for (size_t i = 0; i + 1 < e.args.size(); i += 2) {
    Value key = evaluate(*e.args[i], frame);
    items.emplace_back(std::move(key), evaluate(*e.args[i + 1], frame));
  }
  return heap_.dict(std::move(items));
}

Value Interpreter::evaluate_concat(const Expr& e, const FramePtr& frame) {
  const std::vector<Value> parts = evaluate_all(e, frame);
  std::string out;
  for (const Value& part : parts) append_str(heap_, part, out);
  return text(std::move(out));
}

bool Interpreter::compare(Comparison comparison, const Value& a, const Value& b) {
  // Python asks the right operand of > and >= when it is the other way round; the answers differ only for unordered values (NaN).
  const auto ordered = [&](const Value& x, const Value& y) { return less(heap_, x, y); };
  switch (comparison) {
    case Comparison::kEq: return equal(heap_, a, b);
    case Comparison::kNe: return !equal(heap_, a, b);
    case Comparison::kLt: return ordered(a, b);
    case Comparison::kGt: return ordered(b, a);
    case Comparison::kLe: return ordered(a, b) || equal(heap_, a, b);
    case Comparison::kGe: return ordered(b, a) || equal(heap_, a, b);
    case Comparison::kIn: return contains(heap_, b, a);
    case Comparison::kNotIn: return !contains(heap_, b, a);
  }
  return false;
}

Value Interpreter::evaluate_compare(const Expr& e, const FramePtr& frame) {
  Value left = evaluate(*e.args[0], frame);
  for (size_t i = 0; i < e.comparisons.size(); ++i) {
    Value right = evaluate(*e.args[i + 1], frame);
    if (!compare(e.comparisons[i], left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Interpreter::binary(Op op, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return arithmetic(op, a, b);
  if (op == Op::kMod && a.is_string()) return text(format_percent(*this, a.text(), b, nullptr), a.str().markup);
  for (const Value* v : {&a, &b}) {
    if (!v->is_defined()) fault(v->why_undefined());
  }
  if (op == Op::kAdd && a.is_string() && b.is_string()) {
    const bool markup = a.str().markup || b.str().markup;
    std::string sum = markup ? as_markup(a) : a.text();
    if (sum.size() + b.text().size() > kMaxOutputBytes) fault("a string above ", kMaxOutputBytes >> 20, " MiB");
    sum += markup ? as_markup(b) : b.text();
    return text(std::move(sum), markup);
  }
  if (op == Op::kAdd && a.is_sequence() && a.kind() == b.kind()) {
    std::vector<Value> sum = to_vector(heap_, a);
    heap_.work(b.list().items.size() * sizeof(Value));
    sum.insert(sum.end(), b.list().items.begin(), b.list().items.end());
    return a.is(Kind::kList) ? heap_.list(std::move(sum)) : heap_.tuple(std::move(sum));
  }
  if (op == Op::kMul && (a.is_integral() || b.is_integral())) {
    const Value &sequence = a.is_integral() ? b : a, &times = a.is_integral() ? a : b;
    const Int n = std::max<Int>(times.as_int(), 0);
    if (sequence.is_string()) {
      const std::string& part = sequence.text();
      if (!part.empty() && n > static_cast<Int>(kMaxOutputBytes / part.size())) fault("a string above ", kMaxOutputBytes >> 20, " MiB");
      const size_t size = part.empty() ? 0 : static_cast<size_t>(n) * part.size();
      std::string out;
      out.reserve(size);
      if (size > 0) out += part;
      while (out.size() < size) out.append(out, 0, size - out.size());  // doubles
      return text(std::move(out), sequence.str().markup);
    }
    if (sequence.is_sequence()) {
      constexpr Int kMaxItems = 10'000'000;
      const std::vector<Value>& part = sequence.list().items;
      if (!part.empty() && n > kMaxItems / static_cast<Int>(part.size())) fault("a list above ", static_cast<int64_t>(kMaxItems), " items");
      heap_.work(static_cast<size_t>(n) * part.size() * sizeof(Value));
      std::vector<Value> out;
      for (Int i = 0; i < (part.empty() ? 0 : n); ++i) out.insert(out.end(), part.begin(), part.end());
      return sequence.is(Kind::kList) ? heap_.list(std::move(out)) : heap_.tuple(std::move(out));
    }
  }
  fault("unsupported operand type(s) for ", spelling(op), ": '", type_name(a), "' and '", type_name(b), "'");
}

// ---- calls

Args Interpreter::evaluate_args(const Expr& e, const FramePtr& frame) {
  Args args;
  for (size_t i = 1; i < e.args.size(); ++i) args.positional.push_back(evaluate(*e.args[i], frame));
  if (e.star != nullptr) {
    for (Value& value : to_vector(heap_, evaluate(*e.star, frame))) args.positional.push_back(std::move(value));
  }
  for (const auto& [name, value] : e.named) args.named.emplace_back(name, evaluate(*value, frame));
  if (e.double_star != nullptr) {
    const Value more = evaluate(*e.double_star, frame);
    if (!more.is(Kind::kDict)) fault("argument after ** must be a mapping, not ", type_name(more));
    for (const auto& [key, value] : more.dict().items) {
      if (!key.is_string()) fault("keywords must be strings");
      const auto twice = [&](const auto& named) { return named.first == key.text(); };
      if (std::any_of(args.named.begin(), args.named.end(), twice)) fault("got multiple values for keyword argument '", key.text(), "'");
      heap_.work(key.text().size() * (1 + args.named.size()));
      args.named.emplace_back(key.text(), value);
    }
  }
  return args;
}

Value Interpreter::evaluate_call(const Expr& e, const FramePtr& frame, const Value* caller) {
  const Value callee = evaluate(*e.args[0], frame);
  Args args = evaluate_args(e, frame);
  if (caller != nullptr) args.named.emplace_back("caller", *caller);
  return call(callee, args);
}

Value Interpreter::evaluate_filter(const Expr& e, const Value& input, const FramePtr& frame) {
  Args args = evaluate_args(e, frame);
  line_ = e.line;
  return apply_filter(e.name, input, args);
}

// The innermost filter of the chain has no operand of its own: the text of the block goes there.
Value Interpreter::evaluate_filter_block(const Expr& e, const Value& input, const FramePtr& frame) {
  const Deeper deeper(*this);
  return evaluate_filter(e, e.args[0] == nullptr ? input : evaluate_filter_block(*e.args[0], input, frame), frame);
}

Value Interpreter::apply_filter(std::string_view name, const Value& input, Args& args) {
  const Filter filter = find_filter(name);
  if (filter == nullptr) fault("no filter named '", name, "'");
  return filter(*this, input, args);
}

bool Interpreter::apply_test(std::string_view name, const Value& input, Args& args) {
  const Test test = find_test(name);
  if (test == nullptr) fault("no test named '", name, "'");
  return test(*this, input, args);
}

Value Interpreter::call(const Value& callee, Args& args) {
  const Deeper deeper(*this);
  heap_.step();
  switch (callee.kind()) {
    case Kind::kFunction: return callee.object<const GlobalFunction>().call(*this, args);
    case Kind::kMethod: {
      const auto& method = callee.object<const BoundMethod>();
      return method.call(*this, method.self, args);
    }
    case Kind::kMacro: return invoke(callee.object<const Macro>(), args);
    case Kind::kLoop: {
      const auto& loop = callee.object<Loop>();
      if (!loop.stmt->recursive) fault("the loop must have the 'recursive' marker to be called recursively");
      if (loop.outer == nullptr) fault("the loop is over and cannot be called");
      const Params params("loop", args, {"iterable"}, 1);
      std::string out;
      capture(out, [&] { return execute_loop(*loop.stmt, params.at(0), loop.outer, loop.depth0 + 1); });
      return text(std::move(out));
    }
    case Kind::kJoiner: {
      auto& joiner = callee.object<Joiner>();
      return std::exchange(joiner.used, true) ? joiner.separator : text("");
    }
    case Kind::kUndefined: fault(callee.why_undefined());
    default: fault("'", type_name(callee), "' object is not callable");
  }
}

Value Interpreter::invoke(const Macro& macro, Args& args) {
  const MacroDef& def = *macro.definition;
  const FramePtr frame = make_frame(def.body, macro.frame);
  const size_t num_positional = std::min(args.positional.size(), def.params.size());
  const auto named = [&](std::string_view name) -> std::optional<Value> {
    const auto it = std::find_if(args.named.begin(), args.named.end(), [&](const auto& n) { return n.first == name; });
    if (it == args.named.end()) return std::nullopt;
    Value value = std::move(it->second);
    args.named.erase(it);
    return value;
  };

  std::vector<std::optional<Value>> given;
  bool explicit_caller = false;
  for (size_t i = 0; i < def.params.size(); ++i) {
    explicit_caller |= def.params[i] == "caller";
    if (i < num_positional)
      given.push_back(args.positional[i]);
    else
      given.push_back(named(def.params[i]));
  }
  std::optional<Value> caller;
  if (def.uses_caller && !explicit_caller) {
    caller = named("caller");
    if (!caller || caller->is(Kind::kNone)) caller = Value::undefined("no caller defined");
  }
  if (!def.uses_kwargs && !args.named.empty()) fault("macro '", def.name, "' takes no keyword argument '", args.named[0].first, "'");
  if (!def.uses_varargs && args.positional.size() > def.params.size())
    fault("macro '", def.name, "' takes not more than ", def.params.size(), " argument(s)");

  if (caller) set(*frame, "caller", *caller);
  if (def.uses_kwargs) {
    Dict::Items items;
    for (auto& [name, value] : args.named) items.emplace_back(text(name), std::move(value));
    set(*frame, "kwargs", heap_.dict(std::move(items)));
  }
  if (def.uses_varargs) {
    set(*frame, "varargs",
        heap_.tuple(std::vector<Value>(args.positional.begin() + static_cast<ptrdiff_t>(num_positional), args.positional.end())));
  }
  for (size_t i = 0; i < def.params.size(); ++i)
    set(*frame, def.params[i],
        given[i] ? std::move(*given[i]) : Value::undefined(concat("parameter '", def.params[i], "' was not provided")));
  const size_t num_required = def.params.size() - def.defaults.size();
  for (size_t i = num_required; i < def.params.size(); ++i) {
    // A default is evaluated at the call and sees the other parameters.
    if (!given[i]) set(*frame, def.params[i], evaluate(*def.defaults[i - num_required], frame));
  }
  std::string out;
  capture(out, [&] { return execute(def.body, frame); });
  return text(std::move(out));
}

}  // namespace weir::jinja
