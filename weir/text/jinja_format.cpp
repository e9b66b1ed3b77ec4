// text % values and str.format(): the conversions that templates use, as Python prints them.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "weir/text/jinja_builtins.h"
#include "weir/text/jinja_eval.h"
#include "weir/text/jinja_number.h"
#include "weir/text/jinja_strings.h"
#include "weir/text/jinja_unicode.h"
#include "weir/text/unicode.h"

namespace weir::jinja {
namespace {

constexpr int kMaxWidth = 100'000;

// [[fill]align][sign][#][0][width][,][.precision][type]
struct Spec {
  char32_t fill = ' ';
  char align = '\0';  // < > ^ =
  char sign = '-';    // - + or a space
  bool alternate = false, zero = false;
  char grouping = '\0';
  int width = 0, precision = -1;
  char type = '\0';
  bool empty = true;
};

std::string digits_in(Int value, int base, bool upper_case) {
  if (base == 10) return to_decimal(value < 0 ? -value : value);
  auto rest = value < 0 ? -static_cast<unsigned __int128>(value) : static_cast<unsigned __int128>(value);
  const auto divisor = static_cast<unsigned __int128>(base);
  const std::string_view digits = upper_case ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string out;
  do {
    out += digits[static_cast<size_t>(rest % divisor)];
    rest /= divisor;
  } while (rest != 0);
  std::reverse(out.begin(), out.end());
  return out;
}

std::string group(std::string number, char separator, size_t every) {
  if (separator == '\0') return number;
  const size_t whole = std::min(number.find_first_not_of("0123456789"), number.size());
  for (size_t at = whole; at > every; at -= every) number.insert(at - every, 1, separator);
  return number;
}

std::string sign_of(bool negative, char sign) { return negative ? "-" : sign == '+' ? "+" : sign == ' ' ? " " : ""; }

// Sign and prefix stay in front of the padding when it is zeros.
std::string padded_number(const std::string& sign, const std::string& prefix, const std::string& digits, const Spec& s) {
  const bool zeros = s.align == '=' || (s.align == '\0' && s.zero);
  if (zeros) {
    const int64_t left = s.width - static_cast<int64_t>(sign.size() + prefix.size());
    return sign + prefix + pad(digits, left, s.zero ? U'0' : s.fill, Side::kRight);
  }
  return pad(sign + prefix + digits, s.width, s.fill, s.align == '<' ? Side::kLeft : s.align == '^' ? Side::kBoth : Side::kRight);
}

std::string format_int(Int value, const Spec& s) {
  if (s.type == 'c') {
    if (value < 0 || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) fault("%c arg not in range(0x110000)");
    std::string c;
    unicode::append_utf8(c, static_cast<char32_t>(value));
    return pad(c, s.width, s.fill, s.align == '>' ? Side::kRight : s.align == '^' ? Side::kBoth : Side::kLeft);
  }
  const bool upper_case = s.type == 'X';
  const int base = s.type == 'x' || s.type == 'X' ? 16 : s.type == 'o' ? 8 : s.type == 'b' ? 2 : 10;
  std::string prefix;
  if (s.alternate && base != 10) prefix = upper_case ? "0X" : base == 16 ? "0x" : base == 8 ? "0o" : "0b";
  std::string digits = digits_in(value, base, upper_case);
  if (s.precision > static_cast<int>(digits.size())) digits.insert(0, static_cast<size_t>(s.precision) - digits.size(), '0');
  return padded_number(sign_of(value < 0, s.sign), prefix, group(digits, s.grouping, base == 10 ? 3 : 4), s);
}

std::string format_double(double value, const Spec& s) {
  char type = s.type == '\0' || s.type == 'n' ? 'g' : s.type;
  std::string digits;
  const double magnitude = std::fabs(value);
  if (!std::isfinite(value)) {
    digits = std::isnan(value) ? "nan" : "inf";
    if (type == 'F' || type == 'E' || type == 'G') digits = upper(digits);
  } else if (s.type == '\0' && s.precision < 0) {
    digits = repr_of_double(magnitude);
  } else {
    const bool percent = type == '%';
    if (percent) type = 'f';
    const char format[] = {'%', s.alternate ? '#' : '.', s.alternate ? '.' : '*', s.alternate ? '*' : type, s.alternate ? type : '\0',
                           '\0'};
    const int precision = s.precision < 0 ? 6 : s.type == '\0' ? std::max(s.precision, 1) : s.precision;
    const double shown = percent ? magnitude * 100 : magnitude;
    // The format is built above from a fixed set of conversions.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    const int size = std::snprintf(nullptr, 0, format, precision, shown);
    digits.resize(static_cast<size_t>(size) + 1);
    std::snprintf(digits.data(), digits.size(), format, precision, shown);
#pragma GCC diagnostic pop
    digits.pop_back();
    if (s.type == '\0' && digits.find_first_of(".e") == digits.npos) digits += ".0";
    if (percent) digits += '%';
  }
  return padded_number(sign_of(std::signbit(value) && !std::isnan(value), s.sign), "", group(digits, s.grouping, 3), s);
}

std::string format_text(std::string_view text, const Spec& s) {
  if (s.precision >= 0) text = text.substr(0, byte_of_char(text, s.precision));
  return pad(text, s.width, s.fill, s.align == '>' ? Side::kRight : s.align == '^' ? Side::kBoth : Side::kLeft);
}

int read_number(std::string_view text, size_t& at) {
  int64_t n = -1;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    n = std::max<int64_t>(n, 0) * 10 + (text[at] - '0');
    if (n > kMaxWidth) fault("a format width or precision above ", kMaxWidth);
  }
  return static_cast<int>(n);
}

// ---- %

class Percent {
 public:
  Percent(Interpreter& in, std::string_view format, const Value& values, const Args* named)
      : in_(in), format_(format), values_(values), named_(named) {}

  std::string run() {
    std::string out;
    for (at_ = 0; at_ < format_.size();) {
      const size_t mark = std::min(format_.find('%', at_), format_.size());
      out += format_.substr(at_, mark - at_);
      at_ = mark;
      if (at_ < format_.size()) out += conversion();
      if (out.size() > kMaxOutputBytes) fault("a string above ", kMaxOutputBytes >> 20, " MiB");
    }
    // Python lets anything with subscripts pass unused, text and tuples excepted.
    const bool may_stay =
        named_ != nullptr || values_.is(Kind::kDict) || values_.is(Kind::kList) || values_.is(Kind::kRange) || !values_.is_defined();
    const size_t given = values_.is(Kind::kTuple) ? values_.list().items.size() : 1;
    if (!may_stay && taken_ < given) fault("not all arguments converted during string formatting");
    return out;
  }

 private:
  const Value& take() {
    const size_t i = taken_++;
    if (named_ == nullptr && values_.is(Kind::kTuple) && i < values_.list().items.size()) return values_.list().items[i];
    if (named_ != nullptr || values_.is(Kind::kTuple) || i > 0) fault("not enough arguments for format string");
    return values_;
  }

  const Value& by_name(std::string_view name) {
    if (named_ != nullptr) {
      for (const auto& [key, value] : named_->named) {
        if (key == name) return value;
      }
    } else if (values_.is(Kind::kDict)) {
      if (const Value* value = values_.dict().find(name)) return *value;
    } else {
      fault("format requires a mapping");
    }
    fault("the format names '", name, "', which is not given");
  }

  int star_or_number() {
    if (at_ >= format_.size() || format_[at_] != '*') return read_number(format_, at_);
    ++at_;
    const Value& n = take();
    if (!n.is_integral()) fault("* wants int");
    if (n.as_int() > kMaxWidth || n.as_int() < -kMaxWidth) fault("a format width or precision above ", kMaxWidth);
    return static_cast<int>(n.as_int());
  }

  std::string conversion() {
    const Value* value = nullptr;
    Spec s;
    s.align = '>';
    ++at_;
    if (at_ < format_.size() && format_[at_] == '(') {
      const size_t close = format_.find(')', at_);
      if (close == format_.npos) fault("incomplete format key");
      value = &by_name(format_.substr(at_ + 1, close - at_ - 1));
      at_ = close + 1;
    }
    bool left = false;
    for (; at_ < format_.size() && std::string_view("-+ #0").find(format_[at_]) != std::string_view::npos; ++at_) {
      const char flag = format_[at_];
      if (flag == '-')
        left = true;
      else if (flag == '#')
        s.alternate = true;
      else if (flag == '0')
        s.zero = true;
      else if (s.sign != '+')
        s.sign = flag;
    }
    s.width = star_or_number();
    if (s.width < -1) left = true, s.width = -s.width;
    if (at_ < format_.size() && format_[at_] == '.') {
      ++at_;
      s.precision = std::max(star_or_number(), 0);
    }
    while (at_ < format_.size() && std::string_view("hlL").find(format_[at_]) != std::string_view::npos) ++at_;
    if (at_ >= format_.size()) fault("incomplete format");
    s.type = format_[at_++];
    if (s.type == '%') return "%";
    if (left)
      s.align = '<', s.zero = false;
    else if (s.zero)
      s.align = '=';
    return print(value != nullptr ? *value : take(), s);
  }

  std::string print(const Value& v, Spec s) {
    switch (s.type) {
      case 's':
        return format_text(to_str(in_.heap(), v), s.align == '=' ? Spec{.align = '>', .width = s.width, .precision = s.precision} : s);
      case 'r':
      case 'a': {
        std::string text;
        append_repr(in_.heap(), v, text);
        return format_text(text, s);
      }
      case 'c':
        if (v.is_string() && v.str().num_chars == 1) return format_text(v.text(), s);
        if (!v.is_integral()) fault("%c requires int or char");
        return format_int(v.as_int(), s);
      case 'd':
      case 'i':
      case 'u':
        if (!v.is_number()) fault("%", s.type, " format: a real number is required, not ", type_name(v));
        s.type = 'd';
        return format_int(v.is(Kind::kFloat) ? int_of(v.as_double()) : v.as_int(), s);
      case 'x':
      case 'X':
      case 'o':
        if (!v.is_integral()) fault("%", s.type, " format: an integer is required, not ", type_name(v));
        return format_int(v.as_int(), s);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        if (!v.is_number()) fault("must be real number, not ", type_name(v));
        return format_double(v.as_double(), s);
      default: fault("unsupported format character '", s.type, "'");
    }
  }

  Interpreter& in_;
  std::string_view format_;
  const Value& values_;
  const Args* named_;
  size_t at_ = 0, taken_ = 0;
};

// ---- str.format

Spec parse_spec(std::string_view text) {
  Spec s;
  s.empty = text.empty();
  size_t at = 0;
  const auto is_align = [&](size_t i) { return i < text.size() && std::string_view("<>^=").find(text[i]) != std::string_view::npos; };
  if (!text.empty()) {
    size_t behind = 0;
    const char32_t fill = next_char(text, behind);
    if (is_align(behind))
      s.fill = fill, s.align = text[behind], at = behind + 1;
    else if (is_align(0))
      s.align = text[0], at = 1;
  }
  const auto flag = [&](char c) {
    const bool present = at < text.size() && text[at] == c;
    at += present ? 1 : 0;
    return present;
  };
  if (flag('+'))
    s.sign = '+';
  else if (flag(' '))
    s.sign = ' ';
  else
    flag('-');
  s.alternate = flag('#');
  s.zero = flag('0') && s.align == '\0';
  s.width = std::max(read_number(text, at), 0);
  if (flag(','))
    s.grouping = ',';
  else if (flag('_'))
    s.grouping = '_';
  if (flag('.')) {
    s.precision = read_number(text, at);
    if (s.precision < 0) fault("format specifier missing precision");
  }
  if (at < text.size()) s.type = text[at++];
  if (at != text.size()) fault("invalid format specifier '", text, "'");
  return s;
}

std::string format_value(Interpreter& in, const Value& v, std::string_view spec_text) {
  const Spec s = parse_spec(spec_text);
  if (s.empty) return to_str(in.heap(), v);
  const auto one_of = [&](std::string_view types) { return s.type == '\0' || types.find(s.type) != types.npos; };
  if (v.is_string() && one_of("s") && s.align != '=' && s.sign == '-' && !s.alternate && s.grouping == '\0') {
    Spec text_spec = s;
    if (s.zero) text_spec.fill = '0';
    return format_text(v.text(), text_spec);
  }
  if (v.is_integral() && one_of("bcdoxX") && s.precision < 0) return format_int(v.as_int(), s);
  if (v.is_number() && one_of("eEfFgG%")) return format_double(v.as_double(), s);
  fault("the format '", spec_text, "' does not fit a value of type ", type_name(v));
}

}  // namespace

std::string format_percent(Interpreter& in, std::string_view format, const Value& values, const Args* named) {
  in.heap().work(format.size());
  return Percent(in, format, values, named).run();
}

std::string format_braces(Interpreter& in, std::string_view format, const Args& args) {
  std::string out;
  size_t next_index = 0;
  in.heap().work(format.size());
  for (size_t at = 0; at < format.size();) {
    const char c = format[at];
    if (c != '{' && c != '}') {
      out += format[at++];
      continue;
    }
    if (at + 1 < format.size() && format[at + 1] == c) {
      out += c;
      at += 2;
      continue;
    }
    if (c == '}') fault("single '}' in a format string");
    const size_t close = format.find('}', at);
    if (close == format.npos) fault("'{' is not closed in a format string");
    std::string_view field = format.substr(at + 1, close - at - 1);
    if (field.find('{') != field.npos) fault("nested fields in a format string are not supported");
    at = close + 1;
    const size_t colon = std::min(field.find(':'), field.size());
    const std::string_view spec = colon < field.size() ? field.substr(colon + 1) : std::string_view();
    field = field.substr(0, colon);
    char conversion = '\0';
    if (field.size() >= 2 && field[field.size() - 2] == '!') conversion = field.back(), field.remove_suffix(2);

    const size_t name_end = std::min(field.find_first_of(".["), field.size());
    const std::string_view name = field.substr(0, name_end);
    Value value;
    if (name.empty() || name.find_first_not_of("0123456789") == name.npos) {
      const size_t i = name.empty() ? next_index++ : static_cast<size_t>(parse_int(name.substr(0, 9), 10).value_or(0));
      if (i >= args.positional.size()) fault("the format names argument ", i, ", but ", args.positional.size(), " are given");
      value = args.positional[i];
    } else {
      const auto it = std::find_if(args.named.begin(), args.named.end(), [&](const auto& n) { return n.first == name; });
      if (it == args.named.end()) fault("the format names '", name, "', which is not given");
      value = it->second;
    }
    for (std::string_view rest = field.substr(name_end); !rest.empty();) {
      if (rest[0] == '.') {
        const size_t end = std::min(rest.find_first_of(".[", 1), rest.size());
        value = attribute_of(in, value, rest.substr(1, end - 1));
        rest.remove_prefix(end);
      } else {
        const size_t end = rest.find(']');
        if (rest[0] != '[' || end == rest.npos) fault("malformed field in a format string");
        const std::string_view key = rest.substr(1, end - 1);
        const bool index = !key.empty() && key.find_first_not_of("0123456789") == key.npos;
        value = item_of(in, value, index ? Value::integer(parse_int(key, 10).value_or(0)) : in.text(std::string(key)));
        rest.remove_prefix(end + 1);
      }
    }
    if (conversion == 'r') {
      std::string text;
      append_repr(in.heap(), value, text);
      value = in.text(std::move(text));
    } else if (conversion == 's') {
      value = in.text(to_str(in.heap(), value));
    } else if (conversion != '\0') {
      fault("unknown conversion '!", conversion, "' in a format string");
    }
    out += format_value(in, value, spec);
    if (out.size() > kMaxOutputBytes) fault("a string above ", kMaxOutputBytes >> 20, " MiB");
  }
  return out;
}

}  // namespace weir::jinja
