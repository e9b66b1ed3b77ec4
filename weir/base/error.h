// Errors that end one unit of work (a request, a step, start-up). Expected outcomes are return values; bugs are WEIR_CHECK.
// Caught in four places only: the HTTP handler, the engine step, the rank thread and main().
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace weir {

enum class ErrorCode { kInvalidArgument, kNotFound, kResourceExhausted, kUnavailable, kCancelled, kInternal };

struct Error : std::runtime_error {
  Error(ErrorCode error_code, const std::string& message) : std::runtime_error(message), code(error_code) {}
  ErrorCode code;
};

// Joins the parts with operator<<.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

// Throws Error. Say what was wrong, with the value seen, the value allowed and the flag or field to change.
template <class... Parts>
[[noreturn]] void fail(ErrorCode code, const Parts&... parts) {
  throw Error(code, concat(parts...));
}

}  // namespace weir
