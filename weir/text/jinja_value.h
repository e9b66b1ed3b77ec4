// Values of the template language: Python's, as far as chat templates see them. Everything but namespaces, loops and iterators is
// immutable; containers share their items. A Heap counts what one rendering holds and does, so that no template can exhaust the server.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "weir/base/error.h"
#include "weir/base/json.h"

namespace weir::jinja {

// Python's integers are unbounded; 128 bits hold every JSON integer and its arithmetic, beyond that is a Fault.
using Int = __int128;

// What a template (or its data) did wrong. The interpreter turns it into an Error with template and line.
struct Fault {
  std::string message;
};
template <class... Parts>
[[noreturn]] void fault(const Parts&... parts) {
  throw Fault{concat(parts...)};
}

class Heap;
class Value;

enum class Kind : uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kRange,
  kIterator,  // what a generator, a filter like map() or reversed() gives: to be walked once
  kKeys,      // dict.keys(), .values(), .items()
  kValues,
  kItems,
  kNamespace,
  kMacro,
  kFunction,  // a global such as range
  kMethod,    // "text".upper without its call
  kLoop,
  kCycler,
  kJoiner,
};

struct Str;
struct List;
struct Dict;
struct Range;
struct Iterator;
struct Namespace;

class Value {
 public:
  Value() = default;  // undefined
  static Value undefined(std::string why);
  static Value none() { return Value(Kind::kNone); }
  static Value boolean(bool b);
  static Value integer(Int i);
  static Value real(double d);
  static Value constant(std::string text);  // a string that no Heap counts: literals of a template
  Value(Kind kind, std::shared_ptr<void> object, int depth = 0) : kind_(kind), depth_(depth), object_(std::move(object)) {}

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_defined() const { return kind_ != Kind::kUndefined; }
  bool is_string() const { return kind_ == Kind::kString; }
  bool is_number() const { return kind_ == Kind::kBool || kind_ == Kind::kInt || kind_ == Kind::kFloat; }
  bool is_integral() const { return kind_ == Kind::kBool || kind_ == Kind::kInt; }
  bool is_sequence() const { return kind_ == Kind::kList || kind_ == Kind::kTuple; }
  bool is_view() const { return kind_ == Kind::kKeys || kind_ == Kind::kValues || kind_ == Kind::kItems; }

  bool as_bool() const { return int_ != 0; }  // of kBool
  Int as_int() const { return int_; }         // of kBool and kInt
  double as_double() const;                   // of any number
  const Str& str() const { return *static_cast<const Str*>(object_.get()); }
  const std::string& text() const;                                               // of kString
  const List& list() const { return *static_cast<const List*>(object_.get()); }  // of kList and kTuple
  const Dict& dict() const { return *static_cast<const Dict*>(object_.get()); }  // of kDict and the views
  const Range& range() const { return *static_cast<const Range*>(object_.get()); }
  template <class T>
  T& object() const {
    return *static_cast<T*>(object_.get());
  }
  const std::shared_ptr<void>& owner() const { return object_; }
  int depth() const { return depth_; }  // 0 for scalars, 1 + the deepest item for containers
  const void* identity() const { return object_.get(); }
  std::string why_undefined() const;

 private:
  explicit Value(Kind kind) : kind_(kind) {}

  Kind kind_ = Kind::kUndefined;
  int depth_ = 0;
  union {
    Int int_ = 0;
    double double_;
  };
  std::shared_ptr<void> object_;
};

struct Str {
  std::string text;
  int64_t num_chars = 0;
  bool markup = false;  // came from |safe: adding plain text to it escapes that text, as Markup does
  Heap* heap = nullptr;
  ~Str();
  bool ascii() const { return num_chars == static_cast<int64_t>(text.size()); }
};

struct List {
  std::vector<Value> items;
  Heap* heap = nullptr;
  ~List();
};

// Ordered, with an index once it is large. Keys are equal as Python's are: 1 == 1.0 == True.
struct Dict {
  using Items = std::vector<std::pair<Value, Value>>;
  Items items;
  std::unordered_multimap<size_t, size_t> index;  // hash of a key -> its place; empty while the dict is small
  Heap* heap = nullptr;
  ~Dict();
  const Value* find(Heap& heap, const Value& key) const;
  const Value* find(std::string_view key) const;
};

struct Range {
  Int start = 0, stop = 0, step = 1, size = 0;
};

struct Iterator {
  Value source;         // anything that can be walked
  size_t position = 0;  // items taken so far
  size_t byte = 0;      // of a string source
};

struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;
  Value* find(std::string_view name);
};

// Makes values and counts: steps of the interpreter, bytes worked on, bytes held. One per rendering; outlives its values.
class Heap {
 public:
  void step() {
    if (++steps_ > kMaxSteps) fault("the template takes more than ", kMaxSteps, " steps");
  }
  void work(size_t bytes);
  void hold(size_t bytes);
  void release(size_t bytes) noexcept { held_ -= bytes; }

  Value string(std::string text, bool markup = false);
  Value list(std::vector<Value> items);
  Value tuple(std::vector<Value> items);
  Value dict(Dict::Items items);  // later values win over earlier ones of an equal key; unhashable keys are a Fault
  Value iterator(const Value& source);
  Value view(Kind kind, const Value& dict);
  Value range(Int start, Int stop, Int step);
  Value from_json(const Json& json, int depth = 0);

 private:
  static constexpr uint64_t kMaxSteps = 10'000'000;
  static constexpr uint64_t kMaxWork = uint64_t{4} << 30;
  static constexpr size_t kMaxHeld = size_t{512} << 20;
  Value sequence(Kind kind, std::vector<Value> items);
  uint64_t steps_ = 0, work_ = 0;
  size_t held_ = 0;
};

constexpr size_t kMaxOutputBytes = size_t{64} << 20;  // of a rendering, and of any one string

// Walks anything Python can iterate over; TypeError is a Fault.
bool is_iterable(const Value& value);
Iterator iterate(const Value& value);
bool next(Heap& heap, Iterator& it, Value& item);
std::vector<Value> to_vector(Heap& heap, const Value& value);
int64_t length(const Value& value);  // len(); Fault for what has none
bool has_length(const Value& value);

bool truthy(const Value& value);
bool equal(Heap& heap, const Value& a, const Value& b);
bool same(const Value& a, const Value& b);              // Python's `is`
bool less(Heap& heap, const Value& a, const Value& b);  // Fault for types without order
bool contains(Heap& heap, const Value& container, const Value& item);
size_t hash(Heap& heap, const Value& value);  // Fault for what is not hashable

const char* type_name(const Value& value);                           // as Python spells it: "str", "NoneType", …
void append_str(Heap& heap, const Value& value, std::string& out);   // str(value)
void append_repr(Heap& heap, const Value& value, std::string& out);  // repr(value)
std::string to_str(Heap& heap, const Value& value);
std::string repr_of_text(std::string_view text);

struct JsonFormat {
  bool ensure_ascii = false, sort_keys = false;
  bool pretty = false;  // items on lines of their own, indented by `indent` per level
  std::string indent, item_separator = ", ", key_separator = ": ";
};
std::string to_json(Heap& heap, const Value& value, const JsonFormat& format);  // json.dumps

}  // namespace weir::jinja
