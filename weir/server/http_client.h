// A small blocking HTTP/1.1 client for weir's own tools (`weir chat`, `weir bench`, tests): one request at a time, kept-alive
// connection, streaming answers line by line. Plain http only; proxy variables of the environment are ignored on purpose.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace weir {

struct HttpResponse {
  int status = 0;
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;                                          // empty for a streamed 2xx answer

  bool ok() const { return status >= 200 && status < 300; }
  std::string_view header(std::string_view name) const;  // name in lower case; empty when absent
};

struct HttpTimeouts {
  std::chrono::milliseconds connect{5'000};
  std::chrono::milliseconds idle{600'000};  // the longest silence while writing a request or reading an answer
};

// Every call throws Error: kInvalidArgument (a malformed url), kUnavailable (no connection, lost, timed out; the text names host and
// port), kCancelled (cancel() was called). HTTP error statuses are answers, not errors.
// One thread makes the calls; cancel() may come from any thread or from a signal handler.
class HttpClient {
 public:
  // "http://host[:port][/base]"; a bare "host:port" is accepted. A non-empty api_key is sent as "Authorization: Bearer …".
  explicit HttpClient(std::string_view url, std::string api_key = {}, HttpTimeouts timeouts = {});
  ~HttpClient();
  HttpClient(HttpClient&&) noexcept;
  HttpClient& operator=(HttpClient&&) noexcept;

  HttpResponse get(std::string_view path);
  HttpResponse post(std::string_view path, std::string_view json_body);

  // Calls on_line for every line of a 2xx answer, without its line end, as soon as it is complete ("data: {…}" and empty lines of SSE).
  // on_line returns false to stop: the connection is closed, so that the server aborts the request. Other statuses: body as in post().
  using OnLine = std::function<bool(std::string_view line)>;
  HttpResponse post_stream(std::string_view path, std::string_view json_body, const OnLine& on_line);

  // Ends the call in progress, or the next one if none is, with Error(kCancelled). Async-signal-safe.
  void cancel() noexcept;
  // Forgets a cancel() that came too late to end anything.
  void clear_cancel() noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace weir
