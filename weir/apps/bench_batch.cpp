#include "weir/apps/bench_batch.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "weir/apps/bench_metrics.h"
#include "weir/base/error.h"
#include "weir/base/inbox.h"
#include "weir/text/detokenizer.h"

namespace weir {
namespace {

using Clock = std::chrono::steady_clock;

// Fewer than the engine lets wait, so that a large batch is fed and never refused.
constexpr size_t kMostSubmitted = 4096;

void check_lengths(std::span<const BatchRequest> requests, int32_t max_model_len) {
  for (const BatchRequest& request : requests)
    if (static_cast<int64_t>(request.prompt.size()) + request.output_tokens > max_model_len)
      fail(ErrorCode::kInvalidArgument, "a prompt of ", request.prompt.size(), " tokens and ", request.output_tokens,
           " generated ones do not fit the context of ", max_model_len, "; give shorter lengths or a larger --max-model-len");
}

// What is cheap and the same every time is left out of the measured stretch: sampling parameters, detokenizers.
struct Answer {
  std::shared_ptr<const SamplingParams> sampling;
  Detokenizer text;
};

}  // namespace

BatchResult run_batch(const LocalEngine& local, std::span<const BatchRequest> requests, const BatchOptions& options,
                      const std::function<void()>& on_done) {
  check_lengths(requests, local.model.max_model_len);
  const auto n = static_cast<size_t>(options.n);
  std::vector<Answer> answers;
  for (const BatchRequest& request : requests) {
    auto sampling = std::make_shared<SamplingParams>();
    sampling->max_tokens = request.output_tokens;
    sampling->ignore_eos = true;
    validate(*sampling, local.model.vocab_size);
    for (size_t k = 0; k < n; ++k) answers.push_back({sampling, Detokenizer(local.model.tokenizer, /*skip_special=*/true)});
  }

  BatchResult out;
  for (const BatchRequest& request : requests) out.prompt_tokens += static_cast<int64_t>(request.prompt.size());
  // Shared: if this throws, the engine still holds callbacks.
  const auto outputs = std::make_shared<Inbox<RequestOutput>>();
  const Clock::time_point begin = Clock::now();
  size_t submitted = 0, finished = 0;
  while (finished < answers.size()) {
    for (; submitted < answers.size() && submitted - finished < kMostSubmitted; ++submitted)
      local.engine->submit({.id = RequestId{submitted}, .prompt = requests[submitted / n].prompt, .sampling = answers[submitted].sampling},
                           [outputs](RequestOutput output) { outputs->push(std::move(output)); });
    const std::optional<RequestOutput> output = outputs->pop();
    Answer& answer = answers[static_cast<size_t>(index(output->id))];
    if (options.detokenize)
      for (const Token token : output->tokens) answer.text.push(token);
    if (!output->finish) continue;
    if (output->finish->reason == FinishReason::kError) fail(ErrorCode::kInternal, output->finish->error);
    out.output_tokens += output->usage.completion_tokens;
    ++finished;
    on_done();
  }
  out.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return out;
}

Json latency_json(const std::string& model, const std::vector<double>& seconds) {
  constexpr std::array<double, 6> kPercentiles = {10, 25, 50, 75, 90, 99};
  const Distribution latency = describe(seconds, kPercentiles);
  Json percentiles = Json::object();
  for (size_t i = 0; i < kPercentiles.size(); ++i) percentiles[concat(kPercentiles[i])] = latency.percentiles[i];
  Json out = Json::object();
  out["model_id"] = model;
  out["avg_latency"] = latency.mean;
  out["latencies"] = seconds;
  out["percentiles"] = std::move(percentiles);
  return out;
}

Json throughput_json(const std::string& model, int64_t num_requests, const BatchResult& result) {
  const auto tokens = static_cast<double>(result.prompt_tokens + result.output_tokens);
  Json out = Json::object();
  out["model_id"] = model;
  out["elapsed_time"] = result.seconds;
  out["num_requests"] = num_requests;
  out["total_num_tokens"] = result.prompt_tokens + result.output_tokens;
  out["requests_per_second"] = static_cast<double>(num_requests) / result.seconds;
  out["tokens_per_second"] = tokens / result.seconds;
  return out;
}

}  // namespace weir
