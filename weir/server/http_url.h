// Where an http server is, as its url says: for the clients of this program.
#pragma once

#include <string>
#include <string_view>

namespace weir {

struct HttpUrl {
  std::string host;  // without the brackets of an IPv6 address
  std::string port;  // digits
  std::string base;  // path prefix without a slash at its end; often empty

  std::string authority() const;  // for the Host header: "127.0.0.1:8000", "[::1]:8000"
};

// "http://host[:port][/base]"; "host:port" is accepted. Throws Error(kInvalidArgument) naming the url.
HttpUrl parse_http_url(std::string_view url);

}  // namespace weir
