// Arguments, global functions, attributes, subscripts and slices.
#include <algorithm>
#include <chrono>
#include <ctime>
#include <limits>

#include "weir/text/jinja_builtins.h"
#include "weir/text/jinja_eval.h"
#include "weir/text/jinja_unicode.h"
#include "weir/text/unicode.h"

namespace weir::jinja {

Params::Params(const char* who, Args& args, std::initializer_list<std::string_view> names, size_t num_required)
    : who_(who), given_(names.size()) {
  if (args.positional.size() > names.size()) fault(who, "() takes at most ", names.size(), " argument(s), got ", args.positional.size());
  for (size_t i = 0; i < args.positional.size(); ++i) given_[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    const auto* it = std::find(names.begin(), names.end(), name);
    if (it == names.end()) fault(who, "() got an unexpected keyword argument '", name, "'");
    const auto i = static_cast<size_t>(it - names.begin());
    if (given_[i] != nullptr) fault(who, "() got multiple values for argument '", name, "'");
    given_[i] = &value;
  }
  for (size_t i = 0; i < num_required; ++i) {
    if (given_[i] == nullptr) fault(who, "() misses the argument '", names.begin()[i], "'");
  }
}

bool Params::flag(size_t i) const { return given_[i] != nullptr && truthy(*given_[i]); }
bool Params::none(size_t i) const { return given_[i] == nullptr || given_[i]->is(Kind::kNone); }

Int Params::integer(size_t i, Int otherwise) const {
  if (given_[i] == nullptr) return otherwise;
  if (!given_[i]->is_integral()) fault(who_, "(): '", type_name(*given_[i]), "' object cannot be interpreted as an integer");
  return given_[i]->as_int();
}

namespace {

// ---- globals

Value range(Interpreter& in, Args& args) {
  const Params p("range", args, {"", "", ""}, 1);
  if (!p.given(1)) return in.heap().range(0, p.integer(0, 0), 1);
  return in.heap().range(p.integer(0, 0), p.integer(1, 0), p.integer(2, 1));
}

Dict::Items pairs_of(Interpreter& in, const char* who, Args& args) {
  if (args.positional.size() > 1) fault(who, " expected at most 1 argument, got ", args.positional.size());
  Dict::Items items;
  if (!args.positional.empty()) {
    const Value& source = args.positional[0];
    if (source.is(Kind::kDict)) {
      items = source.dict().items;
    } else {
      for (const Value& pair : to_vector(in.heap(), source)) {
        std::vector<Value> two = to_vector(in.heap(), pair);
        if (two.size() != 2) fault("dictionary update sequence element has length ", two.size(), "; 2 is required");
        items.emplace_back(std::move(two[0]), std::move(two[1]));
      }
    }
  }
  for (auto& [name, value] : args.named) items.emplace_back(in.text(name), std::move(value));
  return items;
}

Value dict(Interpreter& in, Args& args) { return in.heap().dict(pairs_of(in, "dict", args)); }

Value make_namespace(Interpreter& in, Args& args) {
  const Value attributes = dict(in, args);
  std::vector<std::pair<std::string, Value>> named;
  for (const auto& [key, value] : attributes.dict().items) {
    if (!key.is_string()) fault("namespace() needs names, got a key of type ", type_name(key));
    if (key.text().starts_with('_')) fault("cannot store the attribute '", key.text(), "' on a namespace: it begins with an underscore");
    named.emplace_back(key.text(), value);
  }
  return in.make_namespace(std::move(named));
}

Value cycler(Interpreter& in, Args& args) {
  if (!args.named.empty()) fault("cycler() takes no keyword arguments");
  if (args.positional.empty()) fault("at least one item has to be provided");
  const Value items = in.heap().tuple(args.positional);
  return Value(Kind::kCycler, std::make_shared<Cycler>(Cycler{items.list().items}), items.depth());
}

Value joiner(Interpreter& in, Args& args) {
  const Params p("joiner", args, {"sep"}, 0);
  const Value separator = p.given(0) ? p.at(0) : in.text(", ");
  return Value(Kind::kJoiner, std::make_shared<Joiner>(Joiner{separator}), in.heap().tuple({separator}).depth());
}

Value raise_exception(Interpreter& in, Args& args) {
  const Params p("raise_exception", args, {"message"}, 1);
  fault(to_str(in.heap(), p.at(0)));
}

// datetime.now().strftime(format): local time without a zone, so %z and %Z are empty.
Value strftime_now(Interpreter& in, Args& args) {
  const Params p("strftime_now", args, {"format"}, 1);
  if (!p.at(0).is_string()) fault("strftime_now() needs a string, not ", type_name(p.at(0)));
  const std::string& given = p.at(0).text();
  constexpr size_t kMaxFormat = 1000;
  if (given.size() > kMaxFormat) fault("strftime_now(): a format of ", given.size(), " bytes, at most ", kMaxFormat, " are accepted");
  const auto now = std::chrono::system_clock::now();
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch()).count() % 1'000'000;
  std::string format;
  for (size_t i = 0; i < given.size(); ++i) {
    if (given[i] != '%' || i + 1 == given.size()) {
      format += given[i];
      continue;
    }
    const char c = given[++i];
    if (c == 'f')
      format += std::to_string(1'000'000 + micros).substr(1);
    else if (c != 'z' && c != 'Z')
      format.append({'%', c});
  }
  if (format.empty()) return in.text("");
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  std::tm local{};
  ::localtime_r(&seconds, &local);
  std::string out(16 * kMaxFormat, '\0');
  out.resize(std::strftime(out.data(), out.size(), format.c_str(), &local));
  return in.text(std::move(out));
}

constexpr GlobalFunction kGlobals[] = {{"range", range},
                                       {"dict", dict},
                                       {"namespace", make_namespace},
                                       {"cycler", cycler},
                                       {"joiner", joiner},
                                       {"raise_exception", raise_exception},
                                       {"strftime_now", strftime_now}};

// ---- attributes

Value loop_cycle(Interpreter&, const Value& self, Args& args) {
  if (args.positional.empty()) fault("no items for cycling given");
  return args.positional[static_cast<size_t>(self.object<Loop>().index0) % args.positional.size()];
}

Value loop_changed(Interpreter& in, const Value& self, Args& args) {
  auto& loop = self.object<Loop>();
  const Value now = in.heap().tuple(args.positional);
  if (loop.changed && equal(in.heap(), *loop.changed, now)) return Value::boolean(false);
  if (loop.outer != nullptr) loop.changed = now;
  return Value::boolean(true);
}

Value cycler_next(Interpreter&, const Value& self, Args&) {
  auto& cycler = self.object<Cycler>();
  const size_t at = cycler.position;
  cycler.position = (at + 1) % cycler.items.size();
  return cycler.items[at];
}

Value cycler_reset(Interpreter&, const Value& self, Args&) {
  self.object<Cycler>().position = 0;
  return Value::none();
}

Value bound(const Value& self, std::string_view name, Method method) {
  return Value(Kind::kMethod, std::make_shared<BoundMethod>(BoundMethod{self, name, method}), self.depth() + 1);
}

bool loop_attribute(const Value& value, std::string_view name, Value& out) {
  auto& loop = value.object<Loop>();
  const auto item = [](const std::optional<Value>& v, const char* why) { return v ? *v : Value::undefined(why); };
  if (name == "index")
    out = Value::integer(loop.index0 + 1);
  else if (name == "index0")
    out = Value::integer(loop.index0);
  else if (name == "first")
    out = Value::boolean(loop.index0 == 0);
  else if (name == "last")
    out = Value::boolean(!loop.peek());
  else if (name == "length")
    out = Value::integer(loop.total());
  else if (name == "revindex")
    out = Value::integer(loop.total() - loop.index0);
  else if (name == "revindex0")
    out = Value::integer(loop.total() - loop.index0 - 1);
  else if (name == "depth")
    out = Value::integer(loop.depth0 + 1);
  else if (name == "depth0")
    out = Value::integer(loop.depth0);
  else if (name == "previtem")
    out = loop.index0 == 0 ? Value::undefined("there is no previous item") : loop.before;
  else if (name == "nextitem")
    out = item(loop.peek(), "there is no next item");
  else if (name == "cycle")
    out = bound(value, name, loop_cycle);
  else if (name == "changed")
    out = bound(value, name, loop_changed);
  else
    return false;
  return true;
}

bool macro_attribute(Interpreter& in, const Value& value, std::string_view name, Value& out) {
  const MacroDef& def = *value.object<const Macro>().definition;
  if (name == "name")
    out = def.name.empty() ? Value::none() : in.text(def.name);
  else if (name == "catch_kwargs")
    out = Value::boolean(def.uses_kwargs);
  else if (name == "catch_varargs")
    out = Value::boolean(def.uses_varargs);
  else if (name == "caller")
    out = Value::boolean(def.uses_caller);
  else if (name == "arguments") {
    std::vector<Value> names;
    for (const std::string& param : def.params) names.push_back(in.text(param));
    out = in.heap().tuple(std::move(names));
  } else {
    return false;
  }
  return true;
}

bool cycler_attribute(const Value& value, std::string_view name, Value& out) {
  const auto& cycler = value.object<const Cycler>();
  if (name == "current")
    out = cycler.items[cycler.position];
  else if (name == "next")
    out = bound(value, name, cycler_next);
  else if (name == "reset")
    out = bound(value, name, cycler_reset);
  else
    return false;
  return true;
}

// getattr(object, name), without the fall-back to items.
bool plain_attribute(Interpreter& in, const Value& object, std::string_view name, Value& out) {
  if (name.starts_with("__")) return false;
  switch (object.kind()) {
    case Kind::kNamespace:
      if (const Value* value = object.object<Namespace>().find(name)) return out = *value, true;
      return false;
    case Kind::kLoop: return loop_attribute(object, name, out);
    case Kind::kMacro: return macro_attribute(in, object, name, out);
    case Kind::kCycler: return cycler_attribute(object, name, out);
    default: return find_method(object, name, out);
  }
}

std::string no_attribute(const Value& object, std::string_view name) {
  return object.is(Kind::kNone) ? concat("'None' has no attribute '", name, "'")
                                : concat("'", type_name(object), " object' has no attribute '", name, "'");
}

// Python's index: from the end when negative; false outside.
bool position_of(Int index, int64_t length, size_t& at) {
  if (index < 0) index += length;
  if (index < 0 || index >= length) return false;
  at = static_cast<size_t>(index);
  return true;
}

Value char_at(Interpreter& in, const Value& string, size_t index) {
  const std::string& text = string.text();
  const size_t begin = string.str().ascii() ? index : byte_of_char(text, static_cast<int64_t>(index));
  if (!string.str().ascii()) in.heap().work(begin);
  size_t end = begin;
  next_char(text, end);
  return in.text(text.substr(begin, end - begin), string.str().markup);
}

bool plain_item(Interpreter& in, const Value& object, const Value& key, Value& out) {
  size_t at = 0;
  switch (object.kind()) {
    case Kind::kDict:
      if (key.is(Kind::kList) || key.is(Kind::kDict)) return false;
      if (const Value* value = object.dict().find(in.heap(), key)) return out = *value, true;
      return false;
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange:
    case Kind::kString:
      if (!key.is_integral() || !position_of(key.as_int(), length(object), at)) return false;
      if (object.is_string())
        out = char_at(in, object, at);
      else if (object.is(Kind::kRange))
        out = Value::integer(object.range().start + static_cast<Int>(at) * object.range().step);
      else
        out = object.list().items[at];
      return true;
    default: return false;
  }
}

struct SliceBounds {
  int64_t start = 0, step = 1, size = 0;
};

// slice(start, stop, step).indices(length)
SliceBounds slice_bounds(const Value& start, const Value& stop, const Value& step, int64_t length) {
  for (const Value* v : {&start, &stop, &step}) {
    if (!v->is_defined()) fault(v->why_undefined());
    if (!v->is(Kind::kNone) && !v->is_integral()) fault("slice indices must be integers or None, not ", type_name(*v));
  }
  const Int stride = step.is(Kind::kNone) ? 1 : std::clamp<Int>(step.as_int(), INT32_MIN, INT32_MAX);
  if (stride == 0) fault("slice step cannot be zero");
  const Int low = stride > 0 ? 0 : -1, high = stride > 0 ? length : length - 1;
  const auto bound = [&](const Value& v, Int otherwise) {
    if (v.is(Kind::kNone)) return otherwise;
    const Int limit = std::numeric_limits<int64_t>::max() / 2;
    Int i = std::clamp<Int>(v.as_int(), -limit, limit);
    if (i < 0) i += length;
    return std::clamp<Int>(i, low, high);
  };
  const Int from = bound(start, stride > 0 ? low : high), to = bound(stop, stride > 0 ? high : low);
  const Int span = stride > 0 ? to - from : from - to, magnitude = stride > 0 ? stride : -stride;
  return {static_cast<int64_t>(from), static_cast<int64_t>(stride),
          static_cast<int64_t>(span <= 0 ? 0 : (span + magnitude - 1) / magnitude)};
}

Value slice_of_string(Interpreter& in, const Value& string, const SliceBounds& b) {
  const std::string& text = string.text();
  in.heap().work(text.size());
  const bool markup = string.str().markup;
  if (b.size == 0) return in.text("", markup);
  if (b.step == 1) {
    const bool ascii = string.str().ascii();
    const size_t begin = ascii ? static_cast<size_t>(b.start) : byte_of_char(text, b.start);
    const size_t size = ascii ? static_cast<size_t>(b.size) : byte_of_char(std::string_view(text).substr(begin), b.size);
    return in.text(text.substr(begin, size), markup);
  }
  in.heap().work(text.size() * sizeof(char32_t));
  std::u32string chars;
  for (size_t at = 0; at < text.size();) chars += next_char(text, at);
  std::string out;
  for (int64_t i = 0; i < b.size; ++i) unicode::append_utf8(out, chars[static_cast<size_t>(b.start + i * b.step)]);
  return in.text(std::move(out), markup);
}

}  // namespace

const GlobalFunction* find_global(std::string_view name) {
  const auto* it = std::find_if(std::begin(kGlobals), std::end(kGlobals), [&](const GlobalFunction& f) { return f.name == name; });
  return it == std::end(kGlobals) ? nullptr : it;
}

Value attribute_of(Interpreter& in, const Value& object, std::string_view name) {
  if (!object.is_defined()) fault(object.why_undefined());
  Value out;
  if (plain_attribute(in, object, name, out)) return out;
  if (object.is(Kind::kDict)) {
    if (const Value* value = object.dict().find(name)) return *value;
  }
  return Value::undefined(no_attribute(object, name));
}

Value item_of(Interpreter& in, const Value& object, const Value& key) {
  if (!object.is_defined()) fault(object.why_undefined());
  Value out;
  if (plain_item(in, object, key, out)) return out;
  if (!key.is_string()) return Value::undefined(concat(type_name(object), " object has no element ", to_str(in.heap(), key)));
  return plain_attribute(in, object, key.text(), out) ? out : Value::undefined(no_attribute(object, key.text()));
}

Value slice_of(Interpreter& in, const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (!object.is_defined()) fault(object.why_undefined());
  if (!object.is_string() && !object.is_sequence() && !object.is(Kind::kRange)) fault("'", type_name(object), "' object cannot be sliced");
  const SliceBounds b = slice_bounds(start, stop, step, length(object));
  if (object.is_string()) return slice_of_string(in, object, b);
  if (object.is(Kind::kRange)) {
    const Range& r = object.range();
    const Int first = r.start + b.start * r.step, stride = r.step * b.step;
    return in.heap().range(first, first + b.size * stride, stride);
  }
  std::vector<Value> items;
  in.heap().work(static_cast<size_t>(b.size) * sizeof(Value));
  for (int64_t i = 0; i < b.size; ++i) items.push_back(object.list().items[static_cast<size_t>(b.start + i * b.step)]);
  return object.is(Kind::kList) ? in.heap().list(std::move(items)) : in.heap().tuple(std::move(items));
}

}  // namespace weir::jinja
