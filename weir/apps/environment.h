// Environment variables that recipes for vLLM set: what weir reads from them and what it has to say about the others.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "weir/base/log.h"

namespace weir {

using Environment = std::map<std::string, std::string, std::less<>>;

Environment process_environment();

struct EnvironmentReview {
  std::vector<std::string> api_keys;  // VLLM_API_KEY
  std::optional<LogLevel> log_level;  // VLLM_LOGGING_LEVEL
  std::string profiler_dir;           // VLLM_TORCH_PROFILER_DIR
  struct Remark {
    LogLevel level;
    std::string text;
  };
  std::vector<Remark> remarks;  // one log line each
};

// Throws Error naming the variable for a value that cannot be meant. `num_cores`: what OMP_NUM_THREADS does not change.
EnvironmentReview review_environment(const Environment& environment, int num_cores);

// "debug", "INFO", "warning", …; nullopt for anything else.
std::optional<LogLevel> parse_log_level(std::string_view text);

}  // namespace weir
