// The OpenAI-compatible HTTP server. It listens before the model is there: until set_ready() /health and the API answer 503.
// HTTP threads do JSON and text; engine outputs arrive on the engine's courier thread and are handed to the connection they belong to, so
// nothing here ever blocks compute. Every resource a client can hold is bounded by a field of ServerLimits.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "weir/api/api_options.h"
#include "weir/api/served_model.h"
#include "weir/core/engine_client.h"
#include "weir/server/profile_switch.h"

namespace weir {

struct ServerLimits {
  int64_t max_body_bytes = int64_t{32} << 20;        // --max-body-bytes; larger: 413
  int64_t max_buffered_bytes = int64_t{256} << 20;   // bodies of all connections that are still arriving; beyond: 503
  int32_t max_header_bytes = 16 << 10;               // larger: 431
  int32_t max_connections = 1024;                    // --max-connections; more are answered 503 and closed
  std::chrono::milliseconds idle_timeout{75'000};    // between two requests of a connection; then closed
  std::chrono::milliseconds header_timeout{15'000};  // first byte to end of header; then 408
  std::chrono::milliseconds body_timeout{300'000};   // whole body; then 408
  std::chrono::milliseconds write_timeout{60'000};   // a reader that takes nothing for this long is dropped, its request aborted
};

struct ServerOptions {
  std::string host = "0.0.0.0";                        // a name or an address; "" and "0.0.0.0": every interface
  uint16_t port = 8000;                                // 0: any free one, see port()
  int threads = 2;                                     // HTTP threads
  std::vector<std::string> api_keys;                   // empty: open; else "Authorization: Bearer KEY" is asked for below /v1
  std::vector<std::string> allowed_origins = {"*"};    // CORS
  bool access_log = true;                              // false: --disable-uvicorn-access-log
  std::chrono::milliseconds shutdown_timeout{30'000};  // --shutdown-timeout: requests in flight get this long
  ServerLimits limits;
  ApiOptions api;
};

class HttpServer {
 public:
  // Binds and listens. Throws Error(kUnavailable) naming host and port when that fails.
  explicit HttpServer(ServerOptions options);
  ~HttpServer();  // as shutdown() with no time left, then joins

  uint16_t port() const;

  void start();  // starts the HTTP threads and returns

  // The model is loaded: from now on requests are accepted. The engine must outlive wait(). Called once, from any thread.
  void set_ready(ServedModel model, EngineClient& engine, ProfileSwitch profile = {});

  // Stops accepting; new requests get 503; those in flight may finish within shutdown_timeout, then they are aborted. Returns at once;
  // any thread, any number of times.
  void shutdown();
  bool shutting_down() const;

  void wait();  // blocks until a shutdown is complete; afterwards nothing touches the engine

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace weir
