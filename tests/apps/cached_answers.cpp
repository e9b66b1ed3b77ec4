#include "tests/apps/cached_answers.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "tests/runtime/golden_model.h"
#include "weir/engine/scheduler.h"

namespace weir::testing {
namespace {

struct Answer {
  std::vector<Token> tokens;
  std::vector<std::pair<Token, uint32_t>> logprobs;  // bits
};

// The engine's loop without its thread. `between` runs before each step.
template <class Between>
std::map<RequestId, Answer> play(Scheduler& scheduler, ModelRunner& ranks, const Between& between) {
  std::map<RequestId, Answer> answers;
  const auto take = [&](const std::vector<RequestOutput>& outputs) {
    for (const RequestOutput& output : outputs) {
      Answer& answer = answers[output.id];
      answer.tokens.insert(answer.tokens.end(), output.tokens.begin(), output.tokens.end());
      for (const PositionLogprobs& position : output.logprobs)
        for (const TokenLogprob& entry : position) answer.logprobs.emplace_back(entry.token, std::bit_cast<uint32_t>(entry.logprob));
      EXPECT_TRUE(!output.finish || output.finish->reason != FinishReason::kError) << output.finish->error;
    }
  };
  while (between() || !scheduler.idle()) {
    const StepPlan plan = scheduler.plan();
    if (plan.rows.empty() && plan.tier.empty()) continue;
    StepResult result = ranks.run(plan);
    check_result(plan, result);
    take(scheduler.commit(plan, std::move(result),
                          static_cast<double>(1 + plan.rows.size())));  // guesses cost nothing: adaptation wants them
  }
  return answers;
}

EngineConfig config_of(const CacheConfig& cache, int32_t budget, int32_t seqs) {
  EngineConfig config;
  config.cache = cache;
  config.scheduler.max_num_seqs = seqs;
  config.scheduler.max_num_batched_tokens = budget;
  config.scheduler.max_model_len = 4096;
  return config;
}

constexpr CacheConfig kCold{.num_pages = 4096 / kPageTokens, .num_slots = 1, .prefix_caching = false};

}  // namespace

CachedAnswers::CachedAnswers(std::string checkpoint_dir, DType compute, const CacheTypes& types)
    : dir_(std::move(checkpoint_dir)), compute_(compute), types_(types), cold_(make_runner(kCold, false)) {}

std::unique_ptr<ModelRunner> CachedAnswers::make_runner(const CacheConfig& cache, bool with_mtp) const {
  auto pool = std::make_unique<ThreadPool>(1, /*pin=*/false);  // a spinning team is slow on a busy machine
  auto model = load_golden(dir_, compute_, *pool, with_mtp);
  const auto vocab = static_cast<int32_t>(model->config().vocab_size);
  const ModelConfig& config = model->config();
  const int64_t page = kPageTokens * kv_bytes_per_token(config, types_.kv, model->has_mtp());
  auto tier = cache.has_tier ? std::make_unique<TierStore>(TierConfig{.capacity = int64_t{64} << 20,
                                                                      .page_bytes = page,
                                                                      .state_bytes = state_bytes_per_slot(config, types_.state),
                                                                      .page_element = element_size(types_.kv)})
                             : nullptr;
  return std::make_unique<ModelRunner>(
      std::move(model), std::move(pool),
      RunnerConfig{.cache = cache, .types = types_, .arena_bytes = int64_t{1} << 30, .num_tokens = vocab, .tier = std::move(tier)});
}

CachedCounts CachedAnswers::run_case(uint32_t seed, int32_t longest) {
  SCOPED_TRACE(::testing::Message() << dir_ << ", case " << seed << ", longest " << longest);
  std::mt19937 rng(seed);
  const auto between = [&](int32_t low, int32_t high) { return low + static_cast<int32_t>(rng() % static_cast<unsigned>(high - low + 1)); };
  const int32_t most_new = rng() % 2 ? 100 : 24;
  const unsigned eagerness = std::array{1u, 8u}[rng() % 2];  // whether requests come at once or while others run

  std::map<RequestId, Request> requests;
  std::map<RequestId, Answer> want;
  int32_t most_pages = 0;                 // of one request
  std::vector<std::vector<Token>> texts;  // prompts with their answers
  const auto vocab = static_cast<uint32_t>(cold_->model().config().vocab_size);
  for (uint64_t id = 0; id < 10; ++id) {
    Request request;
    request.id = RequestId{id};
    if (!texts.empty() && rng() % 4 != 0) {
      const std::vector<Token>& text = texts[rng() % texts.size()];
      const size_t keep = std::min<size_t>(rng() % 2 ? text.size() : rng() % (text.size() + 1), static_cast<size_t>(longest));
      request.prompt.assign(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(keep));
    }
    const auto room = longest - static_cast<int32_t>(request.prompt.size());
    int32_t add = between(0, request.prompt.empty() && rng() % 2 ? room : std::min(room, 80));
    if (request.prompt.empty()) add = std::max(add, 1);
    for (int32_t i = 0; i < add; ++i) request.prompt.push_back(static_cast<Token>(rng() % vocab));
    SamplingParams params;
    params.temperature = rng() % 3 == 0 ? 1.0f : 0.0f;
    params.seed = seed;
    params.max_tokens = between(1, most_new);
    params.logprobs = 2;
    request.sampling = std::make_shared<const SamplingParams>(params);
    request.priority = between(0, 1);
    requests.emplace(request.id, request);
    most_pages = std::max(most_pages, pages_for(static_cast<int64_t>(request.prompt.size()) + params.max_tokens));

    const EngineConfig alone = config_of(kCold, 2048, 1);
    CacheManager cold_pages(alone.cache);
    Scheduler scheduler(alone, cold_pages);
    scheduler.apply(Add{request});
    want.merge(play(scheduler, *cold_, [] { return false; }));
    texts.push_back(request.prompt);
    texts.back().insert(texts.back().end(), want[request.id].tokens.begin(), want[request.id].tokens.end());
  }

  CacheConfig cache{.num_pages = rng() % 2 ? most_pages + between(0, most_pages / 4) : most_pages * between(2, 6),
                    .num_slots = rng() % 3 == 0 ? between(1, 4) : between(4, 24),
                    .snapshot_interval = std::array{0, 64, 256}[rng() % 3]};
  cache.has_tier = rng() % 2;
  const int32_t budget = std::array{1, 7, 64, 100, 512, 2048}[rng() % 6];
  EngineConfig config = config_of(cache, longest > 500 ? std::max(budget, 64) : budget, between(1, 8));
  if (rng() % 3) config.speculation = {.num_drafts = between(1, kMaxDrafts), .adaptive = rng() % 2 == 0};
  const auto ranks = make_runner(config.cache, config.speculation.num_drafts > 0);
  CacheManager pages(config.cache);
  Scheduler scheduler(config, pages);
  std::set<RequestId> aborted;
  auto next = requests.begin();
  const auto got = play(scheduler, *ranks, [&] {
    for (int i = 0; next != requests.end() && (scheduler.idle() || (i < 3 && rng() % eagerness == 0)); ++i, ++next)
      scheduler.apply(Add{next->second});
    if (rng() % 60 == 0) {
      const RequestId id{rng() % requests.size()};
      if (scheduler.apply(Abort{id})) aborted.insert(id);
    }
    if (rng() % 100 == 0) scheduler.apply(ResetPrefixCache{});
    scheduler.check_invariants();
    pages.check_invariants();
    return next != requests.end();
  });
  EXPECT_EQ(pages.pages_used() + pages.slots_used(), 0);
  for (const auto& [id, answer] : want) {
    if (aborted.contains(id)) continue;
    SCOPED_TRACE(::testing::Message() << "request " << index(id) << " of " << requests.at(id).prompt.size() << " tokens");
    if (!got.contains(id)) {
      ADD_FAILURE() << "no answer";
      continue;
    }
    EXPECT_EQ(got.at(id).tokens, answer.tokens);
    EXPECT_EQ(got.at(id).logprobs, answer.logprobs);
  }
  const auto& counters = scheduler.counters();
  return {static_cast<int64_t>(requests.size()),
          counters.prefix_queries,
          counters.prefix_hits,
          counters.tier_hits,
          counters.preemptions,
          counters.speculation.draft_tokens,
          counters.speculation.accepted_tokens};
}

}  // namespace weir::testing
