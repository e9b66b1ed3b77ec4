#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "weir/text/jinja_builtins.h"
#include "weir/text/jinja_eval.h"
#include "weir/text/jinja_number.h"
#include "weir/text/jinja_strings.h"
#include "weir/text/jinja_unicode.h"

namespace weir::jinja {
namespace {

// soft_str: text stays what it is, anything else is printed.
Value soft_str(Interpreter& in, const Value& v) { return v.is_string() ? v : in.text(to_str(in.heap(), v)); }

Value same_markup(Interpreter& in, const Value& source, std::string text) { return in.text(std::move(text), source.str().markup); }

// ---- text

template <std::string (*F)(std::string_view)>
Value fold(Interpreter& in, const Value& input, Args& args) {
  const Params p("case filter", args, {}, 0);
  const Value s = soft_str(in, input);
  in.heap().work(8 * s.text().size());
  return same_markup(in, s, F(s.text()));
}

// Jinja2's own title(): words begin behind white space and - ( { [ <.
Value title_filter(Interpreter& in, const Value& input, Args& args) {
  const Params p("title", args, {}, 0);
  const std::string text = to_str(in.heap(), input);
  in.heap().work(8 * text.size());
  const auto opens = [](char32_t c) { return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || is_space(c); };
  std::string out;
  for (size_t at = 0; at < text.size();) {
    size_t begin = at;
    const bool separator = opens(next_char(text, at));
    const size_t first = at;
    for (size_t end = at; at < text.size() && opens(next_char(text, end)) == separator;) at = end;
    out += upper(std::string_view(text).substr(begin, first - begin));
    out += lower(std::string_view(text).substr(first, at - first));
  }
  return in.text(std::move(out));
}

Value trim(Interpreter& in, const Value& input, Args& args) {
  const Params p("trim", args, {"chars"}, 0);
  const Value s = soft_str(in, input);
  if (p.none(0)) return same_markup(in, s, std::string(strip(s.text(), std::nullopt)));
  if (!p.at(0).is_string()) fault("strip arg must be None or str");
  in.heap().work(s.text().size() * (1 + p.at(0).text().size()));
  return same_markup(in, s, std::string(strip(s.text(), p.at(0).text())));
}

Value replace_filter(Interpreter& in, const Value& input, Args& args) {
  const Params p("replace", args, {"old", "new", "count"}, 2);
  const Int n = p.none(2) ? -1 : p.integer(2, -1);
  return in.text(replace(to_str(in.heap(), input), to_str(in.heap(), p.at(0)), to_str(in.heap(), p.at(1)),
                         static_cast<int64_t>(std::clamp<Int>(n, -1, INT64_MAX))));
}

Value indent(Interpreter& in, const Value& input, Args& args) {
  const Params p("indent", args, {"width", "first", "blank"}, 0);
  if (!input.is_string()) fault("indent() needs a string, not ", type_name(input));
  std::string space;
  if (p.given(0) && p.at(0).is_string())
    space = p.at(0).text();
  else
    space = std::string(static_cast<size_t>(std::clamp<Int>(p.integer(0, 4), 0, 1000)), ' ');
  std::string text = input.text();
  text += '\n';  // so that a last empty line counts
  const auto lines = split_lines(text, false);
  in.heap().work(lines.size() * (space.size() + 1) + text.size());
  std::string out;
  if (p.flag(1)) out = space;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += '\n';
    if (i > 0 && (p.flag(2) || !lines[i].empty())) out += space;
    out += lines[i];
    if (out.size() > kMaxOutputBytes) fault("a string above ", kMaxOutputBytes >> 20, " MiB");
  }
  return same_markup(in, input, std::move(out));
}

Value truncate(Interpreter& in, const Value& input, Args& args) {
  const Params p("truncate", args, {"length", "killwords", "end", "leeway"}, 0);
  if (!input.is_string()) fault("truncate() needs a string, not ", type_name(input));
  const std::string end = p.given(2) ? to_str(in.heap(), p.at(2)) : "...";
  const Int size = p.integer(0, 255), leeway = p.none(3) ? 5 : p.integer(3, 5), kept = size - count_chars(end);
  if (kept < 0) fault("truncate(): length must be at least that of the end, ", count_chars(end));
  if (leeway < 0) fault("truncate(): leeway must be >= 0");
  const std::string& text = input.text();
  if (input.str().num_chars <= size + leeway) return input;
  std::string_view head = std::string_view(text).substr(0, byte_of_char(text, static_cast<int64_t>(kept)));
  if (!p.flag(1)) head = head.substr(0, head.rfind(' '));
  return in.text(std::string(head).append(end));
}

Value center(Interpreter& in, const Value& input, Args& args) {
  const Params p("center", args, {"width"}, 0);
  const Value s = soft_str(in, input);
  return same_markup(in, s, pad(s.text(), static_cast<int64_t>(std::clamp<Int>(p.integer(0, 80), 0, INT32_MAX)), ' ', Side::kBoth));
}

Value word_count(Interpreter& in, const Value& input, Args& args) {
  const Params p("wordcount", args, {}, 0);
  const std::string text = to_str(in.heap(), input);
  int64_t words = 0;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_char(text, at);
    const bool word = c == '_' || (flags_of(c) & kAlphanumeric) != 0;
    words += word && !inside;
    inside = word;
  }
  return Value::integer(words);
}

Value escape(Interpreter& in, const Value& input, Args& args) {
  const Params p("escape", args, {}, 0);
  if (input.is_string() && input.str().markup) return input;
  // Markup("") + text escapes the text.
  return in.binary(Op::kAdd, in.text("", true), soft_str(in, input));
}

Value safe(Interpreter& in, const Value& input, Args& args) {
  const Params p("safe", args, {}, 0);
  return in.text(to_str(in.heap(), input), true);
}

Value string_filter(Interpreter& in, const Value& input, Args& args) {
  const Params p("string", args, {}, 0);
  return soft_str(in, input);
}

Value format_filter(Interpreter& in, const Value& input, Args& args) {
  if (!args.positional.empty() && !args.named.empty()) fault("format(): positional and keyword arguments cannot be mixed");
  const Value s = soft_str(in, input);
  const Value values = in.heap().tuple(args.positional);
  return same_markup(in, s, format_percent(in, s.text(), values, args.named.empty() ? nullptr : &args));
}

Value tojson(Interpreter& in, const Value& input, Args& args) {
  const Params p("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"}, 0);
  JsonFormat format;
  format.ensure_ascii = p.flag(0);
  format.sort_keys = p.flag(3);
  if (!p.none(1)) {
    format.pretty = true;
    format.item_separator.assign(1, ',');
    format.indent = p.at(1).is_string() ? p.at(1).text() : std::string(static_cast<size_t>(std::clamp<Int>(p.integer(1, 0), 0, 1000)), ' ');
  }
  if (!p.none(2)) {
    const std::vector<Value> two = to_vector(in.heap(), p.at(2));
    if (two.size() != 2 || !two[0].is_string() || !two[1].is_string()) fault("tojson(): separators must be two strings");
    format.item_separator = two[0].text();
    format.key_separator = two[1].text();
  }
  return in.text(to_json(in.heap(), input, format));
}

// ---- numbers

Value int_filter(Interpreter& in, const Value& input, Args& args) {
  const Params p("int", args, {"default", "base"}, 0);
  (void)in;
  Value otherwise = p.given(0) ? p.at(0) : Value::integer(0);
  if (!input.is_defined()) fault(input.why_undefined());
  if (input.is_integral()) return Value::integer(input.as_int());
  if (input.is(Kind::kFloat)) return std::isnan(input.as_double()) ? otherwise : Value::integer(int_of(input.as_double()));
  if (!input.is_string()) return otherwise;
  const Int base = p.integer(1, 10);
  if (base != 0 && (base < 2 || base > 36)) return otherwise;
  if (const auto value = parse_int(input.text(), static_cast<int>(base))) return Value::integer(*value);
  const auto number = parse_double(input.text());
  return number && std::isfinite(*number) ? Value::integer(int_of(*number)) : otherwise;
}

Value float_filter(Interpreter& in, const Value& input, Args& args) {
  const Params p("float", args, {"default"}, 0);
  (void)in;
  const Value otherwise = p.given(0) ? p.at(0) : Value::real(0);
  if (!input.is_defined()) fault(input.why_undefined());
  if (input.is_number()) return Value::real(input.as_double());
  const auto number = input.is_string() ? parse_double(input.text()) : std::nullopt;
  return number ? Value::real(*number) : otherwise;
}

Value abs_filter(Interpreter& in, const Value& input, Args& args) {
  const Params p("abs", args, {}, 0);
  (void)in;
  if (!input.is_number()) fault("bad operand type for abs(): '", type_name(input), "'");
  if (input.is(Kind::kFloat)) return Value::real(std::fabs(input.as_double()));
  return input.as_int() < 0 ? negate(input) : Value::integer(input.as_int());
}

Value round_filter(Interpreter& in, const Value& input, Args& args) {
  const Params p("round", args, {"precision", "method"}, 0);
  const std::string method = p.given(1) ? to_str(in.heap(), p.at(1)) : "common";
  if (method != "common" && method != "ceil" && method != "floor") fault("round(): method must be common, ceil or floor, got ", method);
  if (!input.is_number()) fault("type ", type_name(input), " cannot be rounded");
  const Int precision = std::clamp<Int>(p.integer(0, 0), -1000, 1000);
  if (method == "common") {
    if (input.is_integral()) return Value::integer(round_to(input.as_int(), static_cast<int64_t>(precision)));
    return Value::real(round_to(input.as_double(), static_cast<int64_t>(precision)));
  }
  const Value scale = arithmetic(Op::kPow, Value::integer(10), Value::integer(precision));
  const Value scaled = arithmetic(Op::kMul, input, scale);
  const double edge = method == "ceil" ? std::ceil(scaled.as_double()) : std::floor(scaled.as_double());
  const Value whole = scaled.is_integral() ? scaled : Value::integer(int_of(edge));
  return arithmetic(Op::kDiv, whole, scale);
}

// ---- sequences

Value length_filter(Interpreter&, const Value& input, Args& args) {
  const Params p("length", args, {}, 0);
  if (input.is(Kind::kLoop)) return Value::integer(input.object<Loop>().total());
  return Value::integer(length(input));
}

Value list_filter(Interpreter& in, const Value& input, Args& args) {
  const Params p("list", args, {}, 0);
  return in.heap().list(to_vector(in.heap(), input));
}

Value first(Interpreter& in, const Value& input, Args& args) {
  const Params p("first", args, {}, 0);
  Iterator it = iterate(input);
  Value item;
  return next(in.heap(), it, item) ? item : Value::undefined("No first item, sequence was empty.");
}

bool reversible(const Value& v) { return is_iterable(v) && !v.is(Kind::kIterator) && v.is_defined(); }

Value last(Interpreter& in, const Value& input, Args& args) {
  const Params p("last", args, {}, 0);
  if (!reversible(input)) {
    // len() and __getitem__ make an undefined reversible in Python, but its items fail; an empty one is never asked for any.
    if (!input.is_defined()) return Value::undefined("No last item, sequence was empty.");
    fault("'", type_name(input), "' object is not reversible");
  }
  if (length(input) == 0) return Value::undefined("No last item, sequence was empty.");
  if (input.is_string() || input.is_sequence() || input.is(Kind::kRange)) return item_of(in, input, Value::integer(-1));
  return to_vector(in.heap(), input).back();
}

Value reverse(Interpreter& in, const Value& input, Args& args) {
  const Params p("reverse", args, {}, 0);
  if (input.is_string()) return slice_of(in, input, Value::none(), Value::none(), Value::integer(-1));
  std::vector<Value> items = to_vector(in.heap(), input);
  std::reverse(items.begin(), items.end());
  const Value list = in.heap().list(std::move(items));
  return reversible(input) ? in.heap().iterator(list) : list;
}

Value items_filter(Interpreter& in, const Value& input, Args& args) {
  const Params p("items", args, {}, 0);
  if (!input.is_defined()) return in.heap().iterator(in.heap().list({}));
  if (!input.is(Kind::kDict)) fault("can only get item pairs from a mapping, not ", type_name(input));
  return in.heap().iterator(in.heap().view(Kind::kItems, input));
}

// "a.b.0": names and indexes, one after the other.
std::vector<Value> path_of(Interpreter& in, const Value& attribute) {
  if (attribute.is(Kind::kNone)) return {};
  if (!attribute.is_string()) return {attribute};
  std::vector<Value> parts;
  for (const std::string_view part : split(attribute.text(), ".", -1)) {
    const bool digits = !part.empty() && part.find_first_not_of("0123456789") == part.npos;
    parts.push_back(digits ? Value::integer(parse_int(part, 10).value_or(0)) : in.text(std::string(part)));
  }
  return parts;
}

Value follow(Interpreter& in, Value item, const std::vector<Value>& path, const Value* otherwise) {
  for (const Value& part : path) {
    item = item_of(in, item, part);
    if (otherwise != nullptr && !item.is_defined()) item = *otherwise;
  }
  return item;
}

Value ignore_case(Interpreter& in, Value v, bool case_sensitive) {
  if (case_sensitive || !v.is_string()) return v;
  in.heap().work(8 * v.text().size());
  return in.text(lower(v.text()));
}

// Iterates over the input as Python's generators do: what is not true gives nothing.
std::vector<Value> inputs(Interpreter& in, const Value& input) {
  return truthy(input) ? to_vector(in.heap(), input) : std::vector<Value>{};
}

Value generated(Interpreter& in, std::vector<Value> items) { return in.heap().iterator(in.heap().list(std::move(items))); }

Value map(Interpreter& in, const Value& input, Args& args) {
  std::vector<Value> items = inputs(in, input);
  const bool by_attribute =
      args.positional.empty() && std::any_of(args.named.begin(), args.named.end(), [](const auto& n) { return n.first == "attribute"; });
  if (by_attribute) {
    const Params p("map", args, {"attribute", "default"}, 0);
    const std::vector<Value> path = path_of(in, p.at(0));
    const Value* otherwise = p.none(1) ? nullptr : &p.at(1);
    for (Value& item : items) item = follow(in, item, path, otherwise);
    return generated(in, std::move(items));
  }
  if (args.positional.empty()) fault("map requires a filter argument");
  const std::string name = to_str(in.heap(), args.positional[0]);
  for (Value& item : items) {
    Args rest{{args.positional.begin() + 1, args.positional.end()}, args.named};
    in.heap().work(rest.positional.size() * sizeof(Value));
    item = in.apply_filter(name, item, rest);
  }
  return generated(in, std::move(items));
}

Value select(Interpreter& in, const Value& input, Args& args, bool wanted, bool by_attribute) {
  std::vector<Value> kept;
  std::vector<Value> path;
  const size_t test_at = by_attribute ? 1 : 0;
  for (const Value& item : inputs(in, input)) {
    if (by_attribute && path.empty()) {
      if (args.positional.empty()) fault("missing parameter for attribute name");
      path = path_of(in, args.positional[0]);
    }
    const Value subject = by_attribute ? follow(in, item, path, nullptr) : item;
    bool passes = false;
    if (args.positional.size() > test_at) {
      Args rest{{args.positional.begin() + static_cast<ptrdiff_t>(test_at) + 1, args.positional.end()}, args.named};
      in.heap().work(rest.positional.size() * sizeof(Value));
      passes = in.apply_test(to_str(in.heap(), args.positional[test_at]), subject, rest);
    } else {
      passes = truthy(subject);
    }
    if (passes == wanted) kept.push_back(item);
  }
  return generated(in, std::move(kept));
}
template <bool kWanted, bool kByAttribute>
Value select_filter(Interpreter& in, const Value& input, Args& args) {
  return select(in, input, args, kWanted, kByAttribute);
}

Value join(Interpreter& in, const Value& input, Args& args) {
  const Params p("join", args, {"d", "attribute"}, 0);
  const std::string separator = p.given(0) ? to_str(in.heap(), p.at(0)) : std::string();
  const std::vector<Value> path = p.none(1) ? std::vector<Value>{} : path_of(in, p.at(1));
  std::string out;
  Iterator it = iterate(input);
  bool any = false;
  for (Value item; next(in.heap(), it, item); any = true) {
    if (any) out += separator;
    append_str(in.heap(), follow(in, item, path, nullptr), out);
    if (out.size() > kMaxOutputBytes) fault("a string above ", kMaxOutputBytes >> 20, " MiB");
  }
  return in.text(std::move(out));
}

// Keys beside the items, so that each is computed once.
std::vector<std::pair<Value, Value>> keyed(Interpreter& in, std::vector<Value> items, const std::function<Value(const Value&)>& key) {
  std::vector<std::pair<Value, Value>> pairs;
  pairs.reserve(items.size());
  for (Value& item : items) {
    Value k = key(item);
    pairs.emplace_back(std::move(k), std::move(item));
  }
  in.heap().work(pairs.size() * 2 * sizeof(Value));
  return pairs;
}

std::vector<Value> sorted(Interpreter& in, std::vector<std::pair<Value, Value>> pairs, bool reverse_order) {
  // Stable in both directions, as Python's sort is.
  std::stable_sort(pairs.begin(), pairs.end(), [&](const auto& a, const auto& b) {
    return reverse_order ? less(in.heap(), b.first, a.first) : less(in.heap(), a.first, b.first);
  });
  std::vector<Value> items;
  for (auto& pair : pairs) items.push_back(std::move(pair.second));
  return items;
}

Value sort(Interpreter& in, const Value& input, Args& args) {
  const Params p("sort", args, {"reverse", "case_sensitive", "attribute"}, 0);
  std::vector<std::vector<Value>> paths;
  if (!p.none(2) && p.at(2).is_string()) {
    for (const std::string_view part : split(p.at(2).text(), ",", -1)) paths.push_back(path_of(in, in.text(std::string(part))));
  } else {
    paths.push_back(p.none(2) ? std::vector<Value>{} : path_of(in, p.at(2)));
  }
  const auto key = [&](const Value& item) {
    std::vector<Value> keys;
    for (const auto& path : paths) keys.push_back(ignore_case(in, follow(in, item, path, nullptr), p.flag(1)));
    return in.heap().list(std::move(keys));
  };
  return in.heap().list(sorted(in, keyed(in, to_vector(in.heap(), input), key), p.flag(0)));
}

Value dictsort(Interpreter& in, const Value& input, Args& args) {
  const Params p("dictsort", args, {"case_sensitive", "by", "reverse"}, 0);
  const std::string by = p.given(1) ? to_str(in.heap(), p.at(1)) : "key";
  if (by != "key" && by != "value") fault("dictsort(): by must be \"key\" or \"value\", got ", by);
  if (!input.is_defined()) fault(input.why_undefined());
  if (!input.is(Kind::kDict)) fault("dictsort() needs a mapping, not ", type_name(input));
  const auto key = [&](const Value& pair) { return ignore_case(in, pair.list().items[by == "key" ? 0 : 1], p.flag(0)); };
  return in.heap().list(sorted(in, keyed(in, to_vector(in.heap(), in.heap().view(Kind::kItems, input)), key), p.flag(2)));
}

Value unique(Interpreter& in, const Value& input, Args& args) {
  const Params p("unique", args, {"case_sensitive", "attribute"}, 0);
  const std::vector<Value> path = p.none(1) ? std::vector<Value>{} : path_of(in, p.at(1));
  std::vector<Value> kept;
  std::unordered_multimap<size_t, Value> seen;
  for (const Value& item : to_vector(in.heap(), input)) {
    Value key = ignore_case(in, follow(in, item, path, nullptr), p.flag(0));
    const size_t h = hash(in.heap(), key);
    const auto [begin, end] = seen.equal_range(h);
    if (std::any_of(begin, end, [&](const auto& s) { return equal(in.heap(), s.second, key); })) continue;
    seen.emplace(h, std::move(key));
    kept.push_back(item);
  }
  return generated(in, std::move(kept));
}

template <bool kMax>
Value extreme(Interpreter& in, const Value& input, Args& args) {
  const Params p(kMax ? "max" : "min", args, {"case_sensitive", "attribute"}, 0);
  const std::vector<Value> path = p.none(1) ? std::vector<Value>{} : path_of(in, p.at(1));
  Value best = Value::undefined("No aggregated item, sequence was empty."), best_key;
  bool any = false;
  for (const Value& item : to_vector(in.heap(), input)) {
    Value key = ignore_case(in, follow(in, item, path, nullptr), p.flag(0));
    if (any && !(kMax ? less(in.heap(), best_key, key) : less(in.heap(), key, best_key))) continue;
    best = item;
    best_key = std::move(key);
    any = true;
  }
  return best;
}

Value sum(Interpreter& in, const Value& input, Args& args) {
  const Params p("sum", args, {"attribute", "start"}, 0);
  const std::vector<Value> path = p.none(0) ? std::vector<Value>{} : path_of(in, p.at(0));
  Value total = p.given(1) ? p.at(1) : Value::integer(0);
  if (total.is_string()) fault("sum() can't sum strings [use ''.join(seq) instead]");
  Iterator it = iterate(input);
  for (Value item; next(in.heap(), it, item);) total = in.binary(Op::kAdd, total, follow(in, item, path, nullptr));
  return total;
}

Value default_filter(Interpreter& in, const Value& input, Args& args) {
  const Params p("default", args, {"default_value", "boolean"}, 0);
  if (input.is_defined() && !(p.flag(1) && !truthy(input))) return input;
  return p.given(0) ? p.at(0) : in.text("");
}

Value attr(Interpreter& in, const Value& input, Args& args) {
  const Params p("attr", args, {"name"}, 1);
  if (!p.at(0).is_string()) fault("attr() needs a name, not ", type_name(p.at(0)));
  if (!input.is(Kind::kDict)) return attribute_of(in, input, p.at(0).text());
  Value method;  // of a mapping only its methods, never its items
  return find_method(input, p.at(0).text(), method) ? method
                                                    : Value::undefined(concat("'dict object' has no attribute '", p.at(0).text(), "'"));
}

Value batch(Interpreter& in, const Value& input, Args& args) {
  const Params p("batch", args, {"linecount", "fill_with"}, 1);
  const Int n = p.integer(0, 0);
  std::vector<Value> rows, row;
  for (const Value& item : to_vector(in.heap(), input)) {
    if (static_cast<Int>(row.size()) == n) rows.push_back(in.heap().list(std::exchange(row, {})));
    row.push_back(item);
  }
  if (!row.empty()) {
    if (n > 1'000'000) fault("batch(): at most 1000000 items in a row");
    while (!p.none(1) && static_cast<Int>(row.size()) < n) row.push_back(p.at(1));
    rows.push_back(in.heap().list(std::move(row)));
  }
  return generated(in, std::move(rows));
}

Value slice_filter(Interpreter& in, const Value& input, Args& args) {
  const Params p("slice", args, {"slices", "fill_with"}, 1);
  const std::vector<Value> items = to_vector(in.heap(), input);
  const Int n = p.integer(0, 0);
  if (n == 0) fault("integer division or modulo by zero");
  if (n > 1'000'000) fault("slice(): at most 1000000 slices");
  std::vector<Value> columns;
  const auto size = static_cast<int64_t>(items.size()), slices = static_cast<int64_t>(std::max<Int>(n, 0));
  size_t begin = 0;
  for (int64_t i = 0; i < slices; ++i) {
    const bool longer = i < size % slices;
    const size_t end = begin + static_cast<size_t>(size / slices + (longer ? 1 : 0));
    std::vector<Value> column(items.begin() + static_cast<ptrdiff_t>(begin), items.begin() + static_cast<ptrdiff_t>(end));
    if (!p.none(1) && !longer) column.push_back(p.at(1));
    columns.push_back(in.heap().list(std::move(column)));
    begin = end;
  }
  return generated(in, std::move(columns));
}

constexpr std::pair<std::string_view, Filter> kFilters[] = {
    {"abs", abs_filter},
    {"attr", attr},
    {"batch", batch},
    {"capitalize", fold<capitalize>},
    {"center", center},
    {"count", length_filter},
    {"d", default_filter},
    {"default", default_filter},
    {"dictsort", dictsort},
    {"e", escape},
    {"escape", escape},
    {"first", first},
    {"float", float_filter},
    {"format", format_filter},
    {"indent", indent},
    {"int", int_filter},
    {"items", items_filter},
    {"join", join},
    {"last", last},
    {"length", length_filter},
    {"list", list_filter},
    {"lower", fold<lower>},
    {"map", map},
    {"max", extreme<true>},
    {"min", extreme<false>},
    {"reject", select_filter<false, false>},
    {"rejectattr", select_filter<false, true>},
    {"replace", replace_filter},
    {"reverse", reverse},
    {"round", round_filter},
    {"safe", safe},
    {"select", select_filter<true, false>},
    {"selectattr", select_filter<true, true>},
    {"slice", slice_filter},
    {"sort", sort},
    {"string", string_filter},
    {"sum", sum},
    {"title", title_filter},
    {"tojson", tojson},
    {"trim", trim},
    {"truncate", truncate},
    {"unique", unique},
    {"upper", fold<upper>},
    {"wordcount", word_count},
};

}  // namespace

Filter find_filter(std::string_view name) {
  const auto* it =
      std::lower_bound(std::begin(kFilters), std::end(kFilters), name, [](const auto& f, std::string_view n) { return f.first < n; });
  return it != std::end(kFilters) && it->first == name ? it->second : nullptr;
}

}  // namespace weir::jinja
