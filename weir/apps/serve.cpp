// `weir serve`: listen, load, serve until a signal.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <optional>
#include <thread>

#include "weir/apps/commands.h"
#include "weir/apps/compat_flags.h"
#include "weir/apps/environment.h"
#include "weir/apps/serve_flags.h"
#include "weir/apps/version.h"
#include "weir/base/log.h"
#include "weir/base/thread_pool.h"

namespace weir {
namespace {

// Waits for SIGINT and SIGTERM on a thread of its own, because loading a model blocks the main thread for minutes and must still be
// stoppable. Construct it before any other thread, so that all of them inherit the blocked signals.
class SignalWatch {
 public:
  SignalWatch() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    thread_ = std::thread([this] { watch(); });
  }
  ~SignalWatch() {
    done_ = true;
    pthread_kill(thread_.native_handle(), SIGTERM);  // NOLINT(bugprone-bad-signal-to-kill-thread): it waits for that signal
    thread_.join();
  }
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  // From now on the first signal drains this server, which must stay until the watch is gone. Before, it ends the program.
  void drain_on_signal(HttpServer& server) { server_ = &server; }

 private:
  void watch() {
    for (bool draining = false;;) {
      int signal = 0;
      if (sigwait(&signals_, &signal) != 0) continue;
      if (done_) return;
      HttpServer* server = server_;
      const char* name = signal == SIGINT ? "SIGINT" : "SIGTERM";
      if (server == nullptr || draining) {
        log_info(name, server == nullptr ? " while loading: stopped" : " again: stopped without waiting for requests in flight");
        ::_exit(128 + signal);
      }
      draining = true;
      log_info(name, ": no new requests; those in flight may finish (again to stop at once)");
      server->shutdown();
    }
  }

  sigset_t signals_{};
  std::atomic<bool> done_{false};
  std::atomic<HttpServer*> server_{nullptr};
  std::thread thread_;
};

// The address to type into a browser or curl on this machine.
std::string base_url(const std::string& host, uint16_t port) {
  const bool any = host.empty() || host == "0.0.0.0" || host == "::";
  const std::string shown = any ? "127.0.0.1" : host.find(':') != std::string::npos ? "[" + host + "]" : host;
  return concat("http://", shown, ":", port);
}

std::string shell_quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string curl_line(const std::string& url, const ServeOptions& options, bool chat) {
  Json body = Json::object();
  body["model"] = options.server.api.served_names[0];
  if (chat)
    body["messages"] = Json::array({Json{{"role", "user"}, {"content", "What is 7 + 5?"}}});
  else
    body["prompt"] = "The future of AI is", body["max_tokens"] = 50, body["temperature"] = 0;
  return concat("curl ", url, chat ? "/v1/chat/completions" : "/v1/completions", " -H 'Content-Type: application/json'",
                options.server.api_keys.empty() ? "" : " -H \"Authorization: Bearer $KEY\"", " -d ", shell_quoted(dump_json(body)));
}

ProfileSwitch profile_switch(Profiling& profiling) {
  if (!profiling.options().offered) return {};
  return {.start = [&] { profiling.start(); },
          .stop =
              [&] {
                const std::string table = profiling.stop();
                log_info(table);
                return table;
              }};
}

}  // namespace

int run_serve(std::span<const std::string> args) {
  const auto begin = std::chrono::steady_clock::now();
  const auto flags = parse_or_help(serve_command(), args);
  if (!flags) return 0;
  const EnvironmentReview environment = review_environment(process_environment(), num_physical_cores());
  set_log_level(serve_log_level(*flags, environment));
  apply_compat_flags(*flags);
  const ServeOptions options = serve_options(*flags, environment);

  log_info("weir ", kVersion, ", model ", options.engine.model, flags->given_text().empty() ? "" : ", flags: " + flags->given_text());
  for (const auto& remark : environment.remarks)
    if (log_enabled(remark.level)) write_log(remark.level, remark.text);

  Profiling profiling(options.profiling);
  std::optional<LocalEngine> local;  // outlives the server, which hands requests to it
  HttpServer server(options.server);
  const std::string url = base_url(options.server.host, server.port());
  {
    SignalWatch signals;
    server.start();
    log_info("Listening on ", url, flags->given("host") ? "" : " (this machine only; --host 0.0.0.0 opens it to the network)",
             "; /health answers 503 until the model is loaded");
    local = start_local_engine(options.engine, &profiling.profiler());
    if (options.profiling.from_start) profiling.start();
    server.set_ready(local->model, *local->engine, profile_switch(profiling));
    signals.drain_on_signal(server);

    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    log_info("Application startup complete.");
    log_info("weir running on ", url, " (Press CTRL+C to quit)");
    log_info("Chat page:  ", url, "/");
    log_info("Try:  ", curl_line(url, options, local->model.chat_template != nullptr));
    log_info("Ready after ", std::round(took.count() * 10) / 10, " s");
    server.wait();
  }
  if (profiling.recording()) log_info(profiling.stop());
  log_info("Stopped.");
  return 0;
}

}  // namespace weir
