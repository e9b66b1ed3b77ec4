#include "weir/server/connection.h"

#include <algorithm>
#include <utility>

#include "weir/base/log.h"

namespace weir {
namespace {

constexpr size_t kReadBytes = 16 << 10;
constexpr size_t kBufferBytes = 64 << 10;   // header, and what a client sends ahead of the answer
constexpr int64_t kLingerBytes = 64 << 20;  // read and thrown away after a refusal, so that the client gets to see it
constexpr std::chrono::milliseconds kLingerTime{2'000};

bool is_protocol_error(const ErrorCodeOf& error) { return error.category() == http::make_error_code(http::error::bad_method).category(); }

class Counted {
 public:
  explicit Counted(std::atomic<int32_t>& count) : count_(count) { ++count_; }
  ~Counted() { --count_; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  std::atomic<int32_t>& count_;
};

}  // namespace

Connection::Connection(ConnectionShared& shared, tcp::socket socket)
    : shared_(shared),
      socket_(std::move(socket)),
      buffer_(kBufferBytes),
      deadline_(socket_.get_executor()),
      news_timer_(socket_.get_executor()) {
  ErrorCodeOf ignored;
  const auto peer = socket_.remote_endpoint(ignored);
  peer_ = peer.address().is_v6() ? concat("[", peer.address().to_string(), "]:", peer.port())
                                 : concat(peer.address().to_string(), ":", peer.port());
  socket_.set_option(tcp::no_delay(true), ignored);
}

void Connection::arm(std::chrono::milliseconds timeout) {
  timed_out_ = false;
  deadline_.expires_after(timeout);
  deadline_.async_wait([self = shared_from_this(), id = ++deadline_id_](const ErrorCodeOf& error) {
    if (error || id != self->deadline_id_) return;
    self->timed_out_ = true;
    ErrorCodeOf ignored;
    self->socket_.cancel(ignored);
  });
}

void Connection::disarm() {
  ++deadline_id_;
  deadline_.cancel();
}

void Connection::drain() {
  ErrorCodeOf ignored;
  if (idle_) socket_.cancel(ignored);
}

void Connection::abort() {
  if (live_) live_->abort();
}

void Connection::close() {
  ErrorCodeOf ignored;
  socket_.close(ignored);
  gone_ = true;
  wake();
}

void Connection::wake() {
  news_ = true;
  news_timer_.cancel();
}

asio::awaitable<void> Connection::run() {
  while (!gone_) {
    if (!co_await wait_for_request()) break;
    Parser parser;
    if (!co_await read_request(parser)) break;
    const auto& request = parser.get();
    const std::string_view target = head_.target;
    HttpRequest asked;
    asked.method = head_.method;
    asked.path = target.substr(0, target.find('?'));
    asked.body = request.body();
    asked.authorization = std::string_view(request[http::field::authorization]);
    asked.request_id = head_.request_id;
    auto answer_or_job = shared_.service.handle(asked);
    shared_.buffered_bytes -= static_cast<int64_t>(request.body().size());
    parser.get().body() = std::string();  // an image may be tens of MB; the generation has what it needs
    if (auto* reply = std::get_if<HttpReply>(&answer_or_job)) {
      co_await answer(std::move(*reply));
    } else {
      co_await generate(std::get<Service::Job>(std::move(answer_or_job)));
    }
    if (!head_.keep_alive) break;
  }
  ErrorCodeOf ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  socket_.close(ignored);
}

asio::awaitable<bool> Connection::wait_for_request() {
  if (buffer_.size() > 0) co_return true;
  if (shared_.draining) co_return false;
  idle_ = true;
  arm(shared_.options.limits.idle_timeout);
  auto [error, count] = co_await socket_.async_read_some(buffer_.prepare(kReadBytes), kAwait);
  disarm();
  idle_ = false;
  buffer_.commit(count);
  co_return !error;
}

HttpReply Connection::too_large(const std::string& seen) const {
  return error_reply(
      {413, concat("the request body has ", seen, ", at most ", shared_.options.limits.max_body_bytes, " are read (--max-body-bytes)"),
       ""});
}

asio::awaitable<bool> Connection::read_request(Parser& parser) {
  idle_ = false;
  const ServerLimits& limits = shared_.options.limits;
  head_ = Head{};
  head_.request_id = request_id_from("");
  parser.header_limit(static_cast<uint32_t>(limits.max_header_bytes));
  parser.body_limit(static_cast<uint64_t>(limits.max_body_bytes));
  arm(limits.header_timeout);
  auto [error, count] = co_await http::async_read_header(socket_, buffer_, parser, kAwait);
  disarm();
  const auto& request = parser.get();
  if (parser.is_header_done() || error == http::error::body_limit) {
    head_.method = std::string(request.method_string());
    head_.target = std::string(request.target());
    head_.version = request.version();
    head_.keep_alive = request.keep_alive() && request.version() == 11;
    head_.origin = std::string(request[http::field::origin]);
    head_.wanted_headers = std::string(request[http::field::access_control_request_headers]);
    head_.request_id = request_id_from(std::string_view(request["X-Request-Id"]));
  }
  std::optional<HttpReply> refusal;
  if (timed_out_) {
    refusal = error_reply({408, concat("the request header did not arrive within ", limits.header_timeout.count(), " ms"), ""});
  } else if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    refusal = error_reply({431, concat("the request header has more than ", limits.max_header_bytes, " bytes"), ""});
  } else if (error == http::error::body_limit) {
    refusal = too_large(concat(std::string_view(request[http::field::content_length]), " bytes"));
  } else if (error && is_protocol_error(error) && error != http::error::end_of_stream && error != http::error::partial_message) {
    refusal = error_reply({400, concat("not an HTTP/1.1 request: ", error.message()), ""});
  }
  if (refusal) co_await refuse(std::move(*refusal));
  if (error) co_return false;
  co_return co_await read_body(parser);
}

asio::awaitable<bool> Connection::read_body(Parser& parser) {
  const ServerLimits& limits = shared_.options.limits;
  if (!parser.is_done() && boost::beast::iequals(parser.get()[http::field::expect], "100-continue"))
    co_await write("HTTP/1.1 100 Continue\r\n\r\n");
  const auto end = std::chrono::steady_clock::now() + limits.body_timeout;
  int64_t counted = 0;
  std::optional<HttpReply> refusal;
  bool lost = gone_;
  while (!parser.is_done() && !refusal && !lost) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    arm(std::max(left, std::chrono::milliseconds(0)));
    auto [error, count] = co_await http::async_read_some(socket_, buffer_, parser, kAwait);
    disarm();
    const auto arrived = static_cast<int64_t>(parser.get().body().size());
    const int64_t buffered = shared_.buffered_bytes += arrived - counted;
    counted = arrived;
    if (timed_out_) {
      refusal = error_reply(
          {408, concat("the request body did not arrive within ", limits.body_timeout.count(), " ms, got ", arrived, " bytes of it"), ""});
    } else if (error == http::error::body_limit) {
      refusal = too_large(concat("more than ", arrived, " bytes"));
    } else if (error && is_protocol_error(error) && error != http::error::partial_message) {
      refusal = error_reply({400, concat("not an HTTP/1.1 request: ", error.message()), ""});
    } else if (error) {
      lost = true;
    } else if (!parser.is_done() && buffered > limits.max_buffered_bytes) {
      refusal = error_reply({503, "too many large requests are arriving at once, try again", ""});
    }
  }
  if (!refusal && !lost) co_return true;  // run() takes the body off the account
  shared_.buffered_bytes -= counted;
  if (refusal) co_await refuse(std::move(*refusal));
  co_return false;
}

asio::awaitable<void> Connection::refuse(HttpReply reply) {
  head_.keep_alive = false;
  co_await answer(std::move(reply));
  // Closing with bytes unread would reset the connection and the client would never see why.
  ErrorCodeOf failed;
  socket_.shutdown(tcp::socket::shutdown_send, failed);
  std::vector<char> scratch(kReadBytes);
  int64_t left = kLingerBytes;
  arm(kLingerTime);
  while (!failed && left > 0) {
    auto [error, count] = co_await socket_.async_read_some(asio::buffer(scratch), kAwait);
    failed = error;
    left -= static_cast<int64_t>(count);
  }
  disarm();
}

std::string Connection::head_text(int status, const std::vector<std::pair<std::string, std::string>>& headers) {
  head_.keep_alive &= !shared_.draining;
  std::string out = concat("HTTP/1.1 ", status, " ", std::string_view(http::obsolete_reason(static_cast<http::status>(status))), "\r\n");
  const auto add = [&](std::string_view name, std::string_view value) { out += concat(name, ": ", value, "\r\n"); };
  add("Server", "weir");
  add("X-Request-Id", head_.request_id);
  if (!head_.origin.empty()) {  // CORS is for browsers, and they send Origin
    const auto& allowed = shared_.options.allowed_origins;
    const bool any = std::ranges::find(allowed, "*") != allowed.end();
    if (any || std::ranges::find(allowed, head_.origin) != allowed.end()) {
      add("Access-Control-Allow-Origin", any ? "*" : head_.origin);
      add("Access-Control-Expose-Headers", "X-Request-Id");
      if (head_.method == "OPTIONS") {
        add("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
        if (!head_.wanted_headers.empty()) add("Access-Control-Allow-Headers", head_.wanted_headers);
        add("Access-Control-Max-Age", "600");
      }
    }
    if (!any) add("Vary", "Origin");
  }
  for (const auto& [name, value] : headers) add(name, value);
  if (!head_.keep_alive) add("Connection", "close");
  return out + "\r\n";
}

void Connection::log_access(int status) const {
  if (!shared_.options.access_log) return;
  std::string line =
      concat(peer_, " - \"", head_.method, " ", head_.target.substr(0, 256), " HTTP/", head_.version / 10, ".", head_.version % 10, "\" ",
             status, " ", std::string_view(http::obsolete_reason(static_cast<http::status>(status))));
  // A target may hold any byte above 0x20; a terminal must not obey it.
  std::ranges::replace_if(line, [](char c) { return c < ' ' || c == 0x7f; }, '?');
  log_info(line);
}

asio::awaitable<void> Connection::answer(HttpReply reply) {
  log_access(reply.status);
  reply.headers.emplace_back("Content-Type", reply.content_type);
  reply.headers.emplace_back("Content-Length", std::to_string(reply.body.size()));
  std::string text = head_text(reply.status, reply.headers);
  if (head_.method != "HEAD") text += reply.body;
  co_await write(text);
}

asio::awaitable<void> Connection::write(std::string_view text) {
  while (!text.empty() && !gone_) {
    arm(shared_.options.limits.write_timeout);
    auto [error, count] = co_await socket_.async_write_some(asio::buffer(text.data(), text.size()), kAwait);
    disarm();
    text.remove_prefix(count);
    if (error) gone_ = true;
  }
}

asio::awaitable<void> Connection::wait_for_news() {
  while (!news_ && !gone_) {
    news_timer_.expires_at(asio::steady_timer::time_point::max());
    co_await news_timer_.async_wait(kAwait);
  }
  news_ = false;
}

asio::awaitable<void> Connection::watch() {
  while (!stop_watching_ && buffer_.size() < kBufferBytes - kReadBytes) {
    auto [error, count] = co_await socket_.async_read_some(buffer_.prepare(kReadBytes), kAwait);
    buffer_.commit(count);
    if (!error) continue;
    if (!stop_watching_) gone_ = true;
    break;
  }
  watching_ = false;
  wake();
}

asio::awaitable<void> Connection::stop_watching() {
  stop_watching_ = true;
  ErrorCodeOf ignored;
  socket_.cancel(ignored);
  while (watching_) {
    news_timer_.expires_at(asio::steady_timer::time_point::max());
    co_await news_timer_.async_wait(kAwait);
  }
}

asio::awaitable<void> Connection::generate(Service::Job job) {
  const Counted counted(shared_.service.num_live());
  std::optional<LiveGeneration> live;
  std::optional<HttpReply> refusal;
  try {
    // The engine thread only posts; the coroutine runs on an HTTP thread.
    auto wake_up = [self = shared_from_this()] { asio::post(self->socket_.get_executor(), [self] { self->wake(); }); };
    live.emplace(std::move(job.generation), *job.loaded->engine, job.loaded->metrics, job.first_id, std::move(wake_up));
  } catch (const Error& error) {
    refusal = error_reply(to_api_error(error));
  }
  if (refusal) {
    co_await answer(std::move(*refusal));
    co_return;
  }
  live_ = &*live;
  watching_ = true, stop_watching_ = false;
  asio::co_spawn(socket_.get_executor(), [self = shared_from_this()] { return self->watch(); }, asio::detached);
  if (live->generation().stream())
    co_await stream(*live);
  else
    co_await answer_when_finished(*live);
  live_ = nullptr;
  live.reset();  // aborts what is left
  co_await stop_watching();
}

asio::awaitable<void> Connection::answer_when_finished(LiveGeneration& live) {
  Generation& generation = live.generation();
  for (;;) {
    live.collect();
    if (gone_ || generation.finished()) break;
    co_await wait_for_news();
  }
  if (gone_) co_return;
  // A named reply: GCC 12 destroys an aggregate that is built inside a co_await expression twice.
  HttpReply reply{200, "application/json", {}, {}};
  if (const auto failure = generation.failure())
    reply = error_reply({500, *failure, ""});
  else
    reply.body = dump_json(generation.take_response());
  co_await answer(std::move(reply));
}

asio::awaitable<void> Connection::stream(LiveGeneration& live) {
  Generation& generation = live.generation();
  const bool chunked = head_.version == 11;  // HTTP/1.0 knows no chunks: there the end of the connection ends the answer
  log_access(200);
  std::vector<std::pair<std::string, std::string>> headers = {
      {"Content-Type", "text/event-stream; charset=utf-8"}, {"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
  if (chunked) headers.emplace_back("Transfer-Encoding", "chunked");
  const std::string head = head_text(200, headers);
  co_await write(head);
  while (!gone_) {
    // While a write is under way, outputs gather here: a slow reader gets fewer, larger chunks.
    live.collect();
    std::string events;
    for (const std::string& chunk : generation.take_chunks()) events += concat("data: ", chunk, "\n\n");
    const bool finished = generation.finished();
    if (finished) events += "data: [DONE]\n\n";
    if (!events.empty() && chunked) {
      char size[20];
      std::snprintf(size, sizeof size, "%zx\r\n", events.size());
      events = concat(size, events, "\r\n", finished ? "0\r\n\r\n" : "");
    }
    if (!events.empty()) co_await write(events);
    if (finished) break;
    co_await wait_for_news();
  }
}

}  // namespace weir
