// What a decode step may ask of the allocator and of mutexes once a batch is under way: nothing per token. Prompts, the first tokens and
// the ends of requests may; so may a sequence that has filled a page (every 16 tokens), which becomes known to the prefix cache.
#include <gtest/gtest.h>
#include <pthread.h>

#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

#include "tests/hot_path/counting.h"
#include "weir/engine/engine.h"
#include "weir/runtime/memory_plan.h"
#include "weir/runtime/model_runner.h"
#include "weir/weights/checkpoint.h"

namespace weir::testing {
namespace {

constexpr int32_t kSeqs = 8, kPages = 512, kSlots = 64, kThreads = 2, kNewTokens = 130;

Counts operator-(const Counts& a, const Counts& b) { return {a.allocations - b.allocations, a.locks - b.locks}; }

struct StepCounts {
  bool pure_decode = false, fills_a_page = false;
  size_t rows = 0;
  Counts ranks;    // of the engine thread inside run(), where it is the first compute thread
  Counts others;   // of the other compute threads, in the same time
  Counts between;  // of the engine thread from this run() to the next one
};

// Stands between engine and ranks and writes down what each step asked for.
class Counting final : public Executor {
 public:
  Counting(std::unique_ptr<Executor> ranks, std::vector<StepCounts>& steps) : ranks_(std::move(ranks)), steps_(steps) {
    steps_.reserve(1 << 14);
  }

  StepResult run(const StepPlan& plan, StepResult storage) override {
    const bool traced = std::getenv("WEIR_TRACE_ALLOCATIONS") != nullptr && steps_.size() > 100 && steps_.size() < 103;
    trace_allocations(traced);
    const Counts begin = counts_of_this_thread(), others = counts_of_threads("weir-compute");
    if (!steps_.empty()) steps_.back().between = begin - left_;
    StepCounts step{.pure_decode = true, .rows = plan.rows.size()};
    for (const SeqStep& row : plan.rows) {
      step.pure_decode &= static_cast<int32_t>(row.tokens.size()) - row.num_drafts == 1;
      step.fills_a_page |= (row.start + 1) % kPageTokens == 0 || row.start % kPageTokens == 0;
    }
    const Counts entered = counts_of_this_thread();
    StepResult result = ranks_->run(plan, std::move(storage));
    step.ranks = counts_of_this_thread() - entered;
    step.others = counts_of_threads("weir-compute") - others;
    steps_.push_back(step);
    left_ = counts_of_this_thread();
    return result;
  }

 private:
  std::unique_ptr<Executor> ranks_;
  std::vector<StepCounts>& steps_;
  Counts left_;
};

std::unique_ptr<ModelRunner> load_tiny() {
  const std::string dir = WEIR_SOURCE_DIR "/models/weir-tiny";
  const ModelConfig config = read_model_config(dir);
  const Checkpoint checkpoint = Checkpoint::open(dir);
  ThreadPool pool(1, /*pin=*/false);
  WeightReader reader(checkpoint);
  reader.ignore("model.visual.");
  reader.ignore("mtp.");
  Loader loader(reader, DType::kBF16, pool, {});
  loader.use(ops::WeightCoding::kTwelveBits);
  auto model = std::make_unique<Qwen3_5>(config, loader);
  return std::make_unique<ModelRunner>(std::move(model), std::make_unique<ThreadPool>(kThreads, /*pin=*/false),
                                       RunnerConfig{.cache = {.num_pages = kPages, .num_slots = kSlots},
                                                    .arena_bytes = 2 * activation_bytes(config, 512, kSeqs, kThreads),
                                                    .num_tokens = static_cast<int32_t>(config.vocab_size)});
}

std::vector<StepCounts> run_batch(const SamplingParams& how) {
  std::vector<StepCounts> steps;
  std::mutex mu;
  std::condition_variable done;
  int finished = 0;
  EngineConfig config;
  config.cache = {.num_pages = kPages, .num_slots = kSlots};
  config.scheduler = {.max_num_seqs = kSeqs, .max_num_batched_tokens = 512, .max_model_len = 1024};
  Engine engine(config, std::make_unique<Counting>(std::make_unique<LocalExecutor>(load_tiny()), steps));
  auto params = std::make_shared<SamplingParams>(how);
  params->max_tokens = kNewTokens;
  params->ignore_eos = true;
  for (uint64_t i = 0; i < kSeqs; ++i) {
    Request request{.id = RequestId{i}, .sampling = params};
    for (Token t = 0; t < 20; ++t) request.prompt.push_back(100 + t + static_cast<Token>(i));
    engine.submit(std::move(request), [&](RequestOutput output) {
      if (!output.finish) return;
      const std::lock_guard lock(mu);
      ++finished;
      done.notify_all();
    });
  }
  std::unique_lock lock(mu);
  done.wait(lock, [&] { return finished == kSeqs; });
  lock.unlock();
  return steps;  // the engine may still add one, to its own copy's owner: it is joined before this returns
}

class HotPath : public ::testing::TestWithParam<SamplingParams> {};

TEST_P(HotPath, ADecodeStepAllocatesNothingAndTakesAFixedNumberOfLocks) {
  const std::vector<StepCounts> steps = run_batch(GetParam());
  int64_t looked_at = 0, filling = 0, allocations_filling = 0, allocations = 0;
  for (size_t i = 60; i + 20 < steps.size(); ++i) {  // buffers have their sizes by then; at the end requests finish
    const StepCounts& step = steps[i];
    ASSERT_TRUE(step.pure_decode && step.rows == kSeqs) << "step " << i;
    EXPECT_EQ(step.ranks.allocations, 0) << "step " << i << ": the ranks' thread";
    EXPECT_EQ(step.ranks.locks, 0) << "step " << i;
    EXPECT_EQ(step.others.allocations, 0) << "step " << i << ": the other compute threads";
    EXPECT_EQ(step.others.locks, 0) << "step " << i;
    EXPECT_LE(step.between.locks, 4) << "step " << i << ": status, outputs and their storage, whatever the batch";
    if (step.fills_a_page || steps[i + 1].fills_a_page) {
      ++filling;
      allocations_filling += step.between.allocations;
      continue;
    }
    allocations += step.between.allocations;
    ++looked_at;
  }
  // When the thread that hands outputs out is late, another batch is made, and the queue grows; never more than once for each backlog.
  EXPECT_LE(allocations, 10) << "planning, committing and handing out in " << looked_at << " steps of " << kSeqs << " tokens";
  EXPECT_GT(looked_at, 30);
  EXPECT_LE(allocations_filling, filling * 4 * kSeqs) << "a page becomes known: a few for each sequence";
}

INSTANTIATE_TEST_SUITE_P(Sampling, HotPath,
                         ::testing::Values(SamplingParams{.temperature = 0}, SamplingParams{.temperature = 0.8f},
                                           SamplingParams{.temperature = 0.6f, .top_p = 0.95f, .top_k = 20},
                                           SamplingParams{.temperature = 1.0f, .top_p = 0.9f, .min_p = 0.01f}),
                         [](const auto& info) { return "Case" + std::to_string(info.index); });

}  // namespace
}  // namespace weir::testing
