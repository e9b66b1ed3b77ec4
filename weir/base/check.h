// WEIR_CHECK(condition, parts…): a broken invariant is a bug in weir; prints the place and the parts to stderr, then aborts.
// Never for input: bad files and bad requests throw Error (base/error.h).
#pragma once

#include "weir/base/error.h"

namespace weir {
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const std::string& message);
}  // namespace weir

#define WEIR_CHECK(condition, ...)                                                                         \
  do {                                                                                                     \
    if (!(condition)) [[unlikely]]                                                                         \
      ::weir::check_failed(__FILE__, __LINE__, #condition, ::weir::concat("" __VA_OPT__(, ) __VA_ARGS__)); \
  } while (false)
