#include "weir/text/jinja_number.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "weir/text/jinja_unicode.h"

namespace weir::jinja {
namespace {

constexpr double kTwo127 = 0x1p127;

[[noreturn]] void overflow() { fault("integer above 128 bits"); }

std::string_view strip(std::string_view text) {
  size_t begin = 0, end = text.size();
  for (size_t at = 0; at < end && is_space(next_char(text, at));) begin = at;
  for (size_t at = end; at > begin && is_space(previous_char(text, at));) end = at;
  return text.substr(begin, end - begin);
}

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'z') return c - 'a' + 10;
  if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
  return 99;
}

// Python allows one "_" between digits; false when one stands elsewhere.
bool drop_underscores(std::string_view text, std::string& out) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
      continue;
    }
    const auto digit = [&](size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };
    if (i == 0 || !digit(i - 1) || !digit(i + 1)) return false;
  }
  return true;
}

Value int_pow(Int base, Int exponent) {
  if (exponent < 0) {
    if (base == 0) fault("0 cannot be raised to a negative power");
    return Value::real(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  if (base == 0 || base == 1) return Value::integer(exponent == 0 ? 1 : base);
  if (base == -1) return Value::integer(exponent % 2 == 0 ? 1 : -1);
  if (exponent > 127) overflow();
  Int result = 1;
  for (Int i = 0; i < exponent; ++i) {
    if (__builtin_mul_overflow(result, base, &result)) overflow();
  }
  return Value::integer(result);
}

Value int_arithmetic(Op op, Int a, Int b) {
  Int result = 0;
  switch (op) {
    case Op::kAdd:
      if (__builtin_add_overflow(a, b, &result)) overflow();
      return Value::integer(result);
    case Op::kSub:
      if (__builtin_sub_overflow(a, b, &result)) overflow();
      return Value::integer(result);
    case Op::kMul:
      if (__builtin_mul_overflow(a, b, &result)) overflow();
      return Value::integer(result);
    case Op::kPow: return int_pow(a, b);
    case Op::kDiv:
      if (b == 0) fault("division by zero");
      return Value::real(static_cast<double>(a) / static_cast<double>(b));
    case Op::kFloorDiv:
    case Op::kMod: break;
  }
  if (b == 0) fault("integer division or modulo by zero");
  if (b == -1) return op == Op::kMod ? Value::integer(0) : int_arithmetic(Op::kSub, 0, a);
  const Int quotient = a / b, remainder = a % b;
  const bool down = remainder != 0 && (remainder < 0) != (b < 0);
  return Value::integer(op == Op::kMod ? (down ? remainder + b : remainder) : (down ? quotient - 1 : quotient));
}

double float_mod(double a, double b) {
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
  return remainder == 0 ? std::copysign(0.0, b) : remainder;
}

// As CPython: the quotient of what is left after the remainder, rounded where division was inexact.
double float_floor_div(double a, double b) {
  const double remainder = std::fmod(a, b);
  double quotient = (a - remainder) / b;
  if (remainder != 0 && (remainder < 0) != (b < 0)) quotient -= 1;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floored = std::floor(quotient);
  return quotient - floored > 0.5 ? floored + 1 : floored;
}

double float_arithmetic(Op op, double a, double b) {
  switch (op) {
    case Op::kAdd: return a + b;
    case Op::kSub: return a - b;
    case Op::kMul: return a * b;
    case Op::kDiv:
      if (b == 0) fault("float division by zero");
      return a / b;
    case Op::kFloorDiv:
      if (b == 0) fault("float floor division by zero");
      return float_floor_div(a, b);
    case Op::kMod:
      if (b == 0) fault("float modulo by zero");
      return float_mod(a, b);
    case Op::kPow: break;
  }
  if (a == 0 && b < 0) fault("0.0 cannot be raised to a negative power");
  if (a < 0 && std::isfinite(a) && std::isfinite(b) && b != std::floor(b)) fault("complex numbers are not supported");
  const double power = std::pow(a, b);
  if (std::isinf(power) && std::isfinite(a) && std::isfinite(b)) fault("float too large");
  return power;
}

}  // namespace

std::string to_decimal(Int value) {
  auto rest = value < 0 ? -static_cast<unsigned __int128>(value) : static_cast<unsigned __int128>(value);
  std::string digits;
  do {
    digits += static_cast<char>('0' + static_cast<int>(rest % 10));
    rest /= 10;
  } while (rest != 0);
  if (value < 0) digits += '-';
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::string repr_of_double(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 40> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer.data(), static_cast<size_t>(end - buffer.data()));
  const size_t e = text.find('e');
  const int64_t exponent = std::strtol(text.data() + e + 1, nullptr, 10);  // the buffer ends in zeros
  std::string out(value < 0 || std::signbit(value) ? "-" : ""), digits;
  for (const char c : text.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  const auto n = static_cast<int64_t>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (n > 1) out.append(".").append(digits, 1);
    out.append(exponent < 0 ? "e-" : "e+");
    const int64_t magnitude = std::abs(exponent);
    return out.append(magnitude < 10 ? "0" : "").append(std::to_string(magnitude));
  }
  if (exponent < 0) return out.append("0.").append(static_cast<size_t>(-exponent - 1), '0').append(digits);
  const auto whole = static_cast<size_t>(exponent + 1);
  if (exponent + 1 >= n) return out.append(digits).append(whole - digits.size(), '0').append(".0");
  return out.append(digits, 0, whole).append(".").append(digits, whole);
}

std::optional<Int> parse_int(std::string_view text, int base) {
  text = strip(text);
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  const auto prefix = [&](char letter) { return text.size() > 2 && text[0] == '0' && (text[1] | 0x20) == letter; };
  const int stated = prefix('x') ? 16 : prefix('o') ? 8 : prefix('b') ? 2 : 0;
  const bool any_base = base == 0;
  if (any_base) base = stated != 0 ? stated : 10;
  if (base < 2 || base > 36) fault("int() base must be >= 2 and <= 36, or 0");
  bool after_digit = false;
  if (stated == base && stated != 0) text.remove_prefix(2), after_digit = true;  // "0x_1" is allowed
  if (any_base && stated == 0 && text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != text.npos) return std::nullopt;
  Int value = 0;
  bool any = false;
  for (const char c : text) {
    if (c == '_') {
      if (!after_digit) return std::nullopt;
      after_digit = false;
      continue;
    }
    const int digit = digit_value(c);
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(value, static_cast<Int>(base), &value) || __builtin_add_overflow(value, static_cast<Int>(digit), &value))
      overflow();
    after_digit = any = true;
  }
  if (!any || !after_digit) return std::nullopt;
  return negative ? -value : value;
}

std::optional<double> parse_double(std::string_view text) {
  std::string clean;
  if (!drop_underscores(strip(text), clean) || clean.empty()) return std::nullopt;
  for (char& c : clean) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  const size_t sign = clean[0] == '-' || clean[0] == '+' ? 1 : 0;
  const std::string_view body = std::string_view(clean).substr(sign);
  if (body != "inf" && body != "infinity" && body != "nan" &&
      (body.find_first_not_of("0123456789.e+-") != body.npos || body.find_first_of("0123456789") == body.npos || body[0] == '+' ||
       body[0] == '-'))
    return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(clean.c_str(), &end);
  if (end != clean.c_str() + clean.size()) return std::nullopt;
  return value;
}

int compare(Int a, double b) {
  if (std::isnan(b)) return 2;
  if (b >= kTwo127) return -1;
  if (b < -kTwo127) return 1;
  const Int whole = static_cast<Int>(b);
  if (a != whole) return a < whole ? -1 : 1;
  const double fraction = b - std::trunc(b);
  return fraction > 0 ? -1 : fraction < 0 ? 1 : 0;
}

Int int_of(double value) {
  if (std::isnan(value)) fault("cannot convert float NaN to integer");
  if (std::isinf(value)) fault("cannot convert float infinity to integer");
  if (value >= kTwo127 || value < -kTwo127) overflow();
  return static_cast<Int>(value);
}

double round_to(double value, int64_t digits) {
  if (!std::isfinite(value) || digits > 400) return value;
  if (digits < -400) return std::copysign(0.0, value);
  std::string text;
  if (digits >= 0) {
    // printf rounds the exact binary value, half to even, as Python's round does.
    text.resize(800);
    const int n = std::snprintf(text.data(), text.size(), "%.*f", static_cast<int>(digits), value);
    text.resize(static_cast<size_t>(n));
    return std::strtod(text.c_str(), nullptr);
  }
  const double scale = std::pow(10.0, static_cast<double>(-digits));
  const double scaled = value / scale;
  double rounded = std::round(scaled);
  if (std::fabs(scaled - rounded) == 0.5) rounded = 2.0 * std::round(scaled / 2.0);
  return rounded * scale;
}

Int round_to(Int value, int64_t digits) {
  if (digits >= 0) return value;
  if (digits < -38) return 0;
  Int scale = 1;
  for (int64_t i = digits; i < 0; ++i) {
    if (__builtin_mul_overflow(scale, static_cast<Int>(10), &scale)) return 0;
  }
  const Int quotient = int_arithmetic(Op::kFloorDiv, value, scale).as_int(), remainder = value - quotient * scale;
  const Int half = scale / 2;
  const bool up = remainder > half || (remainder == half && quotient % 2 != 0);
  return int_arithmetic(Op::kMul, up ? quotient + 1 : quotient, scale).as_int();
}

size_t hash_of(Int value) {
  return std::hash<int64_t>{}(static_cast<int64_t>(value)) ^ std::hash<int64_t>{}(static_cast<int64_t>(value >> 64)) * 31;
}

size_t hash_of(double value) {
  if (std::isfinite(value) && value == std::trunc(value) && value < kTwo127 && value >= -kTwo127) return hash_of(static_cast<Int>(value));
  return std::hash<double>{}(value);
}

const char* spelling(Op op) {
  switch (op) {
    case Op::kAdd: return "+";
    case Op::kSub: return "-";
    case Op::kMul: return "*";
    case Op::kDiv: return "/";
    case Op::kFloorDiv: return "//";
    case Op::kMod: return "%";
    case Op::kPow: return "**";
  }
  return "?";
}

Value arithmetic(Op op, const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return int_arithmetic(op, a.as_int(), b.as_int());
  return Value::real(float_arithmetic(op, a.as_double(), b.as_double()));
}

Value negate(const Value& a) { return a.is_integral() ? int_arithmetic(Op::kSub, 0, a.as_int()) : Value::real(-a.as_double()); }

}  // namespace weir::jinja
