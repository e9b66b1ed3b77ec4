// Runs a batch of requests through an engine of this process and measures it: what `bench latency` and `bench throughput` share.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "weir/apps/local_engine.h"
#include "weir/base/json.h"

namespace weir {

struct BatchRequest {
  std::vector<Token> prompt;
  int32_t output_tokens = 1;  // exactly so many are generated, the end of the text is ignored
};

struct BatchResult {
  double seconds = 0;         // from the first request handed over to the last token, as text unless told otherwise
  int64_t prompt_tokens = 0;  // each prompt once, however many answers it got
  int64_t output_tokens = 0;
};

struct BatchOptions {
  int32_t n = 1;  // answers for each prompt
  bool detokenize = true;
};

// Sampling is vLLM's for benchmarks: temperature 1, the whole distribution. on_done is called after each answer.
// Throws Error(kInvalidArgument) for a request that does not fit into the context, and what the engine says when it fails.
BatchResult run_batch(const LocalEngine& local, std::span<const BatchRequest> requests, const BatchOptions& options,
                      const std::function<void()>& on_done);

// The result files of vLLM's two offline benchmarks.
Json latency_json(const std::string& model, const std::vector<double>& seconds);
Json throughput_json(const std::string& model, int64_t num_requests, const BatchResult& result);

}  // namespace weir
