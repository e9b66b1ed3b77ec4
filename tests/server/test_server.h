// A server on a free port with a fake engine behind it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/api/tiny_model.h"
#include "tests/server/fake_engine.h"
#include "tests/server/raw_connection.h"
#include "weir/server/http_client.h"
#include "weir/server/http_server.h"

namespace weir {

inline ServerOptions test_options() {
  ServerOptions options;
  options.host = "127.0.0.1";
  options.port = 0;
  options.access_log = false;
  options.api = tiny_options();
  return options;
}

struct TestServer {
  explicit TestServer(ServerOptions options = test_options(), bool paused = false, bool ready = true)
      : engine(tiny_model().tokenizer->encode(" red green blue"), paused), server(std::move(options)) {
    server.start();
    if (ready) set_ready();
  }
  void set_ready() {
    ServedModel model = tiny_model();
    model.max_model_len = 20'000;
    server.set_ready(std::move(model), engine);
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(server.port()); }
  HttpClient client(const std::string& key = {}) const { return HttpClient(url(), key); }
  RawConnection raw() const { return RawConnection(server.port()); }

  FakeEngine engine;  // outlives the server
  HttpServer server;
};

inline Json body_of(const HttpResponse& response) { return parse_json(response.body, "response"); }

}  // namespace weir
