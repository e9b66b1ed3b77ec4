// What --profile, --profile-dir and the server's /start_profile and /stop_profile do: record, then show a table and write a trace.
#pragma once

#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "weir/apps/flags.h"
#include "weir/base/profiler.h"

namespace weir {

struct ProfilingOptions {
  bool from_start = false;  // --profile
  std::string dir;          // of the traces, made when missing; empty: here. Given alone, nothing is recorded before somebody starts it.
  bool offered = false;     // either was asked for
};

std::vector<FlagSpec> profiling_flags();
// fallback_dir: what the environment says (VLLM_TORCH_PROFILER_DIR), may be empty.
ProfilingOptions profiling_options(const Flags& flags, const std::string& fallback_dir);

class Profiling {
 public:
  explicit Profiling(ProfilingOptions options) : options_(std::move(options)) {}

  const ProfilingOptions& options() const { return options_; }
  Profiler& profiler() { return profiler_; }
  bool recording() const { return profiler_.recording(); }

  void start();
  // Writes the trace and returns the table, with the trace's path. Throws Error(kInvalidArgument) when nothing is being recorded or the
  // file cannot be written.
  std::string stop();

 private:
  ProfilingOptions options_;
  std::mutex mu_;  // one start or stop at a time: a client's may come while the server ends
  Profiler profiler_;
};

}  // namespace weir
