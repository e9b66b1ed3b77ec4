// Numbers as Python reads, writes and computes them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "weir/text/jinja_value.h"

namespace weir::jinja {

std::string to_decimal(Int value);
std::string repr_of_double(double value);                       // shortest text that reads back: 1.0, 1e+16, inf
std::optional<Int> parse_int(std::string_view text, int base);  // int(text, base); nullopt where Python raises ValueError
std::optional<double> parse_double(std::string_view text);      // float(text)
int compare(Int a, double b);                                   // exact; -1, 0, 1, or 2 when b is NaN
Int int_of(double value);                                       // towards zero; Fault for NaN, infinities and above 128 bits
double round_to(double value, int64_t digits);                  // round(value, digits)
Int round_to(Int value, int64_t digits);
size_t hash_of(double value);  // equal to hash_of(Int) for equal numbers
size_t hash_of(Int value);

enum class Op : uint8_t { kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow };
const char* spelling(Op op);
Value arithmetic(Op op, const Value& a, const Value& b);  // of two numbers; overflow and division by zero are Faults
Value negate(const Value& a);

}  // namespace weir::jinja
