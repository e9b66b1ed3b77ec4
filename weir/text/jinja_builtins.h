// Filters, tests, methods and globals of the template language: one table each, found by name.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "weir/text/jinja_value.h"

namespace weir::jinja {

class Interpreter;

// Arguments of a call. Functions take them apart with Params.
struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// Arguments matched to parameter names, as Python does it: too many, unknown, twice or missing ones are Faults that name `who`.
class Params {
 public:
  Params(const char* who, Args& args, std::initializer_list<std::string_view> names, size_t num_required);
  // The argument, or nullptr when the caller left it out.
  const Value* operator[](size_t i) const { return given_[i]; }
  const Value& at(size_t i) const { return *given_[i]; }
  bool given(size_t i) const { return given_[i] != nullptr; }
  bool flag(size_t i) const;                   // truth; false when left out
  Int integer(size_t i, Int otherwise) const;  // Fault for what Python's __index__ refuses
  bool none(size_t i) const;                   // left out, or none

 private:
  const char* who_;
  std::vector<const Value*> given_;
};

using Filter = Value (*)(Interpreter&, const Value& input, Args&);
using Test = bool (*)(Interpreter&, const Value& input, Args&);
using Function = Value (*)(Interpreter&, Args&);
using Method = Value (*)(Interpreter&, const Value& self, Args&);

Filter find_filter(std::string_view name);  // nullptr when there is none
Test find_test(std::string_view name);
inline bool is_filter(std::string_view name) { return find_filter(name) != nullptr; }
inline bool is_test(std::string_view name) { return find_test(name) != nullptr; }

struct GlobalFunction {
  std::string_view name;
  Function call;
};
const GlobalFunction* find_global(std::string_view name);

struct BoundMethod {
  Value self;
  std::string_view name;
  Method call;
};
// object.name where the type has such a method: a kMethod value, or undefined with the reason for one that the sandbox forbids
// (list.append and the like). False when the type has no method of that name.
bool find_method(const Value& object, std::string_view name, Value& method);

// environment.getattr and getitem: methods first, or items first.
Value attribute_of(Interpreter& in, const Value& object, std::string_view name);
Value item_of(Interpreter& in, const Value& object, const Value& key);
Value slice_of(Interpreter& in, const Value& object, const Value& start, const Value& stop, const Value& step);

// text % values, and str.format.
std::string format_percent(Interpreter& in, std::string_view format, const Value& values, const Args* named);
std::string format_braces(Interpreter& in, std::string_view format, const Args& args);

}  // namespace weir::jinja
