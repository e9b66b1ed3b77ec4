#include "weir/server/http_client.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <optional>

#include "weir/base/error.h"
#include "weir/server/http_url.h"

namespace weir {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using SystemError = boost::system::error_code;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kMaxBodyBytes = uint64_t{1} << 30;  // of an answer

// A descriptor that is closed once.
class File {
 public:
  explicit File(int fd = -1) : fd_(fd) {}
  ~File() { reset(); }
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File& operator=(File&& other) noexcept {
    reset();
    fd_ = std::exchange(other.fd_, -1);
    return *this;
  }
  int get() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  void reset() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

}  // namespace

struct HttpClient::Impl {
  Impl(std::string_view url, std::string key, HttpTimeouts given)
      : address(parse_http_url(url)), api_key(std::move(key)), timeouts(given), cancelled(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (!cancelled.open()) fail(ErrorCode::kInternal, "eventfd: ", std::generic_category().message(errno));
  }

  // A SyncStream of Beast that polls, so that a time limit and cancel() can end any wait.
  template <class Buffers>
  size_t read_some(const Buffers& buffers, SystemError& error) {
    for (const asio::mutable_buffer part : boost::beast::buffers_range_ref(buffers)) {
      if (part.size() == 0) continue;
      for (;;) {
        const ssize_t count = ::recv(socket.get(), part.data(), part.size(), 0);
        if (count > 0) return error = {}, static_cast<size_t>(count);
        if (count == 0) return error = asio::error::eof, 0;
        if (!wait_after_error(POLLIN, error)) return 0;
      }
    }
    return error = {}, 0;
  }
  template <class Buffers>
  size_t write_some(const Buffers& buffers, SystemError& error) {
    for (const asio::const_buffer part : boost::beast::buffers_range_ref(buffers)) {
      if (part.size() == 0) continue;
      for (;;) {
        const ssize_t count = ::send(socket.get(), part.data(), part.size(), MSG_NOSIGNAL);
        if (count >= 0) return error = {}, static_cast<size_t>(count);
        if (!wait_after_error(POLLOUT, error)) return 0;
      }
    }
    return error = {}, 0;
  }
  template <class Buffers>
  size_t read_some(const Buffers& buffers) {
    SystemError error;
    const size_t count = read_some(buffers, error);
    if (error) throw boost::system::system_error(error);
    return count;
  }
  template <class Buffers>
  size_t write_some(const Buffers& buffers) {
    SystemError error;
    const size_t count = write_some(buffers, error);
    if (error) throw boost::system::system_error(error);
    return count;
  }

  void forget_cancel() {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t taken = ::read(cancelled.get(), &count, sizeof count);  // empty means: nothing to forget
  }
  bool wait_after_error(short events, SystemError& error);
  SystemError wait(short events, std::chrono::milliseconds timeout);
  void connect();
  [[noreturn]] void fail_call(const SystemError& error, std::string_view what);
  HttpResponse call(http::verb verb, std::string_view path, std::string_view body, const OnLine* on_line);
  void send(const http::request<http::string_body>& request, http::response_parser<http::buffer_body>& parser);
  bool read_body(http::response_parser<http::buffer_body>& parser, HttpResponse& response, const OnLine* on_line);

  HttpUrl address;
  std::string api_key;
  HttpTimeouts timeouts;
  File cancelled;  // readable after cancel()
  File socket;     // kept open between calls
  boost::beast::flat_buffer buffer;
};

SystemError HttpClient::Impl::wait(short events, std::chrono::milliseconds timeout) {
  const auto end = Clock::now() + timeout;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
    pollfd files[2] = {{cancelled.get(), POLLIN, 0}, {socket.get(), events, 0}};
    const int ready = ::poll(files, 2, static_cast<int>(std::clamp<int64_t>(left.count(), 0, 1'000'000'000)));
    if (ready < 0 && errno != EINTR) return SystemError(errno, boost::system::system_category());
    if (ready > 0 && files[0].revents) return asio::error::operation_aborted;
    if (ready > 0) return {};
    if (Clock::now() >= end) return asio::error::timed_out;
  }
}

// After recv or send failed. True: try again.
bool HttpClient::Impl::wait_after_error(short events, SystemError& error) {
  if (errno == EINTR) return true;
  error = errno == EAGAIN || errno == EWOULDBLOCK ? wait(events, timeouts.idle) : SystemError(errno, boost::system::system_category());
  return !error;
}

void HttpClient::Impl::fail_call(const SystemError& error, std::string_view what) {
  socket.reset();
  buffer.clear();
  if (error == asio::error::operation_aborted) {
    forget_cancel();
    fail(ErrorCode::kCancelled, "cancelled");
  }
  fail(ErrorCode::kUnavailable, "http://", address.host, ":", address.port, ": ", what, ": ", error.message());
}

void HttpClient::Impl::connect() {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int code = getaddrinfo(address.host.c_str(), address.port.c_str(), &hints, &found); code != 0)
    fail(ErrorCode::kUnavailable, "cannot resolve ", address.host, ": ", gai_strerror(code));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, freeaddrinfo);
  SystemError error;
  for (const addrinfo* one = found; one; one = one->ai_next) {
    socket = File(::socket(one->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, one->ai_protocol));
    error = {};
    if (!socket.open() || (::connect(socket.get(), one->ai_addr, one->ai_addrlen) != 0 && errno != EINPROGRESS))
      error = SystemError(errno, boost::system::system_category());
    if (!error) error = wait(POLLOUT, timeouts.connect);
    if (!error) {
      int code = 0;
      socklen_t size = sizeof code;
      getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &code, &size);
      error = SystemError(code, boost::system::system_category());
    }
    if (!error) {
      const int on = 1;
      setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      return;
    }
    if (error == asio::error::operation_aborted) break;
  }
  fail_call(error, "cannot connect");
}

// Sends the request and reads the head of the answer. A server may refuse and close before it read everything: its answer counts. A kept
// connection may have been closed in the meantime: then once more over a new one.
void HttpClient::Impl::send(const http::request<http::string_body>& request, http::response_parser<http::buffer_body>& parser) {
  const auto attempt = [&] {
    SystemError error;
    http::write(*this, request, error);
    if (error == asio::error::operation_aborted || error == asio::error::timed_out) return error;
    error = {};
    http::read_header(*this, buffer, parser, error);
    return error;
  };
  const bool kept = socket.open();
  if (!kept) connect();
  SystemError error = attempt();
  if (kept && error && !parser.got_some() && error != asio::error::operation_aborted && error != asio::error::timed_out) {
    buffer.clear();
    connect();
    error = attempt();
  }
  if (error) fail_call(error, "no answer");
}

// False: on_line asked to stop.
bool HttpClient::Impl::read_body(http::response_parser<http::buffer_body>& parser, HttpResponse& response, const OnLine* on_line) {
  std::string line;
  char chunk[8192];
  while (!parser.is_done()) {
    auto& body = parser.get().body();
    body.data = chunk;
    body.size = sizeof chunk;
    body.more = true;
    SystemError error;
    http::read_some(*this, buffer, parser, error);
    if (error && error != http::error::need_buffer) fail_call(error, "the answer broke off");
    const std::string_view text(chunk, sizeof chunk - parser.get().body().size);
    if (!on_line) {
      response.body += text;
      continue;
    }
    line += text;
    size_t begin = 0;
    for (size_t end = line.find('\n'); end != std::string::npos; end = line.find('\n', begin)) {
      std::string_view one = std::string_view(line).substr(begin, end - begin);
      if (one.ends_with('\r')) one.remove_suffix(1);
      begin = end + 1;
      if (!(*on_line)(one)) return false;
    }
    line.erase(0, begin);
  }
  return line.empty() || !on_line || (*on_line)(line);
}

HttpResponse HttpClient::Impl::call(http::verb verb, std::string_view path, std::string_view body, const OnLine* on_line) {
  http::request<http::string_body> request(verb, concat(address.base, path), 11);
  request.set(http::field::host, address.authority());
  request.set(http::field::user_agent, "weir");
  if (!api_key.empty()) request.set(http::field::authorization, concat("Bearer ", api_key));
  if (verb == http::verb::post) {
    request.set(http::field::content_type, "application/json");
    request.body() = std::string(body);
    request.prepare_payload();
  }
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(kMaxBodyBytes);
  send(request, parser);

  HttpResponse response;
  response.status = static_cast<int>(parser.get().result_int());
  for (const auto& field : parser.get()) {
    std::string name(field.name_string());
    std::ranges::transform(name, name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    response.headers.emplace_back(std::move(name), std::string(field.value()));
  }
  const bool complete = read_body(parser, response, response.ok() ? on_line : nullptr);
  if (!complete || !parser.keep_alive()) {
    socket.reset();
    buffer.clear();
  }
  return response;
}

std::string_view HttpResponse::header(std::string_view name) const {
  for (const auto& [key, value] : headers)
    if (key == name) return value;
  return {};
}

HttpClient::HttpClient(std::string_view url, std::string api_key, HttpTimeouts timeouts)
    : impl_(std::make_unique<Impl>(url, std::move(api_key), timeouts)) {}
HttpClient::~HttpClient() = default;
HttpClient::HttpClient(HttpClient&&) noexcept = default;
HttpClient& HttpClient::operator=(HttpClient&&) noexcept = default;

HttpResponse HttpClient::get(std::string_view path) { return impl_->call(http::verb::get, path, {}, nullptr); }
HttpResponse HttpClient::post(std::string_view path, std::string_view json_body) {
  return impl_->call(http::verb::post, path, json_body, nullptr);
}
HttpResponse HttpClient::post_stream(std::string_view path, std::string_view json_body, const OnLine& on_line) {
  return impl_->call(http::verb::post, path, json_body, &on_line);
}

void HttpClient::cancel() noexcept {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(impl_->cancelled.get(), &one, sizeof one);  // full means: cancelled already
}

void HttpClient::clear_cancel() noexcept { impl_->forget_cancel(); }

}  // namespace weir
