#include "weir/apps/serve_flags.h"

#include <cmath>

#include "weir/apps/commands.h"
#include "weir/apps/compat_flags.h"
#include "weir/apps/engine_flags.h"
#include "weir/apps/profiling.h"
#include "weir/apps/version.h"

namespace weir {
namespace {

constexpr const char* kServer = "Server";
constexpr const char* kApi = "API";
constexpr const char* kLogging = "Logging";

std::vector<FlagSpec> front_flags() {
  const ServerOptions server;
  const ServerLimits limits;
  return {
      {.name = "host",
       .group = kServer,
       .help = "Address to listen on. 0.0.0.0 opens the server to the network, as vLLM does by itself.",
       .fallback = "127.0.0.1"},
      {.name = "port",
       .type = FlagType::kInt,
       .group = kServer,
       .help = "Port to listen on; 0: any free one.",
       .fallback = std::to_string(server.port),
       .min = 0,
       .max = 65535},
      {.name = "api-key",
       .type = FlagType::kTexts,
       .group = kServer,
       .help = "Keys of which a client must bring one (also from VLLM_API_KEY); none: open."},
      {.name = "allowed-origins",
       .type = FlagType::kTexts,
       .group = kServer,
       .help = "Web origins that browsers may call from; a JSON list is understood too. Not given: all."},
      {.name = "max-body-bytes",
       .type = FlagType::kCount,
       .group = kServer,
       .help = "Largest request body; larger ones get 413.",
       .fallback = std::to_string(limits.max_body_bytes),
       .min = 1024},
      {.name = "max-connections",
       .type = FlagType::kCount,
       .group = kServer,
       .help = "Most connections at once; more are answered 503.",
       .fallback = std::to_string(limits.max_connections),
       .min = 1,
       .max = 1 << 20},
      {.name = "shutdown-timeout",
       .type = FlagType::kNumber,
       .group = kServer,
       .help = "Seconds that requests in flight get after SIGTERM or Ctrl-C.",
       .fallback = concat(server.shutdown_timeout.count() / 1000),
       .min = 0,
       .max = 86400},

      {.name = "served-model-name",
       .type = FlagType::kTexts,
       .group = kApi,
       .help = "Names that requests may use; the first is the one reported. Not given: the model as written.",
       .value_name = "NAME ..."},
      {.name = "reasoning-parser",
       .group = kApi,
       .help = "Moves thoughts from the answer into \"reasoning\". Not given: they stay in the answer.",
       .choices = {"qwen3"}},
      {.name = "default-chat-template-kwargs",
       .type = FlagType::kJson,
       .group = kApi,
       .help = "Template variables of every chat, e.g. '{\"enable_thinking\": false}'; a request's own win."},

      {.name = "log-level",
       .group = kLogging,
       .help = "Least important lines to log (also from VLLM_LOGGING_LEVEL).",
       .fallback = "info",
       .aliases = {"uvicorn-log-level"},
       .choices = {"trace", "debug", "info", "warning", "error", "critical"}},
      {.name = "enable-log-requests",
       .type = FlagType::kBool,
       .group = kLogging,
       .help = "One line for each HTTP request.",
       .fallback = server.access_log ? "true" : "false"},
      {.name = "disable-log-requests",
       .type = FlagType::kBool,
       .group = kLogging,
       .help = "The older name of --no-enable-log-requests.",
       .fallback = "false",
       .aliases = {"disable-uvicorn-access-log"}},
  };
}

// `--allowed-origins '["https://a", "https://b"]'` is vLLM's spelling.
std::vector<std::string> origins(const std::vector<std::string>& given) {
  std::vector<std::string> out;
  for (const std::string& text : given) {
    if (!text.starts_with('[')) {
      out.push_back(text);
      continue;
    }
    const Json list = parse_json(text, "--allowed-origins");
    for (const Json& item : list) {
      if (!item.is_string()) throw UsageError(concat("--allowed-origins must list texts, got ", text));
      out.push_back(item.get<std::string>());
    }
  }
  return out;
}

}  // namespace

const CommandSpec& serve_command() {
  static const CommandSpec command = [] {
    CommandSpec out;
    out.name = "serve";
    out.summary = "Serves a model through the OpenAI API, with a chat page at /.";
    out.positionals = {"MODEL"};
    for (auto part : {front_flags(), engine_flags(), profiling_flags(), compat_flags()})
      out.flags.insert(out.flags.end(), part.begin(), part.end());
    out.epilogue =
        "\nexamples\n"
        "  weir serve models/weir-tiny --reasoning-parser qwen3\n"
        "  weir serve /models/Qwen3.5-35B-A3B --host 0.0.0.0 --served-model-name qwen3.5 --max-model-len 32k --api-key secret\n";
    return out;
  }();
  return command;
}

LogLevel serve_log_level(const Flags& flags, const EnvironmentReview& environment) {
  if (!flags.given("log-level")) return environment.log_level.value_or(LogLevel::kInfo);
  return parse_log_level(flags.text("log-level")).value_or(LogLevel::kInfo);
}

ServeOptions serve_options(const Flags& flags, const EnvironmentReview& environment) {
  ServeOptions out;
  out.engine = engine_options(flags);
  out.engine.bind_threads = wants_cpu_binding(flags);
  out.profiling = profiling_options(flags, environment.profiler_dir);

  ServerOptions& server = out.server;
  server.host = flags.text("host");
  server.port = static_cast<uint16_t>(flags.integer("port"));
  server.api_keys = flags.given("api-key") ? flags.texts("api-key") : environment.api_keys;
  for (const std::string& key : server.api_keys)
    if (key.empty()) throw UsageError("--api-key must not be empty");
  if (flags.given("allowed-origins")) server.allowed_origins = origins(flags.texts("allowed-origins"));
  server.access_log = flags.boolean("enable-log-requests") && !flags.boolean("disable-log-requests");
  server.shutdown_timeout = std::chrono::milliseconds(std::llround(flags.number("shutdown-timeout") * 1000));
  server.limits.max_body_bytes = flags.integer("max-body-bytes");
  server.limits.max_buffered_bytes = std::max(server.limits.max_buffered_bytes, server.limits.max_body_bytes);
  server.limits.max_connections = static_cast<int32_t>(flags.integer("max-connections"));

  ApiOptions& api = server.api;
  api.served_names = flags.texts("served-model-name");
  if (api.served_names.empty()) api.served_names = {out.engine.model};
  api.model_path = out.engine.model;
  api.version = kVersion;
  api.reasoning_parser = flags.find_text("reasoning-parser").value_or("");
  api.default_chat_template_kwargs = flags.find_json("default-chat-template-kwargs").value_or(Json::object());
  return out;
}

}  // namespace weir
