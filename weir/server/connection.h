// One client connection: reads requests, asks the Service, writes answers, aborts the generation when the client goes away.
// Included by http_server.cpp only, which with connection.cpp keeps Boost.Beast out of everything else.
#pragma once

#include <atomic>
#include <boost/asio.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "weir/server/http_server.h"
#include "weir/server/live_generation.h"
#include "weir/server/service.h"

namespace weir {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using ErrorCodeOf = boost::system::error_code;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);  // co_await gives (error_code, …) and does not throw

// What all connections share. Outlives them.
struct ConnectionShared {
  const ServerOptions& options;
  Service& service;
  std::atomic<int64_t> buffered_bytes{0};  // of bodies that are not answered yet
  std::atomic<bool> draining{false};
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  // The socket's executor is a strand; everything below runs on it.
  Connection(ConnectionShared& shared, tcp::socket socket);

  asio::awaitable<void> run();  // until either side closes

  // Called by the server, on the strand.
  void drain();  // closes if no request has begun; else the one in progress is the last
  void abort();  // ends the generation in progress
  void close();

  asio::any_io_executor executor() { return socket_.get_executor(); }

 private:
  // The head of the request being answered.
  struct Head {
    std::string method, target, origin, wanted_headers, request_id;
    unsigned version = 11;
    bool keep_alive = false;
  };
  using Parser = http::request_parser<http::string_body>;

  asio::awaitable<bool> wait_for_request();
  asio::awaitable<bool> read_request(Parser& parser);  // false: answered with an error, or the peer is gone
  asio::awaitable<bool> read_body(Parser& parser);
  asio::awaitable<void> refuse(HttpReply reply);  // answers and closes, whatever is still arriving
  asio::awaitable<void> answer(HttpReply reply);
  asio::awaitable<void> generate(Service::Job job);
  asio::awaitable<void> answer_when_finished(LiveGeneration& live);
  asio::awaitable<void> stream(LiveGeneration& live);
  asio::awaitable<void> write(std::string_view text);  // sets gone_ when it fails
  asio::awaitable<void> wait_for_news();
  asio::awaitable<void> watch();  // reads while a generation runs, to notice that the peer went away
  asio::awaitable<void> stop_watching();

  HttpReply too_large(const std::string& seen) const;
  void arm(std::chrono::milliseconds timeout);  // cancels what the socket waits for when the time is over
  void disarm();
  void wake();
  std::string head_text(int status, const std::vector<std::pair<std::string, std::string>>& headers);
  void log_access(int status) const;

  ConnectionShared& shared_;
  tcp::socket socket_;
  std::string peer_;
  boost::beast::flat_buffer buffer_;
  Head head_;
  asio::steady_timer deadline_;
  uint64_t deadline_id_ = 0;  // a timer that fired for an earlier wait is ignored
  bool timed_out_ = false;
  asio::steady_timer news_timer_;  // never expires: cancelled to wake the coroutine
  bool news_ = false;
  bool gone_ = false;  // the peer closed or broke
  bool watching_ = false, stop_watching_ = false;
  bool idle_ = true;                // between requests
  LiveGeneration* live_ = nullptr;  // while one is in progress
};

}  // namespace weir
