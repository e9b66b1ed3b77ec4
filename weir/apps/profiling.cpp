#include "weir/apps/profiling.h"

#include <unistd.h>

#include <ctime>
#include <filesystem>

#include "weir/base/log.h"

namespace weir {
namespace {

constexpr const char* kGroup = "Profiling";

std::string trace_path(const std::string& dir) {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char text[32];
  std::strftime(text, sizeof text, "%Y%m%d-%H%M%S", &local);
  const std::string stem = concat("weir-", text, "-", ::getpid());
  std::filesystem::path path = std::filesystem::path(dir) / (stem + ".trace.json");
  for (int i = 2; std::filesystem::exists(path); ++i) path = std::filesystem::path(dir) / concat(stem, "-", i, ".trace.json");
  return path.string();
}

}  // namespace

std::vector<FlagSpec> profiling_flags() {
  return {
      {.name = "profile",
       .type = FlagType::kBool,
       .group = kGroup,
       .help = "Record what the steps spend their time on; at the end, print a table and write a trace that Perfetto opens.",
       .fallback = "false"},
      {.name = "profile-dir",
       .group = kGroup,
       .help = "Directory for traces, made when missing (also from VLLM_TORCH_PROFILER_DIR). It lets clients of the server record with "
               "POST /start_profile and /stop_profile, too. Not given: the current one.",
       .value_name = "DIR"},
      {.name = "profiler-config",
       .type = FlagType::kJson,
       .group = kGroup,
       .help = "vLLM's newer spelling: torch_profiler_dir is --profile-dir; its other keys have no meaning here."},
  };
}

ProfilingOptions profiling_options(const Flags& flags, const std::string& fallback_dir) {
  ProfilingOptions out;
  out.from_start = flags.boolean("profile");
  out.dir = fallback_dir;
  if (const auto config = flags.find_json("profiler-config")) {
    if (const auto dir = config->find("torch_profiler_dir"); dir != config->end()) {
      if (!dir->is_string()) throw UsageError(concat("--profiler-config: torch_profiler_dir must be a text, got ", dump_json(*dir)));
      out.dir = dir->get<std::string>();
    }
  }
  if (const auto dir = flags.find_text("profile-dir")) out.dir = *dir;
  out.offered = out.from_start || !out.dir.empty();
  return out;
}

void Profiling::start() {
  const std::lock_guard lock(mu_);
  if (profiler_.recording()) log_warning("profile: begins anew, what was recorded is forgotten");
  profiler_.start();
  log_info("profile: recording");
}

std::string Profiling::stop() {
  const std::lock_guard lock(mu_);
  if (!profiler_.recording()) fail(ErrorCode::kInvalidArgument, "no profile is being recorded; POST /start_profile first");
  const Profile profile = profiler_.stop();
  std::error_code error;
  if (!options_.dir.empty()) std::filesystem::create_directories(options_.dir, error);
  const std::string path = trace_path(options_.dir);
  profile.write_trace(path);
  return profile.table() + "\nTrace: " + path;
}

}  // namespace weir
