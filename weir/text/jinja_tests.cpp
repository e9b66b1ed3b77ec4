#include <algorithm>

#include "weir/text/jinja_builtins.h"
#include "weir/text/jinja_eval.h"
#include "weir/text/jinja_unicode.h"

namespace weir::jinja {
namespace {

template <class F>
bool plain(Args& args, const char* who, F&& f) {
  const Params p(who, args, {}, 0);
  return f();
}

template <Kind kKind>
bool of_kind(Interpreter&, const Value& v, Args& args) {
  return plain(args, "test", [&] { return v.is(kKind); });
}

bool is_defined(Interpreter&, const Value& v, Args& args) {
  return plain(args, "defined", [&] { return v.is_defined(); });
}
bool is_true(Interpreter&, const Value& v, Args& args) {
  return plain(args, "true", [&] { return v.is(Kind::kBool) && v.as_bool(); });
}
bool is_false(Interpreter&, const Value& v, Args& args) {
  return plain(args, "false", [&] { return v.is(Kind::kBool) && !v.as_bool(); });
}
bool is_number(Interpreter&, const Value& v, Args& args) {
  return plain(args, "number", [&] { return v.is_number(); });
}
// What has len() and []; an undefined has both.
bool is_sequence(Interpreter&, const Value& v, Args& args) {
  return plain(args, "sequence", [&] { return has_length(v) && !v.is_view(); });
}
bool is_iterable_test(Interpreter&, const Value& v, Args& args) {
  return plain(args, "iterable", [&] { return is_iterable(v) || v.is(Kind::kLoop); });
}
bool is_callable(Interpreter&, const Value& v, Args& args) {
  return plain(args, "callable", [&] {
    return !v.is_defined() || v.is(Kind::kFunction) || v.is(Kind::kMethod) || v.is(Kind::kMacro) || v.is(Kind::kLoop) ||
           v.is(Kind::kJoiner);
  });
}
bool is_escaped(Interpreter&, const Value& v, Args& args) {
  return plain(args, "escaped", [&] { return v.is_string() && v.str().markup; });
}

// Text is lower case when it has a cased letter and none of the other case.
bool all_of_case(Interpreter& in, const Value& v, uint16_t wanted) {
  const std::string text = to_str(in.heap(), v);
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const uint16_t cased = flags_of(next_char(text, at)) & kCased;
    if (cased != 0 && (cased & wanted) == 0) return false;
    any |= cased != 0;
  }
  return any;
}
bool is_lower(Interpreter& in, const Value& v, Args& args) {
  return plain(args, "lower", [&] { return all_of_case(in, v, kLowercase); });
}
bool is_upper(Interpreter& in, const Value& v, Args& args) {
  return plain(args, "upper", [&] { return all_of_case(in, v, kUppercase); });
}

bool remainder_is(Interpreter& in, const Value& v, const Value& divisor, Int wanted) {
  return equal(in.heap(), in.binary(Op::kMod, v, divisor), Value::integer(wanted));
}
bool is_odd(Interpreter& in, const Value& v, Args& args) {
  return plain(args, "odd", [&] { return remainder_is(in, v, Value::integer(2), 1); });
}
bool is_even(Interpreter& in, const Value& v, Args& args) {
  return plain(args, "even", [&] { return remainder_is(in, v, Value::integer(2), 0); });
}
bool is_divisible(Interpreter& in, const Value& v, Args& args) {
  const Params p("divisibleby", args, {"num"}, 1);
  return remainder_is(in, v, p.at(0), 0);
}

bool is_same(Interpreter&, const Value& v, Args& args) {
  const Params p("sameas", args, {"other"}, 1);
  return same(v, p.at(0));
}
bool is_in(Interpreter& in, const Value& v, Args& args) {
  const Params p("in", args, {"seq"}, 1);
  return contains(in.heap(), p.at(0), v);
}
bool is_filter_name(Interpreter&, const Value& v, Args& args) {
  return plain(args, "filter", [&] { return v.is_string() && is_filter(v.text()); });
}
bool is_test_name(Interpreter&, const Value& v, Args& args) {
  return plain(args, "test", [&] { return v.is_string() && is_test(v.text()); });
}

template <Comparison kComparison>
bool compares(Interpreter& in, const Value& v, Args& args) {
  const Params p("comparison", args, {"other"}, 1);
  const Value& other = p.at(0);
  Heap& heap = in.heap();
  switch (kComparison) {
    case Comparison::kEq: return equal(heap, v, other);
    case Comparison::kNe: return !equal(heap, v, other);
    case Comparison::kLt: return less(heap, v, other);
    case Comparison::kGt: return less(heap, other, v);
    case Comparison::kLe: return less(heap, v, other) || equal(heap, v, other);
    default: return less(heap, other, v) || equal(heap, v, other);
  }
}

constexpr std::pair<std::string_view, Test> kTests[] = {
    {"!=", compares<Comparison::kNe>},
    {"<", compares<Comparison::kLt>},
    {"<=", compares<Comparison::kLe>},
    {"==", compares<Comparison::kEq>},
    {">", compares<Comparison::kGt>},
    {">=", compares<Comparison::kGe>},
    {"boolean", of_kind<Kind::kBool>},
    {"callable", is_callable},
    {"defined", is_defined},
    {"divisibleby", is_divisible},
    {"eq", compares<Comparison::kEq>},
    {"equalto", compares<Comparison::kEq>},
    {"escaped", is_escaped},
    {"even", is_even},
    {"false", is_false},
    {"filter", is_filter_name},
    {"float", of_kind<Kind::kFloat>},
    {"ge", compares<Comparison::kGe>},
    {"greaterthan", compares<Comparison::kGt>},
    {"gt", compares<Comparison::kGt>},
    {"in", is_in},
    {"integer", of_kind<Kind::kInt>},
    {"iterable", is_iterable_test},
    {"le", compares<Comparison::kLe>},
    {"lessthan", compares<Comparison::kLt>},
    {"lower", is_lower},
    {"lt", compares<Comparison::kLt>},
    {"mapping", of_kind<Kind::kDict>},
    {"ne", compares<Comparison::kNe>},
    {"none", of_kind<Kind::kNone>},
    {"number", is_number},
    {"odd", is_odd},
    {"sameas", is_same},
    {"sequence", is_sequence},
    {"string", of_kind<Kind::kString>},
    {"test", is_test_name},
    {"true", is_true},
    {"undefined", of_kind<Kind::kUndefined>},
    {"upper", is_upper},
};

}  // namespace

Test find_test(std::string_view name) {
  const auto* it =
      std::lower_bound(std::begin(kTests), std::end(kTests), name, [](const auto& t, std::string_view n) { return t.first < n; });
  return it != std::end(kTests) && it->first == name ? it->second : nullptr;
}

}  // namespace weir::jinja
