#include "weir/base/log.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <ctime>

#include "weir/base/check.h"

namespace weir {
namespace {
std::atomic<LogLevel> g_level{LogLevel::kInfo};
}  // namespace

void set_log_level(LogLevel level) { g_level.store(level, std::memory_order_relaxed); }
bool log_enabled(LogLevel level) { return level >= g_level.load(std::memory_order_relaxed); }

void write_log(LogLevel level, std::string_view text) {
  static constexpr std::array<const char*, 4> kNames = {"DEBUG", "INFO", "WARNING", "ERROR"};
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::array<char, 48> head{};
  const size_t day = std::strftime(head.data(), head.size(), "%m-%d %H:%M:%S ", &local);
  std::string line = concat(kNames[static_cast<size_t>(level)], " ", std::string_view(head.data(), day), text, "\n");
  // One write(2) per line keeps lines of different threads whole; a full disk or closed pipe is not worth dying for.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

void check_failed(const char* file, int line, const char* condition, const std::string& message) {
  std::fprintf(stderr, "weir bug: %s:%d: %s %s\n", file, line, condition, message.c_str());
  std::abort();
}

}  // namespace weir
