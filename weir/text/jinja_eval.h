// Renders one template once: scopes as Jinja2 has them, statements, expressions, calls. Lives for a single render() on one thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "weir/text/jinja_ast.h"
#include "weir/text/jinja_builtins.h"
#include "weir/text/jinja_value.h"

namespace weir::jinja {

// Names assigned by one run of a Body. An `if` opens none, a loop opens one per item.
struct Frame {
  std::shared_ptr<Frame> outer;
  const Body* body = nullptr;
  std::vector<std::pair<std::string_view, Value>> names;
};

struct Macro {
  const MacroDef* definition = nullptr;
  std::shared_ptr<Frame> frame;  // where it was defined
};

// The variable `loop`. Items are fetched as late as Jinja2 fetches them, since a test of the loop may depend on what its body did.
struct Loop {
  Interpreter* interpreter = nullptr;
  const Stmt* stmt = nullptr;
  std::shared_ptr<Frame> outer;  // null once the loop is over
  Value iterable;
  Iterator source;
  std::vector<Value> prefetched;  // by loop.length of something without len(), from `taken` on
  size_t taken = 0;
  std::optional<Value> after;  // by loop.last and loop.nextitem
  std::optional<int64_t> length;
  Value before, current;
  std::optional<Value> changed;  // what loop.changed() saw last
  int64_t index0 = -1;
  int depth0 = 0;

  bool fetch(Value& item);
  bool advance();  // false behind the last item
  const std::optional<Value>& peek();
  int64_t total();  // loop.length
};

struct Cycler {
  std::vector<Value> items;
  size_t position = 0;
};

struct Joiner {
  Value separator;
  bool used = false;
};

class Interpreter {
 public:
  // Borrows both until the object ends.
  Interpreter(const Template& tmpl, const Json& variables) : template_(tmpl), variables_(variables) {}
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // Throws Error(kInvalidArgument) with the template's name and line for every fault.
  std::string run();

  Heap& heap() { return heap_; }
  Value text(std::string s, bool markup = false) { return heap_.string(std::move(s), markup); }
  Value call(const Value& callee, Args& args);
  Value apply_filter(std::string_view name, const Value& input, Args& args);
  bool apply_test(std::string_view name, const Value& input, Args& args);
  Value make_namespace(std::vector<std::pair<std::string, Value>> attributes);
  Value binary(Op op, const Value& a, const Value& b);

 private:
  friend struct Loop;
  enum class Flow : uint8_t { kNext, kBreak, kContinue };
  using FramePtr = std::shared_ptr<Frame>;

  // Evaluation recurses with the nesting of the template and with the calls of macros.
  struct Deeper {
    explicit Deeper(Interpreter& interpreter);
    ~Deeper() { --in.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;
    Interpreter& in;
  };

  Flow execute(const Body& body, const FramePtr& frame);
  Flow execute(const Stmt& stmt, const FramePtr& frame);
  Flow execute_if(const Stmt& stmt, const FramePtr& frame);
  Flow execute_loop(const Stmt& stmt, const Value& iterable, const FramePtr& outer, int depth0);
  Flow execute_set_block(const Stmt& stmt, const FramePtr& frame);
  Flow execute_filter_block(const Stmt& stmt, const FramePtr& frame);
  Flow execute_with(const Stmt& stmt, const FramePtr& frame);
  void execute_call_block(const Stmt& stmt, const FramePtr& frame);
  Flow execute_inner(const Body& body, const FramePtr& outer);

  Value evaluate(const Expr& e, const FramePtr& frame);
  Value evaluate_call(const Expr& e, const FramePtr& frame, const Value* caller);
  Value evaluate_filter(const Expr& e, const Value& input, const FramePtr& frame);
  Value evaluate_filter_block(const Expr& e, const Value& input, const FramePtr& frame);
  Value evaluate_compare(const Expr& e, const FramePtr& frame);
  Value evaluate_dict(const Expr& e, const FramePtr& frame);
  Value evaluate_concat(const Expr& e, const FramePtr& frame);
  Args evaluate_args(const Expr& e, const FramePtr& frame);
  std::vector<Value> evaluate_all(const Expr& e, const FramePtr& frame);
  bool compare(Comparison comparison, const Value& a, const Value& b);

  FramePtr make_frame(const Body& body, const FramePtr& outer);
  Value make_macro(const MacroDef& definition, const FramePtr& frame);
  Value invoke(const Macro& macro, Args& args);
  void assign(const Target& target, const Value& value, const FramePtr& frame);
  static void set(Frame& frame, std::string_view name, Value value);
  Value lookup(std::string_view name, const Frame* frame);
  void write(std::string_view text);

  // Runs `body` with its output going to a string of its own.
  template <class F>
  Flow capture(std::string& out, F&& body);

  Heap heap_;  // outlives every value below
  const Template& template_;
  const Json& variables_;
  Value globals_;  // a dict: what the caller passed
  std::string output_;
  std::string* out_ = &output_;
  int line_ = 1;
  int depth_ = 0;
  // Macros and namespaces can form cycles and long chains; they live until the end and are then taken apart one by one.
  std::vector<std::shared_ptr<Macro>> macros_;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

}  // namespace weir::jinja
