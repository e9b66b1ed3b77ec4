#include "weir/server/http_url.h"

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "weir/base/error.h"

namespace weir {

std::string HttpUrl::authority() const {
  const bool v6 = host.find(':') != std::string::npos;
  return concat(v6 ? "[" : "", host, v6 ? "]:" : ":", port);
}

HttpUrl parse_http_url(std::string_view url) {
  std::string_view rest = url;
  if (rest.starts_with("https://")) fail(ErrorCode::kInvalidArgument, "https is not built: ", url, " (use http://)");
  if (rest.starts_with("http://")) rest.remove_prefix(7);
  // What goes into a request head must not be able to end a line of it.
  if (std::any_of(rest.begin(), rest.end(), [](unsigned char c) { return c <= 0x20 || c == 0x7f; }))
    fail(ErrorCode::kInvalidArgument, "url ", url, ": spaces and control characters are not allowed");
  HttpUrl out;
  const size_t slash = std::min(rest.find('/'), rest.size());
  out.base = std::string(rest.substr(slash));
  while (out.base.ends_with('/')) out.base.pop_back();
  std::string_view authority = rest.substr(0, slash);
  const size_t bracket = authority.starts_with('[') ? authority.find(']') : std::string_view::npos;
  const size_t colon = authority.find(':', bracket == std::string_view::npos ? 0 : bracket);
  out.port = "80";
  if (colon != std::string_view::npos) {
    const std::string_view text = authority.substr(colon + 1);
    uint16_t port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc() || end != text.data() + text.size() || port == 0)
      fail(ErrorCode::kInvalidArgument, "url ", url, ": the port must be in [1, 65535], got \"", text, "\"");
    out.port = std::to_string(port);
    authority = authority.substr(0, colon);
  }
  if (bracket != std::string_view::npos) authority = authority.substr(1, bracket - 1);
  out.host = std::string(authority);
  if (out.host.empty()) fail(ErrorCode::kInvalidArgument, "url ", url, ": no host; write http://HOST:PORT");
  return out;
}

}  // namespace weir
