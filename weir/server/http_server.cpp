#include "weir/server/http_server.h"

#include <sys/resource.h>

#include <algorithm>
#include <map>
#include <thread>

#include "weir/base/log.h"
#include "weir/server/connection.h"

namespace weir {
namespace {

constexpr int kFilesBesideConnections = 256;  // model files, epoll, stdio, refusals
constexpr int kMaxLingeringRefusals = 64;
constexpr std::chrono::milliseconds kRefusalTime{1'000};  // to let the client send its request before it is refused
constexpr std::chrono::milliseconds kAbortTime{5'000};    // for aborted requests to tell their clients, at shutdown
constexpr std::chrono::milliseconds kAcceptPause{50};     // after accept() failed, usually for want of file descriptors

// Every connection is a file. Raises the soft limit as far as it is allowed; returns how many connections it is good for.
int32_t allow_connections(int32_t wanted) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return wanted;
  const rlim_t files = static_cast<rlim_t>(wanted) + kFilesBesideConnections;
  if (limit.rlim_cur < files) {
    limit.rlim_cur = std::min(files, limit.rlim_max);
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
  }
  if (limit.rlim_cur >= files) return wanted;
  const auto possible = std::max<int64_t>(static_cast<int64_t>(limit.rlim_cur) - kFilesBesideConnections, 16);
  log_warning("--max-connections ", wanted, " needs ", files, " open files, ulimit -n allows ", limit.rlim_cur, ": ", possible,
              " are accepted");
  return static_cast<int32_t>(possible);
}

}  // namespace

struct HttpServer::Impl {
  explicit Impl(ServerOptions given)
      : options(std::move(given)),
        service(options.api, options.api_keys),
        shared{options, service},
        control(asio::make_strand(io)),
        drain_timer(control) {
    options.limits.max_connections = allow_connections(options.limits.max_connections);
    listen();
  }

  void listen();
  void start();
  asio::awaitable<void> accept(tcp::acceptor& acceptor);
  asio::awaitable<void> refuse(tcp::socket socket, bool linger);
  void start_connection(tcp::socket socket);
  void end_connection(Connection* connection);
  template <class Call>
  void for_each_connection(Call call);

  void begin_shutdown(std::chrono::milliseconds timeout);  // on control
  void abort_rest();                                       // on control
  void finish_when_empty();                                // on control

  ServerOptions options;
  Service service;
  ConnectionShared shared;
  asio::io_context io;
  asio::strand<asio::io_context::executor_type> control;  // acceptors, refusals and shutdown
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work{io.get_executor()};
  std::vector<tcp::acceptor> acceptors;
  asio::steady_timer drain_timer;
  uint16_t port = 0;
  int lingering_refusals = 0;  // control
  bool draining = false;       // control
  std::vector<std::thread> threads;
  std::atomic<bool> started{false};
  std::mutex mu;
  std::map<Connection*, std::weak_ptr<Connection>> connections;  // guarded by mu
};

void HttpServer::Impl::listen() {
  const std::string host = options.host.empty() ? "0.0.0.0" : options.host;
  const auto fail_listen = [&](const ErrorCodeOf& error) {
    fail(ErrorCode::kUnavailable, "cannot listen on ", host, ":", options.port, ": ", error.message(), " (--host, --port)");
  };
  ErrorCodeOf error;
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(host, std::to_string(options.port), tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error) fail_listen(error);
  port = options.port;
  // A name may mean several addresses ("localhost" is 127.0.0.1 and ::1): listen on all of them that this machine has.
  for (const auto& entry : found) {
    tcp::endpoint endpoint = entry.endpoint();
    endpoint.port(port);
    tcp::acceptor acceptor(control);
    acceptor.open(endpoint.protocol(), error);
    if (!error && endpoint.address().is_v6()) acceptor.set_option(asio::ip::v6_only(true), error);
    if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error == asio::error::address_in_use) fail_listen(error);
    if (error) continue;
    port = acceptor.local_endpoint().port();
    acceptors.push_back(std::move(acceptor));
  }
  if (acceptors.empty()) fail_listen(error);
}

void HttpServer::Impl::start() {
  for (tcp::acceptor& acceptor : acceptors) asio::co_spawn(control, accept(acceptor), asio::detached);
  for (int i = 0; i < std::max(options.threads, 1); ++i) threads.emplace_back([this] { io.run(); });
  started = true;
}

asio::awaitable<void> HttpServer::Impl::accept(tcp::acceptor& acceptor) {
  asio::steady_timer pause(control);
  while (!draining) {
    auto [error, accepted] = co_await acceptor.async_accept(asio::make_strand(io), kAwait);
    if (draining) break;
    if (error) {
      pause.expires_after(kAcceptPause);
      co_await pause.async_wait(kAwait);
      continue;
    }
    tcp::socket socket = std::move(accepted);
    bool full = false;
    {
      const std::lock_guard lock(mu);
      full = connections.size() >= static_cast<size_t>(options.limits.max_connections);
    }
    if (!full) {
      start_connection(std::move(socket));
      continue;
    }
    const bool linger = lingering_refusals < kMaxLingeringRefusals;
    if (linger) ++lingering_refusals;
    asio::co_spawn(control, refuse(std::move(socket), linger), asio::detached);
  }
}

// One connection too many costs a short answer. A few of them at a time are waited for, because a client that is still sending when
// the connection closes may lose the answer.
asio::awaitable<void> HttpServer::Impl::refuse(tcp::socket socket, bool linger) {
  const HttpReply reply = error_reply(
      {503, concat("all ", options.limits.max_connections, " connections of this server are in use (--max-connections), try again"), ""});
  const std::string text =
      concat("HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n",
             "Content-Length: ", reply.body.size(), "\r\n\r\n", reply.body);
  ErrorCodeOf ignored;
  socket.non_blocking(true, ignored);
  std::vector<char> scratch(4096);
  if (linger) {
    auto open = std::make_shared<tcp::socket>(std::move(socket));
    asio::steady_timer timer(control, kRefusalTime);
    timer.async_wait([open](const ErrorCodeOf& error) {
      ErrorCodeOf not_told;
      if (!error) open->cancel(not_told);
    });
    co_await open->async_read_some(asio::buffer(scratch), kAwait);
    timer.cancel();
    open->write_some(asio::buffer(text), ignored);
    open->shutdown(tcp::socket::shutdown_send, ignored);
    --lingering_refusals;
    co_return;
  }
  socket.read_some(asio::buffer(scratch), ignored);
  socket.write_some(asio::buffer(text), ignored);  // fits an empty send buffer
  socket.shutdown(tcp::socket::shutdown_send, ignored);
}

void HttpServer::Impl::start_connection(tcp::socket socket) {
  auto connection = std::make_shared<Connection>(shared, std::move(socket));
  {
    const std::lock_guard lock(mu);
    connections.emplace(connection.get(), connection);
  }
  asio::co_spawn(connection->executor(), connection->run(), [this, connection](const std::exception_ptr& exception) {
    try {
      if (exception) std::rethrow_exception(exception);
    } catch (const std::exception& error) {
      log_error("connection: ", error.what());
    }
    connection->close();
    end_connection(connection.get());
  });
}

void HttpServer::Impl::end_connection(Connection* connection) {
  {
    const std::lock_guard lock(mu);
    connections.erase(connection);
  }
  if (shared.draining) asio::post(control, [this] { finish_when_empty(); });
}

template <class Call>
void HttpServer::Impl::for_each_connection(Call call) {
  const std::lock_guard lock(mu);
  for (const auto& [pointer, weak] : connections)
    if (auto connection = weak.lock()) asio::post(connection->executor(), [connection, call] { call(*connection); });
}

void HttpServer::Impl::begin_shutdown(std::chrono::milliseconds timeout) {
  if (!std::exchange(draining, true)) {
    shared.draining = true;
    service.set_draining();
    ErrorCodeOf ignored;
    for (tcp::acceptor& acceptor : acceptors) acceptor.close(ignored);
    for_each_connection([](Connection& connection) { connection.drain(); });
  }
  drain_timer.expires_after(timeout);
  drain_timer.async_wait([this](const ErrorCodeOf& error) {
    if (!error) abort_rest();
  });
  finish_when_empty();
}

void HttpServer::Impl::abort_rest() {
  if (!work) return;  // the timer fired just as the last connection ended
  for_each_connection([](Connection& connection) { connection.abort(); });
  drain_timer.expires_after(kAbortTime);
  drain_timer.async_wait([this](const ErrorCodeOf& error) {
    if (!error) for_each_connection([](Connection& connection) { connection.close(); });
  });
}

void HttpServer::Impl::finish_when_empty() {
  {
    const std::lock_guard lock(mu);
    if (!connections.empty()) return;
  }
  drain_timer.cancel();
  work.reset();  // the threads end when the last refusals are through
}

HttpServer::HttpServer(ServerOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}

HttpServer::~HttpServer() {
  if (!impl_->started) return;
  asio::post(impl_->control, [impl = impl_.get()] { impl->begin_shutdown(std::chrono::milliseconds(0)); });
  wait();
}

uint16_t HttpServer::port() const { return impl_->port; }

void HttpServer::start() { impl_->start(); }

void HttpServer::set_ready(ServedModel model, EngineClient& engine, ProfileSwitch profile) {
  impl_->service.set_ready(std::move(model), engine, std::move(profile));
}

void HttpServer::shutdown() {
  impl_->shared.draining = true;  // at once, for shutting_down(); the rest follows on the server's own thread
  asio::post(impl_->control, [impl = impl_.get()] {
    if (!impl->draining) impl->begin_shutdown(impl->options.shutdown_timeout);
  });
}

bool HttpServer::shutting_down() const { return impl_->shared.draining; }

void HttpServer::wait() {
  for (std::thread& thread : impl_->threads)
    if (thread.joinable()) thread.join();
}

}  // namespace weir
