#include "weir/server/metrics.h"

#include <algorithm>

#include "weir/api/generation.h"
#include "weir/base/error.h"

namespace weir {
namespace {

// The buckets are vLLM's.
std::vector<double> first_token_bounds() {
  return {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560};
}
std::vector<double> token_bounds() {
  return {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80};
}
std::vector<double> request_bounds() {
  return {0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
}
// 1, 2, 5, 10, 20, … up to max.
std::vector<double> length_bounds(int32_t max) {
  std::vector<double> out;
  for (int64_t power = 1; power <= max; power *= 10)
    for (const int64_t step : {1, 2, 5})
      if (step * power <= max) out.push_back(static_cast<double>(step * power));
  return out;
}

double seconds(std::chrono::steady_clock::duration time) { return std::chrono::duration<double>(time).count(); }

void head(std::string& out, std::string_view name, std::string_view help, std::string_view type) {
  out += concat("# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
}

std::string escape_label(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out;
}

}  // namespace

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), counts_(std::make_unique<std::atomic<uint64_t>[]>(bounds_.size() + 1)) {}

void Histogram::observe(double value) {
  const auto bucket = std::ranges::lower_bound(bounds_, value) - bounds_.begin();
  counts_[bucket].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

void Histogram::render(std::string& out, std::string_view name, std::string_view help, std::string_view labels) const {
  head(out, name, help, "histogram");
  uint64_t total = 0;
  for (size_t i = 0; i <= bounds_.size(); ++i) {
    total += counts_[i].load(std::memory_order_relaxed);
    const std::string bound = i < bounds_.size() ? concat(bounds_[i]) : "+Inf";
    out += concat(name, "_bucket{", labels, ",le=\"", bound, "\"} ", total, "\n");
  }
  out += concat(name, "_count{", labels, "} ", total, "\n", name, "_sum{", labels, "} ", sum_.load(std::memory_order_relaxed), "\n");
}

Metrics::Metrics(int32_t max_model_len)
    : time_to_first_token(first_token_bounds()),
      inter_token_latency(token_bounds()),
      time_per_output_token(token_bounds()),
      e2e_latency(request_bounds()),
      prompt_tokens(length_bounds(max_model_len)),
      generation_tokens(length_bounds(max_model_len)) {}

std::string Metrics::render(const std::string& model_name, const std::optional<EngineStatus>& engine) const {
  const std::string labels = concat("model_name=\"", escape_label(model_name), "\",engine=\"0\"");
  std::string out;
  const auto one = [&](std::string_view name, std::string_view help, std::string_view type, auto value) {
    head(out, name, help, type);
    out += concat(name, "{", labels, "} ", value, "\n");
  };
  const auto share = [](int64_t used, int64_t total) { return total > 0 ? static_cast<double>(used) / static_cast<double>(total) : 0.0; };
  if (engine) {
    one("vllm:num_requests_running", "Requests in the running batch.", "gauge", engine->num_running);
    one("vllm:num_requests_waiting", "Requests waiting for a place.", "gauge", engine->num_waiting);
    one("vllm:kv_cache_usage_perc", "Attention pages in use, 1 is all.", "gauge", share(engine->pages_used, engine->pages_total));
    one("vllm:prompt_tokens_total", "Prompt tokens computed.", "counter", engine->prompt_tokens);
    one("vllm:generation_tokens_total", "Tokens sampled.", "counter", engine->generation_tokens);
    one("vllm:num_preemptions_total", "Sequences preempted for want of pages or slots.", "counter", engine->preemptions);
    one("vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.", "counter", engine->prefix_queries);
    one("vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache.", "counter", engine->prefix_hits);
    one("vllm:prompt_tokens_cached_total", "Prompt tokens that the prefix cache saved computing.", "counter", engine->prefix_hits);
    one("vllm:external_prefix_cache_queries_total", "Prompt tokens looked up in the second tier of the prefix cache.", "counter",
        engine->tier_queries);
    one("vllm:external_prefix_cache_hits_total", "Prompt tokens found there.", "counter", engine->tier_hits);
    one("weir:kv_offload_bytes", "What the second tier holds, compressed.", "gauge", engine->tier_bytes);
    one("weir:state_slots_used", "Delta-net state slots in use.", "gauge", engine->slots_used);
    one("weir:state_slots_cached", "Delta-net states kept for the prefix cache; running requests may take them.", "gauge",
        engine->slots_cached);
    one("weir:state_slots_total", "Delta-net state slots.", "gauge", engine->slots_total);
    one("weir:pages_used", "Attention pages in use.", "gauge", engine->pages_used);
    one("weir:pages_cached", "Attention pages kept for the prefix cache; running requests may take them.", "gauge", engine->pages_cached);
    one("weir:pages_total", "Attention pages.", "gauge", engine->pages_total);
    if (engine->max_drafts > 0) {
      const DraftCounters& s = engine->speculation;
      one("vllm:spec_decode_num_drafts_total", "Verifications of at least one drafted token.", "counter", s.drafts);
      one("vllm:spec_decode_num_draft_tokens_total", "Drafted tokens verified.", "counter", s.draft_tokens);
      one("vllm:spec_decode_num_accepted_tokens_total", "Drafted tokens accepted.", "counter", s.accepted_tokens);
      head(out, "vllm:spec_decode_num_accepted_tokens_per_pos_total", "Drafted tokens accepted, by position.", "counter");
      for (int32_t i = 0; i < engine->max_drafts; ++i)
        out += concat("vllm:spec_decode_num_accepted_tokens_per_pos_total{", labels, ",position=\"", i, "\"} ",
                      s.accepted_at[static_cast<size_t>(i)], "\n");
    }
    one("weir:engine_steps_total", "Steps of the engine.", "counter", engine->steps);
    one("weir:engine_run_seconds_total", "Time inside steps: the ranks compute.", "counter", engine->run_seconds);
    one("weir:engine_gap_seconds_total", "Time between steps while there is work: planning, committing, handing out; the ranks wait.",
        "counter", engine->host_seconds);
  }
  head(out, "vllm:request_success_total", "Finished requests.", "counter");
  for (const FinishReason reason : {FinishReason::kStop, FinishReason::kLength, FinishReason::kAbort, FinishReason::kError})
    out += concat("vllm:request_success_total{", labels, ",finished_reason=\"", finish_reason_name(reason), "\"} ",
                  success_[static_cast<size_t>(reason)].load(std::memory_order_relaxed), "\n");
  time_to_first_token.render(out, "vllm:time_to_first_token_seconds", "Arrival to first token.", labels);
  inter_token_latency.render(out, "vllm:inter_token_latency_seconds", "Time between the outputs of a request.", labels);
  time_per_output_token.render(out, "vllm:request_time_per_output_token_seconds", "Mean time per token after the first.", labels);
  e2e_latency.render(out, "vllm:e2e_request_latency_seconds", "Arrival to last token.", labels);
  prompt_tokens.render(out, "vllm:request_prompt_tokens", "Prompt tokens per request.", labels);
  generation_tokens.render(out, "vllm:request_generation_tokens", "Generated tokens per request.", labels);
  return out;
}

void ChoiceTimer::output(Time now, size_t num_tokens) {
  if (finished_ || num_tokens == 0) return;
  if (generated_ == 0) {
    first_ = now;
    metrics_.time_to_first_token.observe(seconds(now - arrival_));
  } else {
    metrics_.inter_token_latency.observe(seconds(now - last_));
  }
  last_ = now;
  generated_ += num_tokens;
}

void ChoiceTimer::finish(Time now, FinishReason reason) {
  if (finished_) return;
  finished_ = true;
  metrics_.count_success(reason);
  metrics_.e2e_latency.observe(seconds(now - arrival_));
  metrics_.prompt_tokens.observe(static_cast<double>(prompt_tokens_));
  metrics_.generation_tokens.observe(static_cast<double>(generated_));
  if (generated_ > 1) metrics_.time_per_output_token.observe(seconds(last_ - first_) / static_cast<double>(generated_ - 1));
}

}  // namespace weir
