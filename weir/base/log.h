// Log lines on stderr: "INFO 11-25 02:10:00 text". Any thread may call; a line is written whole.
#pragma once

#include <string_view>

#include "weir/base/error.h"

namespace weir {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

void set_log_level(LogLevel level);  // lines below it are dropped; default kInfo
bool log_enabled(LogLevel level);
void write_log(LogLevel level, std::string_view text);

template <class... Parts>
void log_debug(const Parts&... parts) {
  if (log_enabled(LogLevel::kDebug)) write_log(LogLevel::kDebug, concat(parts...));
}
template <class... Parts>
void log_info(const Parts&... parts) {
  if (log_enabled(LogLevel::kInfo)) write_log(LogLevel::kInfo, concat(parts...));
}
template <class... Parts>
void log_warning(const Parts&... parts) {
  if (log_enabled(LogLevel::kWarning)) write_log(LogLevel::kWarning, concat(parts...));
}
template <class... Parts>
void log_error(const Parts&... parts) {
  if (log_enabled(LogLevel::kError)) write_log(LogLevel::kError, concat(parts...));
}

}  // namespace weir
