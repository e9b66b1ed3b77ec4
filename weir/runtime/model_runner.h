// Executes plans on one rank: input -> forward -> sample and verify -> draft. Owns the rank's model, caches, arena and compute threads.
// Rank thread only.
#pragma once

#include <memory>
#include <optional>

#include "weir/core/config.h"
#include "weir/core/executor.h"
#include "weir/models/qwen3_5.h"
#include "weir/runtime/draft_backlog.h"
#include "weir/runtime/model_input.h"
#include "weir/runtime/sampler.h"
#include "weir/runtime/tier_store.h"
#include "weir/runtime/touch_ahead.h"

namespace weir {

struct RunnerConfig {
  CacheConfig cache;
  CacheTypes types;
  int64_t arena_bytes = 0;
  int32_t num_tokens = 0;  // ids >= this are padding rows of the vocabulary
  std::vector<Token> eos_token_ids;
  std::unique_ptr<TierStore> tier;  // nullptr: there is none
  bool touch_ahead = true;          // false: memory comes from where the thread is that needs it first, as NUMA nodes want it
  Profiler* profiler = nullptr;     // outlives the runner
};

class ModelRunner {
 public:
  ModelRunner(std::unique_ptr<Qwen3_5> model, std::unique_ptr<ThreadPool> pool, RunnerConfig config);

  // storage: a result whose memory may be used again.
  StepResult run(const StepPlan& plan, StepResult storage = {});
  bool prepare() { return ahead_ && ahead_->touch_piece(); }  // see Executor
  std::vector<TierEntry> tier_entries() const { return config_.tier ? config_.tier->found() : std::vector<TierEntry>{}; }

  // Reading results of a test: the caches as the last step left them.
  const CacheTensors& cache() const { return cache_; }
  const Qwen3_5& model() const { return *model_; }

 private:
  std::vector<Tensor> slot_tensors() const;  // row i of each is memory of slot i
  void touch_ahead(const StepPlan& plan);
  void run_tier(const TierOps& ops);
  void report_prompts(const StepPlan& plan, const ModelInput& input, Step& step, const Tensor& hidden, StepResult& result);
  void sample_rows(const StepPlan& plan, const ModelInput& input, Step& step, const Tensor& hidden, StepResult& result);
  void draft_rows(const StepPlan& plan, const ModelInput& input, ops::Context& ctx, const Tensor& hidden, StepResult& result);

  // What the draft head reads to guess once more for a row of the plan.
  struct Guess {
    size_t row;
    int32_t position;  // within the sequence
    Token token;       // the one that follows it
  };
  ModelInput input_of(const StepPlan& plan);
  ModelInput input_of(const StepPlan& plan, const std::vector<Guess>& guesses);
  std::vector<Token> likeliest(Step& step, const Tensor& hidden);
  std::span<float> known(const Tensor& logits, int64_t row) const;  // a row of logits without the vocabulary's padding

  // Whole rows of a plan that are drawn from one block of logits: the positions of a row are drawn one after the other.
  struct Drawing {
    size_t row;
    int64_t first_logits;
  };

  RunnerConfig config_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Qwen3_5> model_;
  Arena arena_;
  CacheTensors cache_;
  std::optional<DraftBacklog> backlog_;  // nullopt: there is no draft head
  std::optional<TouchAhead> ahead_;      // nullopt: not wanted
  SelfCommunicator tp_;
  // Kept from step to step, so that steps allocate nothing.
  std::vector<SampleScratch> scratch_;  // per thread
  std::vector<int32_t> positions_;
  std::vector<Drawing> drawings_;
};

// All ranks are this process's engine thread: tensor parallel size one.
class LocalExecutor final : public Executor {
 public:
  explicit LocalExecutor(std::unique_ptr<ModelRunner> runner) : runner_(std::move(runner)) {}
  StepResult run(const StepPlan& plan, StepResult storage) override { return runner_->run(plan, std::move(storage)); }
  bool prepare() override { return runner_->prepare(); }
  std::vector<TierEntry> tier_entries() override { return runner_->tier_entries(); }

 private:
  std::unique_ptr<ModelRunner> runner_;
};

}  // namespace weir
