#include "weir/apps/bench_client.h"

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <boost/asio.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <deque>
#include <limits>
#include <memory>

#include "weir/base/error.h"
#include "weir/base/json.h"
#include "weir/server/http_url.h"

namespace weir {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using SystemError = boost::system::error_code;
using Clock = std::chrono::steady_clock;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);  // co_await gives (error_code, …) and does not throw
constexpr size_t kMaxErrorBytes = 64 << 10;                   // of an error's body; the rest is not read

// One connection for each request in flight.
void raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);  // failing means: as before
}

void check_header(const std::string& name, const std::string& value) {
  const auto is_token = [](unsigned char c) { return c > 0x20 && c < 0x7f && c != ':'; };
  const auto is_text = [](unsigned char c) { return c >= 0x20 && c != 0x7f; };
  if (name.empty() || !std::all_of(name.begin(), name.end(), is_token) || !std::all_of(value.begin(), value.end(), is_text))
    fail(ErrorCode::kInvalidArgument, "header \"", name, "\": the name must be one word, and neither may hold control characters");
}

// What a server says in an error's body: OpenAI's {"error": {"message": …}}, else the text.
std::string error_text(const std::string& body) {
  try {
    const Json json = parse_json(body, "error");
    if (json.is_object() && json.contains("error") && json["error"].is_object() && json["error"].contains("message") &&
        json["error"]["message"].is_string())
      return json["error"]["message"].get<std::string>();
  } catch (const Error&) {
    // Any text will do.
  }
  return body.substr(0, 500);
}

class Load {
 public:
  Load(const LoadTarget& target, std::span<const LoadRequest> requests, std::optional<int64_t> max_concurrency,
       const std::function<void()>& on_done)
      : target_(target), url_(parse_http_url(target.url)), requests_(requests), on_done_(on_done) {
    if (max_concurrency) max_in_flight_ = static_cast<size_t>(*max_concurrency);
    std::string head = concat("POST ", url_.base, target.path, " HTTP/1.1\r\nHost: ", url_.authority(),
                              "\r\nUser-Agent: weir-bench\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\n");
    for (const auto& [name, value] : target.headers) {
      check_header(name, value);
      head += name + ": " + value + "\r\n";
    }
    check_header("X-Request-Id", target.request_id_prefix);
    head_ = std::move(head);
    SystemError error;
    const auto found = tcp::resolver(io_).resolve(url_.host, url_.port, error);
    if (error) fail(ErrorCode::kUnavailable, "cannot resolve ", url_.host, ": ", error.message());
    for (const auto& entry : found) addresses_.push_back(entry.endpoint());
    out_.answers.resize(requests.size());
  }

  LoadResult run() {
    begin_ = Clock::now();
    asio::co_spawn(io_, arrive(), [](const std::exception_ptr& error) {
      if (error) std::rethrow_exception(error);
    });
    io_.run();
    out_.duration_s = now();
    return std::move(out_);
  }

 private:
  // A connection, and what was read from it beyond the last answer.
  struct Connection {
    explicit Connection(asio::io_context& io) : stream(io) {}
    beast::tcp_stream stream;
    beast::flat_buffer buffer;
  };
  using ConnectionPtr = std::unique_ptr<Connection>;
  using Parser = http::response_parser<http::buffer_body>;

  struct Arrived {
    size_t request;
    double at_s;
  };

  double now() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

  asio::awaitable<void> arrive() {
    asio::steady_timer timer(io_);
    for (size_t i = 0; i < requests_.size(); ++i) {
      const auto at = begin_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(requests_[i].at_s));
      if (at > Clock::now()) {
        timer.expires_at(at);
        co_await timer.async_wait(kAwait);
      }
      waiting_.push_back({i, now()});
      start_waiting();
    }
  }

  void start_waiting() {
    while (!waiting_.empty() && in_flight_ < max_in_flight_) {
      const Arrived next = waiting_.front();
      waiting_.pop_front();
      ++in_flight_;
      asio::co_spawn(io_, measure(next), [this](const std::exception_ptr& error) {
        if (error) std::rethrow_exception(error);
        --in_flight_;
        on_done_();
        start_waiting();
      });
    }
  }

  asio::awaitable<void> measure(Arrived arrived) {
    const double start = now();
    AnswerReader reader(target_.api, start);
    std::string failure;
    try {
      co_await ask(arrived.request, reader);
    } catch (const Error& error) {
      failure = error.what();
    }
    BenchAnswer& answer = out_.answers[arrived.request];
    answer = reader.finish();
    answer.queue_s = start - arrived.at_s;
    if (!failure.empty()) answer.error = failure;
  }

  // Throws Error when there was no complete answer.
  asio::awaitable<void> ask(size_t request, AnswerReader& reader) {
    const std::string& body = requests_[request].body;
    std::string head = concat(head_, "Content-Length: ", body.size(), "\r\n");
    if (!target_.request_id_prefix.empty()) head += concat("X-Request-Id: ", target_.request_id_prefix, request, "\r\n");
    head += "\r\n";
    ConnectionPtr connection;
    std::unique_ptr<Parser> parser;
    for (;;) {
      const bool kept = !idle_.empty();
      if (kept) {
        connection = std::move(idle_.back());
        idle_.pop_back();
      } else {
        connection = co_await connect();
      }
      parser = std::make_unique<Parser>();
      parser->body_limit(boost::none);
      const SystemError error = co_await exchange_heads(*connection, head, body, *parser);
      if (!error) break;
      // A kept connection may have been closed in the meantime; that is nobody's failure. A new one ends this loop either way.
      if (!kept || parser->got_some()) fail(ErrorCode::kUnavailable, "no answer: ", error.message());
    }

    const int status = static_cast<int>(parser->get().result_int());
    const bool ok = status >= 200 && status < 300;
    std::string error_body;
    std::array<char, 8192> chunk;
    bool wanted = true;
    // After [DONE] the rest, the end of the last chunk, is read so that the connection can be used again.
    while (wanted && !parser->is_done()) {
      auto& piece = parser->get().body();
      piece.data = chunk.data();
      piece.size = chunk.size();
      piece.more = true;
      connection->stream.expires_after(target_.idle_timeout);
      const auto [error, count] = co_await http::async_read_some(connection->stream, connection->buffer, *parser, kAwait);
      if (error && error != http::error::need_buffer) fail(ErrorCode::kUnavailable, "the answer broke off: ", error.message());
      const std::string_view text(chunk.data(), chunk.size() - parser->get().body().size);
      if (ok) {
        reader.feed(text, now());
        wanted = !reader.broken();
      } else {
        error_body += text;
        wanted = error_body.size() < kMaxErrorBytes;
      }
    }
    if (parser->is_done() && parser->keep_alive()) idle_.push_back(std::move(connection));
    if (!ok) fail(ErrorCode::kUnavailable, "HTTP ", status, ": ", error_text(error_body));
  }

  asio::awaitable<ConnectionPtr> connect() {
    auto connection = std::make_unique<Connection>(io_);
    connection->stream.expires_after(target_.connect_timeout);
    const auto [error, address] = co_await connection->stream.async_connect(addresses_, kAwait);
    if (error) fail(ErrorCode::kUnavailable, "cannot connect to ", url_.authority(), ": ", error.message());
    SystemError ignored;
    connection->stream.socket().set_option(tcp::no_delay(true), ignored);
    co_return connection;
  }

  // A server may refuse and close before it read everything: its answer counts.
  asio::awaitable<SystemError> exchange_heads(Connection& connection, const std::string& head, const std::string& body, Parser& parser) {
    const std::array<asio::const_buffer, 2> parts = {asio::buffer(head), asio::buffer(body)};
    connection.stream.expires_after(target_.idle_timeout);
    const auto [write_error, written] = co_await asio::async_write(connection.stream, parts, kAwait);
    if (write_error == beast::error::timeout) co_return write_error;
    const auto [error, count] = co_await http::async_read_header(connection.stream, connection.buffer, parser, kAwait);
    co_return error;
  }

  const LoadTarget& target_;
  const HttpUrl url_;
  std::span<const LoadRequest> requests_;
  const std::function<void()>& on_done_;
  size_t max_in_flight_ = std::numeric_limits<size_t>::max();
  std::string head_;
  asio::io_context io_{1};
  std::vector<tcp::endpoint> addresses_;
  std::vector<ConnectionPtr> idle_;  // the one used last is used first
  std::deque<Arrived> waiting_;
  size_t in_flight_ = 0;
  Clock::time_point begin_{};
  LoadResult out_;
};

}  // namespace

LoadResult run_load(const LoadTarget& target, std::span<const LoadRequest> requests, std::optional<int64_t> max_concurrency,
                    const std::function<void()>& on_done) {
  raise_file_limit();
  return Load(target, requests, max_concurrency, on_done).run();
}

}  // namespace weir
