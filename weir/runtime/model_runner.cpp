#include "weir/runtime/model_runner.h"

#include <algorithm>
#include <cstring>

#include "weir/base/error.h"
#include "weir/runtime/accept.h"
#include "weir/runtime/sampler.h"

namespace weir {
namespace {

// Logits are made for about this many positions at a time, so that they need bounded memory however many are wanted.
constexpr int64_t kLogitsBlock = 64;

// Of the arena, touched before the first step: a quarter or less of what the largest step takes.
constexpr size_t kTouchedShare = 32;

static_assert(ops::kConvHistory >= kSlotHistory && ops::kDeltaBlock == kSlotBlock, "the engine reads slots as far back as they allow");

Tensor ints(Arena& arena, std::span<const int32_t> values) {
  Tensor out = arena.empty(Shape{static_cast<int64_t>(values.size())}, DType::kI32);
  std::copy(values.begin(), values.end(), out.data<int32_t>());
  return out;
}

int32_t first_token(const ModelInput& input, size_t row) { return input.rows.row_starts.data<int32_t>()[row]; }

// Index within the row of the token whose successor was drawn last: the last one, less the drafts that were refused.
int32_t last_kept(const SeqStep& row, const RowResult& result) {
  return static_cast<int32_t>(row.tokens.size()) - 1 - row.num_drafts + static_cast<int32_t>(result.tokens.size()) - 1;
}

bool only_decodes(const StepPlan& plan) {
  return std::all_of(plan.rows.begin(), plan.rows.end(),
                     [](const SeqStep& row) { return static_cast<int32_t>(row.tokens.size()) == 1 + row.num_drafts; });
}

// Calls use(bytes, count) for every piece of a page or slot, in a fixed order.
template <class Use>
void each_piece(const CacheTensors& cache, TierLabel::Kind kind, int32_t id, const Use& use) {
  const auto one = [&](const Tensor& pool) {
    if (id < 0 || id >= pool.dim(0)) fail(ErrorCode::kInternal, "plan for the second tier: ", id, " of ", pool.dim(0));
    const Tensor piece = pool.rows(id, id + 1);
    use(static_cast<std::byte*>(const_cast<void*>(piece.raw())), static_cast<size_t>(piece.nbytes()));
  };
  if (kind == TierLabel::Kind::kPage) {
    for (const Tensor& pool : cache.kv) one(pool);
    return;
  }
  for (const Tensor& pool : cache.delta) one(pool);
  for (const Tensor& pool : cache.conv) one(pool);
}

}  // namespace

ModelRunner::ModelRunner(std::unique_ptr<Qwen3_5> model, std::unique_ptr<ThreadPool> pool, RunnerConfig config)
    : config_(std::move(config)),
      pool_(std::move(pool)),
      model_(std::move(model)),
      arena_(static_cast<size_t>(config_.arena_bytes)),
      cache_(model_->make_cache(config_.cache.num_pages, config_.cache.num_slots, config_.types)) {
  if (model_->has_mtp()) backlog_.emplace(config_.cache.num_slots, model_->config().hidden);
  for (int thread = 0; thread < pool_->size(); ++thread) scratch_.emplace_back(config_.num_tokens);
  pool_->set_profiler(config_.profiler);
  if (config_.touch_ahead) ahead_.emplace(slot_tensors(), cache_.kv, arena_.first(arena_.capacity() / kTouchedShare));
}

std::vector<Tensor> ModelRunner::slot_tensors() const {
  std::vector<Tensor> out = cache_.delta;
  out.insert(out.end(), cache_.conv.begin(), cache_.conv.end());
  if (backlog_) out.push_back(backlog_->memory());
  return out;
}

StepResult ModelRunner::run(const StepPlan& plan, StepResult storage) {
  StepResult result{.id = plan.id, .rows = std::move(storage.rows)};
  result.rows.clear();
  for (const SeqStep& row : plan.rows) result.rows.push_back({.seq = row.seq});
  if (config_.tier) {
    run_tier(plan.tier);
    result.tier = config_.tier->events(plan.tier.wait);
  }
  if (plan.rows.empty()) return result;
  arena_.reset();
  const ModelInput input = [&] {
    const Span span(config_.profiler, "input");
    return input_of(plan);
  }();
  ops::Context ctx{*pool_, arena_, config_.profiler};
  Step step{.ctx = ctx, .rows = input.rows, .rope = model_->rope(ctx, input.positions), .cache = cache_, .tp = tp_};
  const Tensor hidden = model_->forward(step, input.ids);
  report_prompts(plan, input, step, hidden, result);
  sample_rows(plan, input, step, hidden, result);
  draft_rows(plan, input, ctx, hidden, result);
  if (ahead_) touch_ahead(plan);
  return result;
}

// Where requests follow each other without a pause, the answers of some make memory ready for the prompts of others, a piece per token.
void ModelRunner::touch_ahead(const StepPlan& plan) {
  ahead_->note(plan);
  if (!ahead_->is_short() || !only_decodes(plan)) return;
  const Span span(config_.profiler, "touch memory ahead");
  ahead_->touch_piece();
}

void ModelRunner::run_tier(const TierOps& ops) {
  const Span span(config_.profiler, "second tier");
  TierStore& tier = *config_.tier;
  if (ops.forget_all) tier.forget_all();
  for (const TierSave& save : ops.saves) {
    std::vector<std::byte> bytes;
    each_piece(cache_, save.entry.label.kind, save.from,
               [&](const std::byte* piece, size_t count) { bytes.insert(bytes.end(), piece, piece + count); });
    tier.save(save.entry, std::move(bytes), /*must=*/ops.wait);
  }
  for (const TierId id : ops.fetches) tier.fetch(id);
  for (const TierLoad& load : ops.loads) {
    const auto bytes = tier.take(load.entry.id);
    if (!bytes) fail(ErrorCode::kInternal, "entry ", index(load.entry.id), " of the second tier was not fetched");
    size_t at = 0;
    each_piece(cache_, load.entry.label.kind, load.to, [&](std::byte* piece, size_t count) {
      WEIR_CHECK(at + count <= bytes->size(), bytes->size(), " bytes");
      std::memcpy(piece, bytes->data() + at, count);
      at += count;
    });
  }
  if (ops.drop_fetched) tier.drop_fetched();
}

std::span<float> ModelRunner::known(const Tensor& logits, int64_t row) const {
  return {const_cast<float*>(logits.data<float>()) + row * logits.row_stride(),
          static_cast<size_t>(std::min<int64_t>(logits.dim(1), config_.num_tokens))};
}

void ModelRunner::report_prompts(const StepPlan& plan, const ModelInput& input, Step& step, const Tensor& hidden, StepResult& result) {
  for (size_t r = 0; r < plan.rows.size(); ++r) {
    const SeqStep& row = plan.rows[r];
    const auto total = static_cast<int64_t>(row.prompt_next.size());
    std::vector<PositionLogprobs>& reports = result.rows[r].prompt_logprobs;
    reports.resize(row.prompt_next.size());
    for (int64_t begin = 0; begin < total; begin += kLogitsBlock) {
      const int64_t end = std::min(total, begin + kLogitsBlock), first = first_token(input, r);
      const Arena::Scope scope(arena_);
      const Tensor logits = model_->logits(step, hidden.rows(first + begin, first + end));
      pool_->parallel_items(end - begin, [&](int64_t i, int) {
        const auto at = static_cast<size_t>(begin + i);
        reports[at] = top_logprobs(known(logits, i), row.prompt_next[at], *row.prompt_logprobs);
      });
    }
  }
}

void ModelRunner::sample_rows(const StepPlan& plan, const ModelInput& input, Step& step, const Tensor& hidden, StepResult& result) {
  const Span span(config_.profiler, "sample");
  const SampleContext context{.eos_token_ids = config_.eos_token_ids, .num_tokens = config_.num_tokens};
  for (size_t next_row = 0; next_row < plan.rows.size();) {
    positions_.clear();
    drawings_.clear();
    for (; next_row < plan.rows.size() && static_cast<int64_t>(positions_.size()) < kLogitsBlock; ++next_row) {
      const SeqStep& row = plan.rows[next_row];
      if (!row.sample) continue;
      drawings_.push_back({next_row, static_cast<int64_t>(positions_.size())});
      const int32_t end = first_token(input, next_row + 1);
      for (int32_t token = end - 1 - row.num_drafts; token < end; ++token) positions_.push_back(token);
    }
    if (drawings_.empty()) continue;
    const Arena::Scope scope(arena_);
    const Tensor logits = model_->logits(step, ops::gather_rows(step.ctx, hidden, ints(arena_, positions_)));
    pool_->parallel_items(static_cast<int64_t>(drawings_.size()), [&](int64_t i, int thread) {
      const Drawing& drawing = drawings_[static_cast<size_t>(i)];
      const SeqStep& row = plan.rows[drawing.row];
      RowResult& out = result.rows[drawing.row];
      SmallVector<std::span<float>, kMaxDrafts + 1> rows_of_logits;
      for (int32_t d = 0; d <= row.num_drafts; ++d) rows_of_logits.push_back(known(logits, drawing.first_logits + d));
      try {  // a row fails alone: its neighbours do not depend on it
        Verdict verdict = verify(rows_of_logits, std::span(row.tokens).last(static_cast<size_t>(row.num_drafts)), *row.sample, context,
                                 scratch_[static_cast<size_t>(thread)]);
        out.tokens = std::move(verdict.tokens);
        out.logprobs = std::move(verdict.logprobs);
      } catch (const Error& error) {
        out.error = error.what();
      }
    });
  }
}

void ModelRunner::draft_rows(const StepPlan& plan, const ModelInput& input, ops::Context& ctx, const Tensor& hidden, StepResult& result) {
  if (!backlog_) return;
  const Span span(config_.profiler, "draft");

  // The head takes in every token with its true successor, as pages fill or when a guess needs it, so that its keys and values have no
  // holes.
  const DraftIntake intake = backlog_->take(plan, result.rows, input, hidden, arena_);
  if (intake.plan.rows.empty()) return;
  const ModelInput taken = input_of(intake.plan);
  Step step{.ctx = ctx, .rows = taken.rows, .rope = model_->rope(ctx, taken.positions), .cache = cache_, .tp = tp_};
  Tensor x = model_->draft_input(step, taken.ids, intake.hidden);
  model_->draft_remember(step, x);

  std::vector<int32_t> at;  // the tokens from which guesses are drawn
  std::vector<Guess> guesses;
  for (size_t r = 0; r < plan.rows.size(); ++r) {
    if (intake.last[r] < 0) continue;
    guesses.push_back({r, plan.rows[r].start + last_kept(plan.rows[r], result.rows[r]), result.rows[r].tokens.back()});
    at.push_back(intake.last[r]);
  }
  for (int32_t depth = 1; !guesses.empty(); ++depth) {
    const ModelInput next = input_of(plan, guesses);
    Step one{.ctx = ctx, .rows = next.rows, .rope = model_->rope(ctx, next.positions), .cache = cache_, .tp = tp_};
    x = ops::gather_rows(ctx, x, ints(arena_, at));
    const Tensor y = model_->draft(one, depth == 1 ? x : model_->draft_input(one, next.ids, x));
    const std::vector<Token> tokens = likeliest(one, y);
    std::vector<Guess> further;
    at.clear();
    for (size_t i = 0; i < guesses.size(); ++i) {
      const SeqStep& row = plan.rows[guesses[i].row];
      if (tokens[i] < 0) continue;  // non-finite logits: no guess
      result.rows[guesses[i].row].drafts.push_back(tokens[i]);
      const int32_t position = guesses[i].position + 1;
      if (depth == row.want_drafts || position >= static_cast<int32_t>(row.pages.size()) * kPageTokens) continue;
      further.push_back({guesses[i].row, position, tokens[i]});
      at.push_back(static_cast<int32_t>(i));
    }
    guesses = std::move(further);
    x = y;
  }
}

ModelInput ModelRunner::input_of(const StepPlan& plan) {
  return build_input(plan, config_.cache.num_pages, config_.cache.num_slots, static_cast<int32_t>(model_->config().vocab_size), arena_);
}

// One row per guess: the token that the head reads, at its position.
ModelInput ModelRunner::input_of(const StepPlan& plan, const std::vector<Guess>& guesses) {
  StepPlan out;
  for (const Guess& guess : guesses) {
    const SeqStep& row = plan.rows[guess.row];
    out.rows.push_back(
        {.seq = row.seq, .start = guess.position, .tokens = {guess.token}, .pages = row.pages, .state_write = row.state_write});
    if (guess.position > 0) out.rows.back().state_read = row.state_write;  // the head has no state; the plan must be well-formed
  }
  return input_of(out);
}

std::vector<Token> ModelRunner::likeliest(Step& step, const Tensor& hidden) {
  std::vector<Token> tokens(static_cast<size_t>(hidden.dim(0)));
  for (int64_t begin = 0; begin < hidden.dim(0); begin += kLogitsBlock) {
    const int64_t end = std::min(hidden.dim(0), begin + kLogitsBlock);
    const Arena::Scope scope(arena_);
    const Tensor logits = model_->draft_logits(step, hidden.rows(begin, end));
    pool_->parallel_items(end - begin, [&](int64_t i, int) { tokens[static_cast<size_t>(begin + i)] = argmax(known(logits, i)); });
  }
  return tokens;
}

}  // namespace weir
