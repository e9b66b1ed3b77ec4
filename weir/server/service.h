// Routes and their answers, without sockets: what the HTTP server asks for every request whose body has arrived. Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "weir/api/api_options.h"
#include "weir/api/errors.h"
#include "weir/api/generation.h"
#include "weir/api/served_model.h"
#include "weir/core/engine_client.h"
#include "weir/server/metrics.h"
#include "weir/server/profile_switch.h"

namespace weir {

struct HttpRequest {              // borrowed from the connection
  std::string_view method, path;  // path: without the query
  std::string_view body;
  std::string_view authorization;
  std::string request_id;  // X-Request-Id of the client, or one of ours
};

struct HttpReply {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
};

HttpReply error_reply(const ApiError& error);  // with Retry-After where trying again helps

// The id a client gave, if it is short and printable, else a new uuid.
std::string request_id_from(std::string_view header);

class Service {
 public:
  struct Loaded {
    ServedModel model;
    EngineClient* engine;  // never null, not owned
    std::shared_ptr<Metrics> metrics;
    ProfileSwitch profile;
  };
  // A generation that has been checked and is to be submitted to the engine.
  struct Job {
    std::unique_ptr<Generation> generation;
    std::shared_ptr<const Loaded> loaded;
    uint64_t first_id;  // of num_choices() request ids that nobody else has
  };

  Service(ApiOptions options, std::vector<std::string> api_keys);

  void set_ready(ServedModel model, EngineClient& engine, ProfileSwitch profile = {});
  void set_draining() { draining_ = true; }  // from now on everything that needs the engine is answered 503

  // Never throws: what goes wrong is a reply.
  std::variant<HttpReply, Job> handle(const HttpRequest& request);

  std::atomic<int32_t>& num_live() { return num_live_; }  // generations in flight, kept by the server, told by /load

 private:
  using Answer = std::variant<HttpReply, Job>;
  struct Route {
    std::string_view method, path;
    Answer (Service::*handler)(const HttpRequest&);
  };
  static const std::vector<Route>& routes();

  bool authorized(const HttpRequest& request) const;
  std::shared_ptr<const Loaded> loaded() const;          // null before set_ready()
  std::shared_ptr<const Loaded> require_loaded() const;  // throws kUnavailable before set_ready() and when draining

  Answer completions(const HttpRequest& request);
  Answer chat_completions(const HttpRequest& request);
  Answer models(const HttpRequest& request);
  Answer one_model(const HttpRequest& request);
  Answer tokenize_text(const HttpRequest& request);
  Answer detokenize_tokens(const HttpRequest& request);
  Answer health(const HttpRequest& request);
  Answer ping(const HttpRequest& request);
  Answer version(const HttpRequest& request);
  Answer load(const HttpRequest& request);
  Answer reset_prefix_cache(const HttpRequest& request);
  Answer start_profile(const HttpRequest& request);
  Answer stop_profile(const HttpRequest& request);
  Answer metrics(const HttpRequest& request);
  Answer page(const HttpRequest& request);
  Answer job(std::unique_ptr<Generation> generation, std::shared_ptr<const Loaded> loaded);

  ApiOptions options_;
  std::vector<std::string> api_keys_;
  int64_t created_;
  std::atomic<bool> draining_{false};
  std::atomic<int32_t> num_live_{0};
  std::atomic<uint64_t> next_id_{1};
  mutable std::mutex mu_;
  std::shared_ptr<const Loaded> loaded_;  // guarded by mu_
};

}  // namespace weir
