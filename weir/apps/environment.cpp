#include "weir/apps/environment.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "weir/base/error.h"

namespace weir {
namespace {

struct KnownVariable {
  const char* name;
  const char* what_weir_does;
};

// Read by others, meaningless for one CPU rank in one process, or (VLLM_USE_MODELSCOPE) only when a model is downloaded.
constexpr std::array kWithoutEffect = {
    KnownVariable{"VLLM_USE_V1", "there is one engine"},
    KnownVariable{"VLLM_USE_MODELSCOPE", "models are local directories"},
    KnownVariable{"VLLM_TORCH_PROFILER_WITH_STACK", "there is no torch"},
    KnownVariable{"VLLM_ENGINE_READY_TIMEOUT_S", "the engine starts in this process, nothing waits for it"},
    KnownVariable{"VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT", "no KV is moved between servers"},
    KnownVariable{"HCCL_IF_IP", "one rank has no collective traffic"},
    KnownVariable{"HCCL_SOCKET_IFNAME", "one rank has no collective traffic"},
    KnownVariable{"GLOO_SOCKET_IFNAME", "one rank has no collective traffic"},
    KnownVariable{"TP_SOCKET_IFNAME", "one rank has no collective traffic"},
    KnownVariable{"HCCL_BUFFSIZE", "one rank has no collective traffic"},
    KnownVariable{"HCCL_OP_EXPANSION_MODE", "one rank has no collective traffic"},
    KnownVariable{"PYTORCH_NPU_ALLOC_CONF", "memory is planned before loading"},
    KnownVariable{"TASK_QUEUE_ENABLE", "there is no launch queue"},
    KnownVariable{"OMP_PROC_BIND", "compute threads are bound to cores unless enable_cpu_binding of --additional-config is false"},
    KnownVariable{"ASCEND_RT_VISIBLE_DEVICES", "models run on the CPU"},
    KnownVariable{"CUDA_VISIBLE_DEVICES", "models run on the CPU"},
};

}  // namespace

Environment process_environment() {
  Environment out;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (const size_t equals = text.find('='); equals != std::string_view::npos)
      out.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return out;
}

std::optional<LogLevel> parse_log_level(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower == "trace" || lower == "debug") return LogLevel::kDebug;
  if (lower == "info") return LogLevel::kInfo;
  if (lower == "warning" || lower == "warn") return LogLevel::kWarning;
  if (lower == "error" || lower == "critical") return LogLevel::kError;
  return std::nullopt;
}

EnvironmentReview review_environment(const Environment& environment, int num_cores) {
  EnvironmentReview out;
  const auto value = [&](std::string_view name) -> const std::string* {
    const auto it = environment.find(name);
    return it == environment.end() || it->second.empty() ? nullptr : &it->second;
  };

  if (const std::string* key = value("VLLM_API_KEY")) out.api_keys.push_back(*key);
  if (const std::string* level = value("VLLM_LOGGING_LEVEL")) {
    out.log_level = parse_log_level(*level);
    if (!out.log_level) fail(ErrorCode::kInvalidArgument, "VLLM_LOGGING_LEVEL must be DEBUG, INFO, WARNING or ERROR, got \"", *level, "\"");
  }
  if (const std::string* dir = value("VLLM_TORCH_PROFILER_DIR")) out.profiler_dir = *dir;
  // Recipes set it to 1 for accelerators, where the CPU only feeds them; obeyed here it would serve with a single core.
  if (const std::string* threads = value("OMP_NUM_THREADS"))
    out.remarks.push_back({LogLevel::kWarning, concat("OMP_NUM_THREADS=", *threads, " is not obeyed: weir uses --threads (default: all ",
                                                      num_cores, num_cores == 1 ? " core)" : " cores)")});

  std::string ignored;
  for (const KnownVariable& known : kWithoutEffect)
    if (value(known.name)) ignored += concat(ignored.empty() ? "" : "; ", known.name, " (", known.what_weir_does, ")");
  if (!ignored.empty()) out.remarks.push_back({LogLevel::kInfo, "environment, accepted without effect: " + ignored});

  std::string unknown;
  for (const auto& [name, text] : environment) {
    const bool known =
        name == "VLLM_API_KEY" || name == "VLLM_LOGGING_LEVEL" || name == "VLLM_TORCH_PROFILER_DIR" ||
        std::any_of(kWithoutEffect.begin(), kWithoutEffect.end(), [&](const KnownVariable& each) { return each.name == name; });
    if (name.starts_with("VLLM_") && !known) unknown += (unknown.empty() ? "" : ", ") + name;
  }
  if (!unknown.empty()) out.remarks.push_back({LogLevel::kInfo, "environment, not known to weir: " + unknown});
  return out;
}

}  // namespace weir
