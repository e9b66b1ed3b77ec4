#include "weir/server/service.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>
#include <random>

#include "weir/api/endpoints.h"
#include "weir/base/log.h"
#include "weir/server/web_page.h"

namespace weir {
namespace {

constexpr size_t kMaxRequestIdBytes = 128;

int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

HttpReply json_reply(const Json& body) { return {200, "application/json", dump_json(body), {}}; }

// Takes the same time wherever the first difference is.
bool equal_in_constant_time(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < a.size(); ++i)
    difference |= static_cast<unsigned char>(a[i]) ^ (b.empty() ? 0u : static_cast<unsigned char>(b[i % b.size()]));
  return difference == 0;
}

std::string uuid() {
  thread_local std::mt19937_64 rng{std::random_device{}()};
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(rng()), static_cast<unsigned long long>(rng()));
  return text;
}

std::string decode_percent(std::string_view text) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0) {
      out += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

constexpr const char* kNoProfile = "this server does not record profiles: it must be started with --profile-dir DIR";
constexpr std::string_view kOneModel = "/v1/models/";
// These need the key: they make everybody slower, or write files.
constexpr std::string_view kResetPrefixCache = "/reset_prefix_cache", kStartProfile = "/start_profile", kStopProfile = "/stop_profile";

}  // namespace

HttpReply error_reply(const ApiError& error) {
  HttpReply reply{error.status, "application/json", dump_json(error_json(error)), {}};
  if (error.status == 429 || error.status == 503) reply.headers.emplace_back("Retry-After", "1");
  if (error.status == 401) reply.headers.emplace_back("WWW-Authenticate", "Bearer");
  return reply;
}

std::string request_id_from(std::string_view header) {
  const bool usable =
      !header.empty() && header.size() <= kMaxRequestIdBytes && std::ranges::all_of(header, [](char c) { return c > ' ' && c <= '~'; });
  return usable ? std::string(header) : uuid();
}

Service::Service(ApiOptions options, std::vector<std::string> api_keys)
    : options_(std::move(options)), api_keys_(std::move(api_keys)), created_(unix_seconds()) {
  if (options_.served_names.empty()) fail(ErrorCode::kInvalidArgument, "--served-model-name must give at least one name");
  std::erase(api_keys_, "");  // an empty key would let everybody in
}

void Service::set_ready(ServedModel model, EngineClient& engine, ProfileSwitch profile) {
  auto metrics = std::make_shared<Metrics>(model.max_model_len);
  auto loaded = std::make_shared<const Loaded>(Loaded{std::move(model), &engine, std::move(metrics), std::move(profile)});
  const std::lock_guard lock(mu_);
  loaded_ = std::move(loaded);
}

std::shared_ptr<const Service::Loaded> Service::loaded() const {
  const std::lock_guard lock(mu_);
  return loaded_;
}

std::shared_ptr<const Service::Loaded> Service::require_loaded() const {
  if (draining_) fail(ErrorCode::kUnavailable, "the server is shutting down");
  auto out = loaded();
  if (!out) fail(ErrorCode::kUnavailable, "the model is still being loaded");
  return out;
}

const std::vector<Service::Route>& Service::routes() {
  static const std::vector<Route> table = {
      {"POST", "/v1/completions", &Service::completions},
      {"POST", "/v1/chat/completions", &Service::chat_completions},
      {"GET", "/v1/models", &Service::models},
      {"POST", "/tokenize", &Service::tokenize_text},
      {"POST", "/detokenize", &Service::detokenize_tokens},
      {"GET", "/health", &Service::health},
      {"GET", "/ping", &Service::ping},
      {"POST", "/ping", &Service::ping},
      {"GET", "/version", &Service::version},
      {"GET", "/load", &Service::load},
      {"GET", "/metrics", &Service::metrics},
      {"POST", kResetPrefixCache, &Service::reset_prefix_cache},
      {"POST", kStartProfile, &Service::start_profile},
      {"POST", kStopProfile, &Service::stop_profile},
      {"GET", "/", &Service::page},
  };
  return table;
}

bool Service::authorized(const HttpRequest& request) const {
  const bool guarded =
      request.path.starts_with("/v1") || request.path == kResetPrefixCache || request.path == kStartProfile || request.path == kStopProfile;
  if (api_keys_.empty() || !guarded) return true;
  constexpr std::string_view kScheme = "bearer ";
  std::string_view key = request.authorization;
  const bool bearer = key.size() > kScheme.size() && std::ranges::equal(key.substr(0, kScheme.size()), kScheme, [](char a, char b) {
                        return (a >= 'A' && a <= 'Z' ? a - 'A' + 'a' : a) == b;
                      });
  if (!bearer) return false;
  key.remove_prefix(kScheme.size());
  bool found = false;
  for (const std::string& allowed : api_keys_) found |= equal_in_constant_time(key, allowed);
  return found;
}

std::variant<HttpReply, Service::Job> Service::handle(const HttpRequest& request) {
  try {
    if (request.method == "OPTIONS") return HttpReply{200, "text/plain", "OK", {}};  // the server adds the CORS headers
    if (!authorized(request)) return error_reply({401, "this server asks for its key: send \"Authorization: Bearer KEY\"", ""});
    const std::string_view method = request.method == "HEAD" ? "GET" : request.method;
    std::string allowed;
    for (const Route& route : routes()) {
      if (route.path != request.path) continue;
      if (route.method == method) return (this->*route.handler)(request);
      allowed += (allowed.empty() ? "" : ", ") + std::string(route.method);
    }
    if (request.path.starts_with(kOneModel) && method == "GET") return one_model(request);
    if (allowed.empty()) return error_reply({404, concat("no such path: ", request.method, " ", request.path.substr(0, 200)), ""});
    HttpReply reply = error_reply({405, concat(request.method, " is not allowed for ", request.path, ", only ", allowed), ""});
    reply.headers.emplace_back("Allow", allowed);
    return reply;
  } catch (const Error& error) {
    return error_reply(to_api_error(error));
  } catch (const std::exception& error) {  // bad_alloc and the like end one request, not the server
    log_error(request.method, " ", request.path, ": ", error.what());
    return error_reply({500, concat("internal error: ", error.what()), ""});
  }
}

Service::Answer Service::job(std::unique_ptr<Generation> generation, std::shared_ptr<const Loaded> loaded) {
  const auto count = static_cast<uint64_t>(generation->num_choices());
  return Job{std::move(generation), std::move(loaded), next_id_.fetch_add(count)};
}

Service::Answer Service::completions(const HttpRequest& request) {
  auto loaded = require_loaded();
  const auto parsed = read_completion_request(request.body, loaded->model, options_);
  auto generation = std::make_unique<Generation>(parsed, loaded->model, options_, AnswerId{request.request_id, unix_seconds()});
  return job(std::move(generation), std::move(loaded));
}

Service::Answer Service::chat_completions(const HttpRequest& request) {
  auto loaded = require_loaded();
  const auto parsed = read_chat_request(request.body, loaded->model, options_);
  auto generation = std::make_unique<Generation>(parsed, loaded->model, options_, AnswerId{request.request_id, unix_seconds()});
  return job(std::move(generation), std::move(loaded));
}

Service::Answer Service::models(const HttpRequest&) { return json_reply(models_json(require_loaded()->model, options_, created_)); }

Service::Answer Service::one_model(const HttpRequest& request) {
  const auto loaded = require_loaded();
  return json_reply(model_json(decode_percent(request.path.substr(kOneModel.size())), loaded->model, options_, created_));
}

Service::Answer Service::tokenize_text(const HttpRequest& request) {
  return json_reply(tokenize(request.body, require_loaded()->model, options_));
}

Service::Answer Service::detokenize_tokens(const HttpRequest& request) {
  return json_reply(detokenize(request.body, require_loaded()->model, options_));
}

Service::Answer Service::health(const HttpRequest&) {
  const auto loaded = require_loaded();
  if (const auto status = loaded->engine->status(); !status.failure.empty())
    fail(ErrorCode::kUnavailable, "the engine failed: ", status.failure);
  return HttpReply{200, "text/plain", "", {}};
}

Service::Answer Service::ping(const HttpRequest& request) { return health(request); }

Service::Answer Service::version(const HttpRequest&) { return json_reply({{"version", options_.version}}); }

Service::Answer Service::load(const HttpRequest&) { return json_reply({{"server_load", num_live_.load()}}); }

Service::Answer Service::reset_prefix_cache(const HttpRequest&) {
  require_loaded()->engine->reset_prefix_cache();
  return HttpReply{200, "text/plain", "", {}};
}

Service::Answer Service::start_profile(const HttpRequest&) {
  const auto loaded = require_loaded();
  if (!loaded->profile.start) fail(ErrorCode::kNotFound, kNoProfile);
  loaded->profile.start();
  return HttpReply{200, "text/plain", "", {}};
}

Service::Answer Service::stop_profile(const HttpRequest&) {
  const auto loaded = require_loaded();
  if (!loaded->profile.stop) fail(ErrorCode::kNotFound, kNoProfile);
  return HttpReply{200, "text/plain; charset=utf-8", loaded->profile.stop() + "\n", {}};
}

Service::Answer Service::metrics(const HttpRequest&) {
  const auto loaded = this->loaded();
  std::string text;
  if (loaded) text = loaded->metrics->render(options_.served_names.front(), loaded->engine->status());
  return HttpReply{200, "text/plain; version=0.0.4; charset=utf-8", std::move(text), {}};
}

Service::Answer Service::page(const HttpRequest&) {
  return HttpReply{200, "text/html; charset=utf-8", std::string(web_page()), {{"Cache-Control", "no-cache"}}};
}

}  // namespace weir
