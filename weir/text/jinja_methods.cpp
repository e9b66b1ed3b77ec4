// Methods of text, lists, mappings and ranges.
#include <algorithm>

#include "weir/text/jinja_builtins.h"
#include "weir/text/jinja_eval.h"
#include "weir/text/jinja_strings.h"
#include "weir/text/jinja_unicode.h"

namespace weir::jinja {
namespace {

Value made(Interpreter& in, const Value& self, std::string text) { return in.text(std::move(text), self.str().markup); }

const std::string& string_arg(const Params& p, size_t i, const char* who) {
  if (!p.at(i).is_string()) fault(who, "(): must be str, not ", type_name(p.at(i)));
  return p.at(i).text();
}

int64_t count_arg(const Params& p, size_t i) { return static_cast<int64_t>(std::clamp<Int>(p.integer(i, -1), INT64_MIN, INT64_MAX)); }

Value parts_of(Interpreter& in, const Value& self, const std::vector<std::string_view>& parts) {
  std::vector<Value> items;
  for (const std::string_view part : parts) items.push_back(made(in, self, std::string(part)));
  return in.heap().list(std::move(items));
}

// ---- case and white space

template <std::string (*F)(std::string_view)>
Value fold(Interpreter& in, const Value& self, Args& args) {
  const Params p("case method", args, {}, 0);
  in.heap().work(8 * self.text().size());
  return made(in, self, F(self.text()));
}

template <Side kSide>
Value strip_method(Interpreter& in, const Value& self, Args& args) {
  const Params p("strip", args, {"chars"}, 0);
  if (p.none(0)) return made(in, self, std::string(strip(self.text(), std::nullopt, kSide)));
  const std::string& chars = string_arg(p, 0, "strip");
  in.heap().work(self.text().size() * (1 + chars.size()));
  return made(in, self, std::string(strip(self.text(), chars, kSide)));
}

template <Side kTextGoes>
Value justify(Interpreter& in, const Value& self, Args& args) {
  const Params p("justify", args, {"width", "fillchar"}, 1);
  char32_t fill = ' ';
  if (p.given(1)) {
    if (!p.at(1).is_string() || p.at(1).str().num_chars != 1) fault("the fill character must be exactly one character long");
    size_t at = 0;
    fill = next_char(p.at(1).text(), at);
  }
  return made(in, self, pad(self.text(), static_cast<int64_t>(std::clamp<Int>(p.integer(0, 0), 0, INT32_MAX)), fill, kTextGoes));
}

Value zfill(Interpreter& in, const Value& self, Args& args) {
  const Params p("zfill", args, {"width"}, 1);
  const auto width = static_cast<int64_t>(std::clamp<Int>(p.integer(0, 0), 0, INT32_MAX));
  const std::string& text = self.text();
  const size_t sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  return made(in, self,
              text.substr(0, sign) + pad(std::string_view(text).substr(sign), width - static_cast<int64_t>(sign), '0', Side::kRight));
}

// ---- cutting and joining

template <bool kRight>
Value split_method(Interpreter& in, const Value& self, Args& args) {
  const Params p("split", args, {"sep", "maxsplit"}, 0);
  const auto separator = p.none(0) ? std::nullopt : std::optional<std::string_view>(string_arg(p, 0, "split"));
  in.heap().work(self.text().size());
  return parts_of(in, self, (kRight ? split_right : split)(self.text(), separator, count_arg(p, 1)));
}

Value split_lines_method(Interpreter& in, const Value& self, Args& args) {
  const Params p("splitlines", args, {"keepends"}, 0);
  return parts_of(in, self, split_lines(self.text(), p.flag(0)));
}

template <bool kRight>
Value partition(Interpreter& in, const Value& self, Args& args) {
  const Params p("partition", args, {"sep"}, 1);
  const std::string &text = self.text(), &separator = string_arg(p, 0, "partition");
  if (separator.empty()) fault("empty separator");
  in.heap().work(text.size());
  const size_t at = kRight ? find_last(text, separator) : find(text, separator);
  const auto part = [&](std::string s) { return made(in, self, std::move(s)); };
  if (at == text.npos) return in.heap().tuple({part(kRight ? "" : text), part(""), part(kRight ? text : "")});
  return in.heap().tuple({part(text.substr(0, at)), part(separator), part(text.substr(at + separator.size()))});
}

Value join_method(Interpreter& in, const Value& self, Args& args) {
  const Params p("join", args, {"iterable"}, 1);
  std::string out;
  bool any = false, markup = self.str().markup;
  Iterator it = iterate(p.at(0));
  for (Value item; next(in.heap(), it, item); any = true) {
    if (!item.is_string()) fault("sequence item: expected str instance, ", type_name(item), " found");
    // Markup joins by escaping what is not markup.
    const Value shown = markup && !item.str().markup ? in.binary(Op::kAdd, in.text("", true), item) : item;
    if (any) out += self.text();
    append_str(in.heap(), shown, out);
    if (out.size() > kMaxOutputBytes) fault("a string above ", kMaxOutputBytes >> 20, " MiB");
  }
  return in.text(std::move(out), markup);
}

Value replace_method(Interpreter& in, const Value& self, Args& args) {
  const Params p("replace", args, {"old", "new", "count"}, 2);
  in.heap().work(self.text().size());
  return made(in, self, replace(self.text(), string_arg(p, 0, "replace"), string_arg(p, 1, "replace"), count_arg(p, 2)));
}

template <bool kSuffix>
Value remove_affix(Interpreter& in, const Value& self, Args& args) {
  const Params p(kSuffix ? "removesuffix" : "removeprefix", args, {"affix"}, 1);
  const std::string &text = self.text(), &affix = string_arg(p, 0, "removeprefix");
  if (!(kSuffix ? text.ends_with(affix) : text.starts_with(affix))) return self;
  return made(in, self, kSuffix ? text.substr(0, text.size() - affix.size()) : text.substr(affix.size()));
}

Value expand_tabs(Interpreter& in, const Value& self, Args& args) {
  const Params p("expandtabs", args, {"tabsize"}, 0);
  const auto size = static_cast<int64_t>(std::clamp<Int>(p.integer(0, 8), 0, 1000));
  std::string out;
  int64_t column = 0;
  for (const char c : self.text()) {
    if (c == '\t') {
      const int64_t spaces = size == 0 ? 0 : size - column % size;
      out.append(static_cast<size_t>(spaces), ' ');
      column += spaces;
    } else {
      out += c;
      if (c == '\n' || c == '\r')
        column = 0;
      else
        column += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    }
    if (out.size() > kMaxOutputBytes) fault("a string above ", kMaxOutputBytes >> 20, " MiB");
  }
  return made(in, self, std::move(out));
}

Value format_method(Interpreter& in, const Value& self, Args& args) { return made(in, self, format_braces(in, self.text(), args)); }

// ---- searching; `start` and `end` count characters

struct Window {
  std::string_view text;
  int64_t start = 0;     // characters in front of it
  bool possible = true;  // false when it begins behind the text: then not even "" is found
};

Window window_of(Interpreter& in, const Value& self, const Params& p, size_t first) {
  in.heap().work(self.text().size());
  const int64_t length = self.str().num_chars;
  const auto bound = [&](size_t i, int64_t otherwise) {
    Int n = p.none(i) ? otherwise : p.integer(i, 0);
    if (n < 0) n = std::max<Int>(n + length, 0);
    return n;
  };
  const Int start = bound(first, 0), end = std::min<Int>(bound(first + 1, length), length);
  if (start > length) return {"", 0, false};
  if (start > end) return {"", 0, false};
  const std::string_view text = self.text();
  const size_t from = self.str().ascii() ? static_cast<size_t>(start) : byte_of_char(text, static_cast<int64_t>(start));
  const std::string_view rest = text.substr(from);
  const auto size = static_cast<int64_t>(end - start);
  return {rest.substr(0, self.str().ascii() ? static_cast<size_t>(size) : byte_of_char(rest, size)), static_cast<int64_t>(start), true};
}

template <bool kRight, bool kMustExist>
Value find_method_of_text(Interpreter& in, const Value& self, Args& args) {
  const Params p("find", args, {"sub", "start", "end"}, 1);
  const std::string& part = string_arg(p, 0, "find");
  const Window w = window_of(in, self, p, 1);
  const size_t at = w.possible ? (kRight ? find_last(w.text, part) : find(w.text, part)) : std::string_view::npos;
  if (at != w.text.npos) return Value::integer(w.start + count_chars(w.text.substr(0, at)));
  if (kMustExist) fault("substring not found");
  return Value::integer(-1);
}

Value count_in_text(Interpreter& in, const Value& self, Args& args) {
  const Params p("count", args, {"sub", "start", "end"}, 1);
  const std::string& part = string_arg(p, 0, "count");
  const Window w = window_of(in, self, p, 1);
  return Value::integer(w.possible ? count(w.text, part) : 0);
}

template <bool kEnd>
Value has_affix(Interpreter& in, const Value& self, Args& args) {
  const char* who = kEnd ? "endswith" : "startswith";
  const Params p(who, args, {"affix", "start", "end"}, 1);
  const Window w = window_of(in, self, p, 1);
  const auto matches = [&](const Value& affix) {
    if (!affix.is_string()) fault(who, " first arg must be str or a tuple of str, not ", type_name(affix));
    return w.possible && (kEnd ? w.text.ends_with(affix.text()) : w.text.starts_with(affix.text()));
  };
  if (!p.at(0).is(Kind::kTuple)) return Value::boolean(matches(p.at(0)));
  const auto& affixes = p.at(0).list().items;
  return Value::boolean(std::any_of(affixes.begin(), affixes.end(), matches));
}

// ---- what characters are

template <uint16_t kAnyOf>
Value all_chars(Interpreter& in, const Value& self, Args& args) {
  const Params p("is…", args, {}, 0);
  const std::string& text = self.text();
  in.heap().work(4 * text.size());
  bool all = !text.empty();
  for (size_t at = 0; all && at < text.size();) all = (flags_of(next_char(text, at)) & kAnyOf) != 0;
  return Value::boolean(all);
}

Value is_space_method(Interpreter& in, const Value& self, Args& args) {
  const Params p("isspace", args, {}, 0);
  in.heap().work(self.text().size());
  return Value::boolean(!self.text().empty() && strip(self.text(), std::nullopt).empty());
}

Value is_ascii_method(Interpreter&, const Value& self, Args& args) {
  const Params p("isascii", args, {}, 0);
  return Value::boolean(self.str().ascii());
}

Value is_printable_method(Interpreter& in, const Value& self, Args& args) {
  return Value::boolean(self.text().empty() || all_chars<kPrintable>(in, self, args).as_bool());
}

Value is_title(Interpreter& in, const Value& self, Args& args) {
  const Params p("istitle", args, {}, 0);
  const std::string& text = self.text();
  in.heap().work(4 * text.size());
  bool any = false, in_word = false;
  for (size_t at = 0; at < text.size();) {
    const uint16_t flags = flags_of(next_char(text, at));
    const bool capital = (flags & (kUppercase | kTitlecase)) != 0, small = (flags & kLowercase) != 0;
    if ((capital && in_word) || (small && !in_word)) return Value::boolean(false);
    in_word = capital || small;
    any |= in_word;
  }
  return Value::boolean(any);
}

template <bool kUpper>
Value is_case(Interpreter& in, const Value& self, Args& args) {
  return Value::boolean(find_test(kUpper ? "upper" : "lower")(in, self, args));
}

// ---- containers

Value count_in_list(Interpreter& in, const Value& self, Args& args) {
  const Params p("count", args, {"value"}, 1);
  int64_t n = 0;
  for (const Value& item : to_vector(in.heap(), self)) n += same(item, p.at(0)) || equal(in.heap(), item, p.at(0));
  return Value::integer(n);
}

Value index_in_list(Interpreter& in, const Value& self, Args& args) {
  const Params p("index", args, {"value", "start", "stop"}, 1);
  const std::vector<Value> items = to_vector(in.heap(), self);
  const auto size = static_cast<Int>(items.size());
  const auto bound = [&](size_t i, Int otherwise) {
    const Int n = p.integer(i, otherwise);
    return std::clamp<Int>(n < 0 ? n + size : n, 0, size);
  };
  for (Int i = bound(1, 0); i < bound(2, size); ++i) {
    const Value& item = items[static_cast<size_t>(i)];
    if (same(item, p.at(0)) || equal(in.heap(), item, p.at(0))) return Value::integer(i);
  }
  fault("the value is not in the list");
}

Value copy(Interpreter&, const Value& self, Args& args) {
  const Params p("copy", args, {}, 0);
  return self;
}

Value get(Interpreter& in, const Value& self, Args& args) {
  const Params p("get", args, {"key", "default"}, 1);
  hash(in.heap(), p.at(0));
  if (const Value* value = self.dict().find(in.heap(), p.at(0))) return *value;
  return p.given(1) ? p.at(1) : Value::none();
}

template <Kind kKind>
Value view(Interpreter& in, const Value& self, Args& args) {
  const Params p("view", args, {}, 0);
  return in.heap().view(kKind, self);
}

struct NamedMethod {
  std::string_view name;
  Method call;  // null: Python has it, but the sandbox forbids it or weir does not offer it
};

constexpr NamedMethod kTextMethods[] = {
    {"capitalize", fold<capitalize>},
    {"casefold", nullptr},
    {"center", justify<Side::kBoth>},
    {"count", count_in_text},
    {"encode", nullptr},
    {"endswith", has_affix<true>},
    {"expandtabs", expand_tabs},
    {"find", find_method_of_text<false, false>},
    {"format", format_method},
    {"format_map", nullptr},
    {"index", find_method_of_text<false, true>},
    {"isalnum", all_chars<kAlphanumeric>},
    {"isalpha", all_chars<kAlphabetic>},
    {"isascii", is_ascii_method},
    {"isdecimal", all_chars<kDecimal>},
    {"isdigit", all_chars<kDigit>},
    {"isidentifier", nullptr},
    {"islower", is_case<false>},
    {"isnumeric", all_chars<kNumeric>},
    {"isprintable", is_printable_method},
    {"isspace", is_space_method},
    {"istitle", is_title},
    {"isupper", is_case<true>},
    {"join", join_method},
    {"ljust", justify<Side::kLeft>},
    {"lower", fold<lower>},
    {"lstrip", strip_method<Side::kLeft>},
    {"maketrans", nullptr},
    {"partition", partition<false>},
    {"removeprefix", remove_affix<false>},
    {"removesuffix", remove_affix<true>},
    {"replace", replace_method},
    {"rfind", find_method_of_text<true, false>},
    {"rindex", find_method_of_text<true, true>},
    {"rjust", justify<Side::kRight>},
    {"rpartition", partition<true>},
    {"rsplit", split_method<true>},
    {"rstrip", strip_method<Side::kRight>},
    {"split", split_method<false>},
    {"splitlines", split_lines_method},
    {"startswith", has_affix<false>},
    {"strip", strip_method<Side::kBoth>},
    {"swapcase", fold<swap_case>},
    {"title", fold<title>},
    {"translate", nullptr},
    {"upper", fold<upper>},
    {"zfill", zfill},
};

constexpr NamedMethod kListMethods[] = {
    {"append", nullptr}, {"clear", nullptr}, {"copy", copy},      {"count", count_in_list}, {"extend", nullptr}, {"index", index_in_list},
    {"insert", nullptr}, {"pop", nullptr},   {"remove", nullptr}, {"reverse", nullptr},     {"sort", nullptr},
};

constexpr NamedMethod kTupleMethods[] = {{"count", count_in_list}, {"index", index_in_list}};

constexpr NamedMethod kDictMethods[] = {
    {"clear", nullptr},
    {"copy", copy},
    {"fromkeys", nullptr},
    {"get", get},
    {"items", view<Kind::kItems>},
    {"keys", view<Kind::kKeys>},
    {"pop", nullptr},
    {"popitem", nullptr},
    {"setdefault", nullptr},
    {"update", nullptr},
    {"values", view<Kind::kValues>},
};

std::span<const NamedMethod> methods_of(Kind kind) {
  switch (kind) {
    case Kind::kString: return kTextMethods;
    case Kind::kList: return kListMethods;
    case Kind::kTuple:
    case Kind::kRange: return kTupleMethods;
    case Kind::kDict: return kDictMethods;
    default: return {};
  }
}

}  // namespace

bool find_method(const Value& object, std::string_view name, Value& method) {
  const auto methods = methods_of(object.kind());
  const auto it = std::find_if(methods.begin(), methods.end(), [&](const NamedMethod& m) { return m.name == name; });
  if (it == methods.end()) return false;
  if (it->call == nullptr)
    method = Value::undefined(concat("the method ", type_name(object), ".", name, "() is not allowed in templates"));
  else
    method = Value(Kind::kMethod, std::make_shared<BoundMethod>(BoundMethod{object, it->name, it->call}), object.depth() + 1);
  return true;
}

}  // namespace weir::jinja
