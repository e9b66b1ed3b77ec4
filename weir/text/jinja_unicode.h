// What Python's str methods know about code points, and the bytes of UTF-8 they live in. Templates are written against Python's
// strings, so the interpreter counts, cuts, folds and quotes text as Python does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace weir::jinja {

enum CharFlag : uint16_t {
  kPrintable = 1,
  kLowercase = 2,
  kUppercase = 4,
  kTitlecase = 8,
  kAlphabetic = 16,
  kDecimal = 32,
  kDigit = 64,
  kNumeric = 128,
  kCaseIgnorable = 256,
  kCased = kLowercase | kUppercase | kTitlecase,
  kAlphanumeric = kAlphabetic | kDecimal | kDigit | kNumeric,
};
uint16_t flags_of(char32_t c);
bool is_space(char32_t c);       // str.isspace() of one character; also what \s matches
bool is_line_break(char32_t c);  // where str.splitlines() cuts

// The character of `text` at byte `at`; `at` moves behind it. Bad bytes count as U+FFFD.  REQUIRES: at < text.size()
char32_t next_char(std::string_view text, size_t& at);
char32_t previous_char(std::string_view text, size_t& end);  // the one before byte `end` > 0; `end` moves in front of it
int64_t count_chars(std::string_view text);
size_t byte_of_char(std::string_view text, int64_t index);  // byte offset of character `index`, at most text.size()

std::string lower(std::string_view text);
std::string upper(std::string_view text);
std::string title(std::string_view text);  // str.title()
std::string capitalize(std::string_view text);
std::string swap_case(std::string_view text);

namespace tables {
struct FlagRun {
  uint32_t first;  // up to the next run
  uint16_t flags;
};
struct CaseMap {
  uint32_t from, to;
};
struct CaseMaps {
  uint32_t from;
  uint32_t to[3];  // 0 ends it
};
extern const FlagRun kFlags[];
extern const CaseMap kLower[], kUpper[], kTitle[];  // kTitle: only where it differs from the upper case
extern const CaseMaps kLowerSeveral[], kUpperSeveral[], kTitleSeveral[];
extern const size_t kNumFlags, kNumLower, kNumUpper, kNumTitle, kNumLowerSeveral, kNumUpperSeveral, kNumTitleSeveral;
}  // namespace tables

}  // namespace weir::jinja
