// Sends prepared requests to an OpenAI server at given moments, many at once, and measures the streamed answers. One thread, and a
// coroutine for each request in flight; connections are kept and used again.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "weir/apps/bench_answer.h"

namespace weir {

struct LoadRequest {
  std::string body;  // JSON
  double at_s = 0;   // after the start of the run; rising
};

struct LoadTarget {
  std::string url;   // "http://host:port[/base]"
  std::string path;  // "/v1/completions"
  BenchApi api = BenchApi::kCompletions;
  std::vector<std::pair<std::string, std::string>> headers;  // beside Host, Content-Type and Content-Length
  std::string request_id_prefix;                             // X-Request-Id is this and the request's index; empty: not sent
  std::chrono::milliseconds connect_timeout{30'000};
  std::chrono::milliseconds idle_timeout{3'600'000};  // the longest silence of a server; a queue may be long
};

struct LoadResult {
  std::vector<BenchAnswer> answers;  // parallel to the requests; times count from the start of the run
  double duration_s = 0;             // until the last answer
};

// Blocks until every request is answered or failed: that is told in its answer. Throws Error only for what concerns all of them: a
// malformed url or header (kInvalidArgument), a host without an address (kUnavailable).
// max_concurrency: further requests wait in the client, first come first served. on_done is called after each request.
LoadResult run_load(const LoadTarget& target, std::span<const LoadRequest> requests, std::optional<int64_t> max_concurrency,
                    const std::function<void()>& on_done);

}  // namespace weir
