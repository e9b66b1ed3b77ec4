#include "weir/text/jinja_value.h"

#include <algorithm>

#include "weir/text/jinja_number.h"
#include "weir/text/jinja_strings.h"
#include "weir/text/jinja_unicode.h"
#include "weir/text/unicode.h"

namespace weir::jinja {
namespace {

constexpr int kMaxDepth = 200;         // of nested containers: comparing, printing and freeing them recurses
constexpr size_t kIndexFrom = 12;      // a dict above this many keys is searched by hash
constexpr size_t kMaxRange = 100'000;  // the sandbox's own limit

template <class T>
std::shared_ptr<void> make(T object) {
  return std::make_shared<T>(std::move(object));
}

int deepest(const std::vector<Value>& items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return depth;
}

int nested(int depth) {
  if (depth >= kMaxDepth) fault("lists and mappings are nested deeper than ", kMaxDepth);
  return depth + 1;
}

size_t bytes_of(const std::vector<Value>& items) { return sizeof(List) + items.size() * sizeof(Value); }
size_t bytes_of(const Dict& dict) { return sizeof(Dict) + dict.items.size() * 2 * sizeof(Value) + dict.index.size() * 40; }
size_t bytes_of(const Str& str) { return sizeof(Str) + str.text.size(); }

// Values hold valid UTF-8 only, so that their characters can be walked both ways.
std::string valid(const std::string& text) {
  std::string storage;
  return std::string(unicode::replace_invalid_utf8(text, storage));
}

Value range_item(const Range& r, Int i) { return Value::integer(r.start + i * r.step); }

}  // namespace

Value Value::boolean(bool b) {
  Value v(Kind::kBool);
  v.int_ = b ? 1 : 0;
  return v;
}

Value Value::integer(Int i) {
  Value v(Kind::kInt);
  v.int_ = i;
  return v;
}

Value Value::real(double d) {
  Value v(Kind::kFloat);
  v.double_ = d;
  return v;
}

Value Value::constant(std::string text) {
  auto str = std::make_shared<Str>();
  str->num_chars = count_chars(text);
  str->text = std::move(text);
  return Value(Kind::kString, std::move(str));
}

Value Value::undefined(std::string why) { return Value(Kind::kUndefined, make(std::move(why))); }

std::string Value::why_undefined() const {
  return object_ == nullptr ? "the value is undefined" : *static_cast<const std::string*>(object_.get());
}

double Value::as_double() const { return kind_ == Kind::kFloat ? double_ : static_cast<double>(int_); }
const std::string& Value::text() const { return str().text; }

Str::~Str() {
  if (heap != nullptr) heap->release(bytes_of(*this));
}
List::~List() {
  if (heap != nullptr) heap->release(bytes_of(items));
}
Dict::~Dict() {
  if (heap != nullptr) heap->release(bytes_of(*this));
}

const Value* Dict::find(Heap& counter, const Value& key) const {
  if (index.empty()) {
    for (const auto& [k, v] : items) {
      if (equal(counter, k, key)) return &v;
    }
    return nullptr;
  }
  const auto [begin, end] = index.equal_range(hash(counter, key));
  for (auto it = begin; it != end; ++it) {
    if (equal(counter, items[it->second].first, key)) return &items[it->second].second;
  }
  return nullptr;
}

const Value* Dict::find(std::string_view key) const {
  if (index.empty()) {
    for (const auto& [k, v] : items) {
      if (k.is_string() && k.text() == key) return &v;
    }
    return nullptr;
  }
  const auto [begin, end] = index.equal_range(std::hash<std::string_view>{}(key));
  for (auto it = begin; it != end; ++it) {
    const auto& [k, v] = items[it->second];
    if (k.is_string() && k.text() == key) return &v;
  }
  return nullptr;
}

Value* Namespace::find(std::string_view name) {
  for (auto& [key, value] : attributes) {
    if (key == name) return &value;
  }
  return nullptr;
}

void Heap::work(size_t bytes) {
  work_ += bytes;
  if (work_ > kMaxWork) fault("the template works through more than ", kMaxWork >> 30, " GiB of text and lists");
}

void Heap::hold(size_t bytes) {
  work(bytes);
  if (held_ + bytes > kMaxHeld) fault("the template holds more than ", kMaxHeld >> 20, " MiB");
  held_ += bytes;
}

Value Heap::string(std::string text, bool markup) {
  if (text.size() > kMaxOutputBytes) fault("a string above ", kMaxOutputBytes >> 20, " MiB");
  auto str = std::make_shared<Str>();
  str->num_chars = count_chars(text);
  str->text = std::move(text);
  str->markup = markup;
  hold(bytes_of(*str));
  str->heap = this;
  return Value(Kind::kString, std::move(str));
}

Value Heap::sequence(Kind kind, std::vector<Value> items) {
  const int depth = nested(deepest(items));
  auto list = std::make_shared<List>();
  hold(bytes_of(items));
  list->items = std::move(items);
  list->heap = this;
  return Value(kind, std::move(list), depth);
}

Value Heap::list(std::vector<Value> items) { return sequence(Kind::kList, std::move(items)); }
Value Heap::tuple(std::vector<Value> items) { return sequence(Kind::kTuple, std::move(items)); }

Value Heap::dict(Dict::Items items) {
  auto dict = std::make_shared<Dict>();
  int depth = 0;
  const bool indexed = items.size() > kIndexFrom;
  for (auto& [key, value] : items) {
    depth = std::max({depth, key.depth(), value.depth()});
    const size_t h = hash(*this, key);
    if (auto* old = const_cast<Value*>(dict->find(*this, key)); old != nullptr) {
      *old = std::move(value);
      continue;
    }
    if (indexed) dict->index.emplace(h, dict->items.size());
    dict->items.emplace_back(std::move(key), std::move(value));
  }
  hold(bytes_of(*dict));
  dict->heap = this;
  return Value(Kind::kDict, std::move(dict), nested(depth));
}

Value Heap::iterator(const Value& source) {
  const int depth = nested(source.depth());
  hold(sizeof(Iterator));
  return Value(Kind::kIterator, std::make_shared<Iterator>(iterate(source)), depth);
}

Value Heap::view(Kind kind, const Value& dict) { return Value(kind, dict.owner(), nested(dict.depth())); }

Value Heap::range(Int start, Int stop, Int step) {
  if (step == 0) fault("range() arg 3 must not be zero");
  // Bounds of 64 bits keep the arithmetic of the items inside 128 bits.
  for (const Int bound : {start, stop, step}) {
    if (bound > INT64_MAX || bound < INT64_MIN) fault("range() arguments must fit 64 bits");
  }
  const Int span = step > 0 ? stop - start : start - stop, stride = step > 0 ? step : -step;
  const Int size = span <= 0 ? 0 : (span + stride - 1) / stride;
  if (size > static_cast<Int>(kMaxRange)) fault("range() of more than ", kMaxRange, " items");
  return Value(Kind::kRange, make(Range{start, stop, step, size}));
}

Value Heap::from_json(const Json& json, int depth) {
  if (depth > kMaxDepth) fault("the variables are nested deeper than ", kMaxDepth);
  switch (json.type()) {
    case Json::value_t::null: return Value::none();
    case Json::value_t::boolean: return Value::boolean(json.get<bool>());
    case Json::value_t::number_integer: return Value::integer(json.get<int64_t>());
    case Json::value_t::number_unsigned: return Value::integer(json.get<uint64_t>());
    case Json::value_t::number_float: return Value::real(json.get<double>());
    case Json::value_t::string: return string(valid(json.get_ref<const std::string&>()));
    case Json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const Json& item : json) items.push_back(from_json(item, depth + 1));
      return list(std::move(items));
    }
    case Json::value_t::object: {
      Dict::Items items;
      items.reserve(json.size());
      for (const auto& [key, value] : json.items()) items.emplace_back(string(valid(key)), from_json(value, depth + 1));
      return dict(std::move(items));
    }
    case Json::value_t::binary:
    case Json::value_t::discarded: break;
  }
  fault("a variable that is no JSON value");
}

bool is_iterable(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kRange:
    case Kind::kIterator:
    case Kind::kKeys:
    case Kind::kValues:
    case Kind::kItems: return true;
    default: return false;
  }
}

Iterator iterate(const Value& value) {
  if (!is_iterable(value)) fault("'", type_name(value), "' object is not iterable");
  return Iterator{value};
}

bool next(Heap& heap, Iterator& it, Value& item) {
  heap.step();
  const Value& source = it.source;
  const auto take = [&](const auto& items) {
    if (it.position >= items.size()) return false;
    item = items[it.position++];
    return true;
  };
  switch (source.kind()) {
    case Kind::kUndefined: return false;
    case Kind::kString: {
      const std::string& text = source.text();
      if (it.byte >= text.size()) return false;
      const size_t begin = it.byte;
      next_char(text, it.byte);
      item = heap.string(text.substr(begin, it.byte - begin));
      return true;
    }
    case Kind::kList:
    case Kind::kTuple: return take(source.list().items);
    case Kind::kRange:
      if (static_cast<Int>(it.position) >= source.range().size) return false;
      item = range_item(source.range(), static_cast<Int>(it.position++));
      return true;
    case Kind::kIterator: return next(heap, source.object<Iterator>(), item);
    case Kind::kDict:
    case Kind::kKeys:
    case Kind::kValues:
    case Kind::kItems: {
      const Dict::Items& items = source.dict().items;
      if (it.position >= items.size()) return false;
      const auto& [key, value] = items[it.position++];
      item = source.is(Kind::kItems) ? heap.tuple({key, value}) : source.is(Kind::kValues) ? value : key;
      return true;
    }
    default: return false;
  }
}

std::vector<Value> to_vector(Heap& heap, const Value& value) {
  std::vector<Value> items;
  if (value.is_sequence()) {
    heap.work(bytes_of(value.list().items));
    return value.list().items;
  }
  Iterator it = iterate(value);
  for (Value item; next(heap, it, item);) {
    heap.work(sizeof(Value));
    items.push_back(item);
  }
  return items;
}

bool has_length(const Value& value) { return is_iterable(value) && !value.is(Kind::kIterator); }

int64_t length(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined: return 0;
    case Kind::kString: return value.str().num_chars;
    case Kind::kList:
    case Kind::kTuple: return static_cast<int64_t>(value.list().items.size());
    case Kind::kRange: return static_cast<int64_t>(value.range().size);
    case Kind::kDict:
    case Kind::kKeys:
    case Kind::kValues:
    case Kind::kItems: return static_cast<int64_t>(value.dict().items.size());
    default: fault("object of type '", type_name(value), "' has no len()");
  }
}

bool truthy(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone: return false;
    case Kind::kBool:
    case Kind::kInt: return value.as_int() != 0;
    case Kind::kFloat: return value.as_double() != 0;
    default: return !has_length(value) || length(value) != 0;
  }
}

bool same(const Value& a, const Value& b) {
  if (a.kind() != b.kind()) return false;
  if (a.is_integral()) return a.as_int() == b.as_int();
  if (a.identity() != nullptr || b.identity() != nullptr) return a.identity() == b.identity();
  return a.is(Kind::kFloat) ? a.as_double() == b.as_double() : true;
}

namespace {

bool equal_items(Heap& heap, const std::vector<Value>& a, const std::vector<Value>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](const Value& x, const Value& y) { return same(x, y) || equal(heap, x, y); });
}

bool equal_dicts(Heap& heap, const Dict& a, const Dict& b) {
  if (a.items.size() != b.items.size()) return false;
  return std::all_of(a.items.begin(), a.items.end(), [&](const auto& item) {
    const Value* other = b.find(heap, item.first);
    return other != nullptr && equal(heap, item.second, *other);
  });
}

// -1, 0, 1; 2 when one is NaN.
int compare_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.as_int() < b.as_int() ? -1 : a.as_int() > b.as_int() ? 1 : 0;
  if (a.is_integral()) return compare(a.as_int(), b.as_double());
  if (b.is_integral()) {
    const int order = compare(b.as_int(), a.as_double());
    return order == 2 ? 2 : -order;
  }
  const double x = a.as_double(), y = b.as_double();
  return x < y ? -1 : x > y ? 1 : x == y ? 0 : 2;
}

}  // namespace

bool equal(Heap& heap, const Value& a, const Value& b) {
  heap.step();
  if (a.is_number() && b.is_number()) return compare_numbers(a, b) == 0;
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone: return true;
    case Kind::kString:
      if (a.text().size() != b.text().size()) return false;
      heap.work(a.text().size());
      return a.text() == b.text();
    case Kind::kList:
    case Kind::kTuple: return equal_items(heap, a.list().items, b.list().items);
    case Kind::kDict: return equal_dicts(heap, a.dict(), b.dict());
    case Kind::kRange: {
      const Range &x = a.range(), &y = b.range();
      return x.size == y.size && (x.size == 0 || (x.start == y.start && (x.size == 1 || x.step == y.step)));
    }
    default: return a.identity() == b.identity();
  }
}

bool less(Heap& heap, const Value& a, const Value& b) {
  heap.step();
  if (a.is_number() && b.is_number()) return compare_numbers(a, b) == -1;
  if (a.is_string() && b.is_string()) {
    heap.work(std::min(a.text().size(), b.text().size()));
    return a.text() < b.text();  // bytes of UTF-8 sort as code points do
  }
  if (a.is_sequence() && a.kind() == b.kind()) {
    const auto &x = a.list().items, &y = b.list().items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!same(x[i], y[i]) && !equal(heap, x[i], y[i])) return less(heap, x[i], y[i]);
    }
    return x.size() < y.size();
  }
  for (const Value* v : {&a, &b}) {
    if (!v->is_defined()) fault(v->why_undefined());
  }
  fault("'<' not supported between instances of '", type_name(a), "' and '", type_name(b), "'");
}

bool contains(Heap& heap, const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::kString: {
      if (!item.is_string()) fault("'in <string>' requires string as left operand, not ", type_name(item));
      const std::string &text = container.text(), &part = item.text();
      heap.work(text.size());
      return find(text, part) != text.npos;
    }
    case Kind::kDict:
    case Kind::kKeys: hash(heap, item); return container.dict().find(heap, item) != nullptr;
    default: break;
  }
  Iterator it = iterate(container);
  for (Value candidate; next(heap, it, candidate);) {
    if (same(candidate, item) || equal(heap, candidate, item)) return true;
  }
  return false;
}

size_t hash(Heap& heap, const Value& value) {
  heap.step();
  switch (value.kind()) {
    case Kind::kBool:
    case Kind::kInt: return hash_of(value.as_int());
    case Kind::kFloat: return hash_of(value.as_double());
    case Kind::kString: heap.work(value.text().size()); return std::hash<std::string_view>{}(value.text());
    case Kind::kTuple: {
      size_t h = 17;
      for (const Value& item : value.list().items) h = h * 31 + hash(heap, item);
      return h;
    }
    case Kind::kList:
    case Kind::kDict:
    case Kind::kKeys:
    case Kind::kItems: fault("unhashable type: '", type_name(value), "'");
    default: return std::hash<const void*>{}(value.is_defined() ? value.identity() : nullptr);
  }
}

const char* type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined: return "Undefined";
    case Kind::kNone: return "NoneType";
    case Kind::kBool: return "bool";
    case Kind::kInt: return "int";
    case Kind::kFloat: return "float";
    case Kind::kString: return "str";
    case Kind::kList: return "list";
    case Kind::kTuple: return "tuple";
    case Kind::kDict: return "dict";
    case Kind::kRange: return "range";
    case Kind::kIterator: return "generator";
    case Kind::kKeys: return "dict_keys";
    case Kind::kValues: return "dict_values";
    case Kind::kItems: return "dict_items";
    case Kind::kNamespace: return "Namespace";
    case Kind::kMacro: return "Macro";
    case Kind::kFunction: return "function";
    case Kind::kMethod: return "builtin_function_or_method";
    case Kind::kLoop: return "LoopContext";
    case Kind::kCycler: return "Cycler";
    case Kind::kJoiner: return "Joiner";
  }
  return "?";
}

}  // namespace weir::jinja
