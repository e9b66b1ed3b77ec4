#include "weir/runtime/model_runner.h"

#include <algorithm>

#include "weir/base/error.h"
#include "weir/runtime/model_input.h"
#include "weir/runtime/sampler.h"

namespace weir {
namespace {

// Logits are made for this many positions at a time, so that prompt log-probabilities of long chunks need bounded memory.
constexpr int64_t kLogitsBlock = 64;

}  // namespace

ModelRunner::ModelRunner(std::unique_ptr<Qwen3_5> model, std::unique_ptr<ThreadPool> pool, RunnerConfig config)
    : config_(std::move(config)),
      pool_(std::move(pool)),
      model_(std::move(model)),
      arena_(static_cast<size_t>(config_.arena_bytes)),
      cache_(model_->make_cache(config_.cache.num_pages, config_.cache.num_slots, config_.kv_type)) {}

StepResult ModelRunner::run(const StepPlan& plan) {
  StepResult result{.id = plan.id, .rows = {}};
  for (const SeqStep& row : plan.rows)
    result.rows.push_back({.seq = row.seq, .tokens = {}, .logprobs = {}, .prompt_logprobs = {}, .error = {}});
  const ModelInput input =
      build_input(plan, config_.cache.num_pages, config_.cache.num_slots, static_cast<int32_t>(model_->config().vocab_size));
  arena_.reset();
  ops::Context ctx{*pool_, arena_};
  Step step{.ctx = ctx, .rows = input.rows, .rope = model_->rope(ctx, input.positions), .cache = cache_, .tp = tp_};
  const Tensor hidden = model_->forward(step, input.ids);
  sample_rows(plan, input, step, hidden, result);
  return result;
}

void ModelRunner::sample_rows(const StepPlan& plan, const ModelInput& input, Step& step, const Tensor& hidden, StepResult& result) {
  const SampleContext context{.eos_token_ids = config_.eos_token_ids, .num_tokens = config_.num_tokens};
  const int64_t total = input.sample_at.dim(0);

  // Which plan row an entry of sample_at belongs to, and which of the row's entries it is.
  std::vector<std::pair<size_t, int32_t>> owner;
  for (size_t r = 0; r < plan.rows.size(); ++r)
    for (int32_t i = input.logits_begin[r]; i < input.logits_begin[r + 1]; ++i) owner.emplace_back(r, i - input.logits_begin[r]);
  for (size_t r = 0; r < plan.rows.size(); ++r) result.rows[r].prompt_logprobs.resize(plan.rows[r].prompt_next.size());

  for (int64_t begin = 0; begin < total; begin += kLogitsBlock) {
    const int64_t end = std::min(total, begin + kLogitsBlock);
    const Arena::Scope scope(arena_);
    Tensor logits = model_->logits(step, ops::gather_rows(step.ctx, hidden, input.sample_at.rows(begin, end)));
    pool_->parallel_items(end - begin, [&](int64_t i, int) {
      const auto [r, entry] = owner[static_cast<size_t>(begin + i)];
      const SeqStep& row = plan.rows[r];
      RowResult& out = result.rows[r];
      const std::span<float> values(logits.data<float>() + i * logits.row_stride(), static_cast<size_t>(logits.dim(1)));
      const auto next = static_cast<int32_t>(row.prompt_next.size());
      if (entry < next) {
        const auto known = values.first(static_cast<size_t>(std::min<int64_t>(logits.dim(1), config_.num_tokens)));
        out.prompt_logprobs[static_cast<size_t>(entry)] =
            top_logprobs(known, row.prompt_next[static_cast<size_t>(entry)], *row.prompt_logprobs);
        return;
      }
      try {  // a row fails alone: its neighbours do not depend on it
        Sample drawn = sample(values, *row.sample, context);
        out.tokens.push_back(drawn.token);
        if (row.sample->params->logprobs) out.logprobs.push_back(std::move(drawn.logprobs));
      } catch (const Error& error) {
        out.error = error.what();
      }
    });
  }
}

}  // namespace weir
