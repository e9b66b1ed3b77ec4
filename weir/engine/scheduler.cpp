#include "weir/engine/scheduler.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include "weir/base/check.h"
#include "weir/base/log.h"
#include "weir/base/mix.h"
#include "weir/cache/policy.h"

namespace weir {
namespace {

constexpr int32_t kMostTokensReserved = 4096;  // for the answer of a request, before it has them
constexpr int32_t kMostFetching = 4;           // sequences for which bytes of the second tier are brought near at once

bool needs_history(const SamplingParams& p) {
  return p.presence_penalty != 0 || p.frequency_penalty != 0 || p.repetition_penalty != 1 || !p.bad_words.empty();
}

// Why so much of a prompt was cached and no more.
std::string explain_match(const Sequence& seq, const PrefixMatch& match) {
  const int32_t limit = reusable_tokens(seq);
  std::string out = concat(match.num_tokens, " of ", seq.num_prompt, " prompt tokens cached");
  if (match.num_tokens / kPageTokens == limit / kPageTokens && limit == seq.num_prompt - 1) return out;
  if (limit == 0 && seq.num_prompt > 1) return out + ": prompt_logprobs need every token computed";
  if (match.num_known > match.num_tokens) return out + concat(": the text is known up to ", match.num_known, ", but no state there");
  if (match.num_known / kPageTokens == limit / kPageTokens) return out + concat(": too short, pages hold ", kPageTokens, " tokens");
  return out + concat(": tokens ", match.num_known, " to ", match.num_known + kPageTokens, " follow this beginning for the first time",
                      seq.request.cache_salt.empty() ? "" : " with this cache_salt", ", or were forgotten");
}

void count_drafts(DraftCounters& counters, int32_t verified, int32_t accepted) {
  ++counters.drafts;
  counters.draft_tokens += verified;
  counters.accepted_tokens += accepted;
  for (int32_t i = 0; i < accepted; ++i) ++counters.accepted_at[static_cast<size_t>(i)];
}

RequestOutput output_of(const Sequence& seq) {
  RequestOutput output;
  output.id = seq.request.id;
  output.usage.prompt_tokens = seq.num_prompt;
  output.usage.cached_tokens = seq.num_cached;
  output.usage.completion_tokens = seq.num_output();
  output.usage.accepted_drafts = static_cast<int32_t>(seq.speculation.accepted_tokens);
  output.usage.rejected_drafts = static_cast<int32_t>(seq.speculation.draft_tokens - seq.speculation.accepted_tokens);
  return output;
}

}  // namespace

Scheduler::Scheduler(EngineConfig config, CacheManager& cache)
    : config_(std::move(config)), cache_(cache), draft_policy_(config_.speculation) {
  check_config(config_);
}

std::optional<RequestOutput> Scheduler::apply(Command command) {
  if (Add* const added = std::get_if<Add>(&command)) {
    add(std::move(added->request));
    return std::nullopt;
  }
  if (std::holds_alternative<ResetPrefixCache>(command)) {
    cache_.reset_prefixes();
    return std::nullopt;
  }
  const auto found = by_request_.find(std::get<Abort>(command).id);
  if (found == by_request_.end()) return std::nullopt;
  Sequence& seq = sequence(found->second);
  return finish(seq, output_of(seq), {FinishReason::kAbort, std::nullopt, {}});
}

void Scheduler::add(Request request) {
  auto seq = std::make_unique<Sequence>();
  seq->id = SeqId{num_added_++};
  seq->tokens = std::exchange(request.prompt, {});
  seq->num_prompt = static_cast<int32_t>(seq->tokens.size());
  seq->tokens.reserve(seq->tokens.size() + static_cast<size_t>(std::min(request.sampling->max_tokens, kMostTokensReserved)));
  seq->seed = request.sampling->seed.value_or(mix((config_.seed ^ mix(index(seq->id) + kGolden)) + kGolden));
  seq->keys = PageKeys(request.cache_salt, config_.cache.key_secret);
  seq->request = std::move(request);
  const bool is_new = by_request_.emplace(seq->request.id, seq->id).second;
  WEIR_CHECK(is_new, "request id ", index(seq->request.id), " is in use");
  waiting_.insert(seq.get());
  sequences_.emplace(seq->id, std::move(seq));
}

StepPlan Scheduler::plan() {
  const int64_t preemptions_before = counters_.preemptions;
  give_pages_to_running();

  StepPlan plan = std::exchange(spare_plan_, {});
  plan.id = StepId{num_plans_++};
  int32_t budget = config_.scheduler.max_num_batched_tokens;
  // As many guesses now as are wanted for the next step: those of the last step are verified as far as they are still wanted.
  const int32_t most_drafts = draft_policy_.choose(static_cast<int32_t>(decodes_.size()));
  int32_t draft_budget = std::min(budget / 2, budget - static_cast<int32_t>(decodes_.size() + prompts_.size()));
  const auto give = [&](Sequence& seq, int32_t num_tokens, int32_t num_drafts) {
    if (spare_rows_.empty()) {
      plan.rows.emplace_back();
    } else {
      plan.rows.push_back(std::move(spare_rows_.back()));
      spare_rows_.pop_back();
    }
    fill_row(plan.rows.back(), seq, num_tokens, num_drafts, most_drafts);
    budget -= num_tokens + num_drafts;
  };
  // Decodes come before prompt chunks, so that a long prompt does not stall the streams. Since no more sequences run than the budget
  // has tokens (most_running), decodes never take all of it from a running prompt.
  for (Sequence* const seq : decodes_) {
    const int32_t num_drafts = grow_for_drafts(*seq, std::min(drafts_to_verify(*seq, most_drafts, config_), draft_budget));
    draft_budget -= num_drafts;
    give(*seq, 1, num_drafts);
  }

  // The first prompt takes what there is, so that it always gets on; the others wait for room for a whole block.
  bool is_first = true;
  for (Sequence* const seq : prompts_) {
    const int32_t num_tokens = chunk_tokens(*seq, budget, std::exchange(is_first, false), config_.scheduler);
    if (num_tokens > 0) give(*seq, num_tokens, 0);
  }

  // Whoever was preempted in this step would only be let in to be preempted again.
  for (auto next = waiting_.begin(); counters_.preemptions == preemptions_before && next != waiting_.end();) {
    Sequence& seq = **next++;
    const int32_t num_tokens = admit(seq, budget, is_first);
    if (num_tokens == 0 && seq.is_fetching && num_fetching_ < kMostFetching) continue;  // the others need not wait for its bytes
    if (num_tokens == 0) break;
    is_first = false;
    give(seq, num_tokens, 0);
  }
  for (SeqStep& row : plan.rows) add_snapshots(row);  // last: they get the slots that no sequence needs
  plan.tier = cache_.take_tier_ops(num_fetching_ > 0);
  plan.tier.wait = plan.rows.empty() && num_fetching_ > 0;
  WEIR_CHECK(!plan.rows.empty() || num_fetching_ > 0 || idle(), running_.size(), " running, ", waiting_.size(), " waiting");
  return plan;
}

// Takes pages for every running sequence, the first in order first, preempting from the end on shortage. One that finds nobody behind
// it sits the step out and keeps what it has: throwing its own work away would help only those before it, and they preempt it when
// they need to.
void Scheduler::give_pages_to_running() {
  decodes_.clear();
  prompts_.clear();
  for (auto it = running_.begin(); it != running_.end(); ++it) {
    Sequence* const seq = *it;
    bool has_pages = cache_.grow(seq->cache, seq->num_tokens());
    while (!has_pages && *running_.rbegin() != seq) {
      preempt(**running_.rbegin());
      has_pages = cache_.grow(seq->cache, seq->num_tokens());
    }
    if (has_pages) (seq->num_pending() == 1 ? decodes_ : prompts_).push_back(seq);
  }
}

void Scheduler::recycle(StepPlan plan) {
  // The first row last, so that it is the first to be used again: a batch that goes on finds the memory of its own rows.
  for (auto row = plan.rows.rbegin(); row != plan.rows.rend(); ++row) spare_rows_.push_back(std::move(*row));
  plan.rows.clear();
  plan.tier = {};
  spare_plan_ = std::move(plan);
}

// The guesses that have room in pages. They get one more page only where none of the others can come to want it in this step: guesses must
// not make anybody wait.
int32_t Scheduler::grow_for_drafts(Sequence& seq, int32_t num_drafts) {
  if (num_drafts <= 0) return 0;
  if (cache_.pages_free() > num_running()) {
    const bool has_pages = cache_.grow(seq.cache, seq.num_tokens() + num_drafts);
    WEIR_CHECK(has_pages, cache_.pages_free(), " pages free");
  }
  return std::min(num_drafts, static_cast<int32_t>(seq.cache.pages.size()) * kPageTokens - seq.num_tokens());
}

// Lets a waiting sequence in and returns how many tokens it computes in this step; 0: it goes on waiting.
int32_t Scheduler::admit(Sequence& seq, int32_t budget, bool may_split_block) {
  if (budget == 0 || num_running() >= most_running(config_)) return 0;
  if (cache_.prefix_caching()) seq.keys.extend(seq.tokens);
  PrefixMatch match = cache_.match(seq.tokens, seq.keys, reusable_tokens(seq));
  if (!cache_.has_room(match, pages_to_admit(seq, num_running())) || !fetch(seq, match)) return 0;
  seq.num_computed = match.num_tokens;
  const int32_t num_tokens = chunk_tokens(seq, budget, may_split_block, config_.scheduler);
  // All pages of the prompt now, not chunk by chunk: a prompt that has begun is not preempted for want of its own pages.
  if (num_tokens == 0 || !cache_.start(seq.cache, match, seq.num_tokens(), pages_to_admit(seq, num_running()))) {
    seq.num_computed = 0;
    return 0;
  }
  count_lookup(seq, match);
  set_fetching(seq, false);
  waiting_.erase(&seq);
  running_.insert(&seq);
  seq.status = SeqStatus::kRunning;
  return num_tokens;
}

// False while bytes of the second tier are on their way that let it begin further behind.
bool Scheduler::fetch(Sequence& seq, PrefixMatch& match) {
  if (!cache_.has_tier() || (!seq.is_fetching && num_fetching_ >= kMostFetching)) return true;
  const int32_t limit = reusable_tokens(seq), found = match.num_tokens;
  const CacheManager::Restore restore = cache_.restore(seq.tokens, seq.keys, limit, match);
  set_fetching(seq, restore == CacheManager::Restore::kFetching);
  if (restore == CacheManager::Restore::kFetching) return false;
  if (!seq.was_admitted) counters_.tier_queries += seq.num_prompt - found;
  if (restore == CacheManager::Restore::kRestored) {
    match = cache_.match(seq.tokens, seq.keys, limit);
    if (!seq.was_admitted) counters_.tier_hits += match.num_tokens - found;
  }
  return true;
}

void Scheduler::set_fetching(Sequence& seq, bool is_fetching) {
  num_fetching_ += static_cast<int32_t>(is_fetching) - static_cast<int32_t>(seq.is_fetching);
  seq.is_fetching = is_fetching;
}

void Scheduler::count_lookup(Sequence& seq, const PrefixMatch& match) {
  seq.num_known = match.num_known;
  if (!cache_.prefix_caching() || std::exchange(seq.was_admitted, true)) return;
  seq.num_cached = match.num_tokens;
  counters_.prefix_queries += seq.num_prompt;
  counters_.prefix_hits += match.num_tokens;
  log_debug("prefix cache: request ", index(seq.request.id), " (", seq.request.trace, "): ", explain_match(seq, match));
}

void Scheduler::add_snapshots(SeqStep& row) {
  if (!cache_.prefix_caching()) return;
  Sequence& seq = sequence(row.seq);
  cache_.take_snapshots(seq.cache, snapshot_positions({.start = row.start,
                                                       .end = row.start + static_cast<int32_t>(row.tokens.size()),
                                                       .num_prompt = seq.num_prompt,
                                                       .junction = seq.num_known,
                                                       .interval = config_.cache.snapshot_interval}));
  row.snapshots = seq.cache.snapshots;
}

void Scheduler::preempt(Sequence& seq) {
  cache_.retire(seq.cache, seq.tokens, seq.keys, seq.num_computed);
  seq.num_computed = 0;
  seq.drafts.clear();
  running_.erase(&seq);
  waiting_.insert(&seq);
  seq.status = SeqStatus::kWaiting;
  ++counters_.preemptions;
}

// Overwrites all of `row`, which may have been another sequence's.
void Scheduler::fill_row(SeqStep& row, const Sequence& seq, int32_t num_tokens, int32_t num_drafts, int32_t want_drafts) const {
  std::vector<Token> history = row.sample ? std::move(row.sample->history) : std::vector<Token>{};
  row = SeqStep{.tokens = std::move(row.tokens), .pages = std::move(row.pages), .prompt_next = std::move(row.prompt_next)};
  row.prompt_next.clear();
  row.seq = seq.id;
  row.start = seq.num_computed;
  const int32_t end = row.start + num_tokens;
  row.tokens.assign(seq.tokens.begin() + row.start, seq.tokens.begin() + end);
  if (row.start > 0) row.state_read = seq.cache.start_from ? seq.cache.start_from : seq.cache.slot;
  row.state_write = *seq.cache.slot;

  const SamplingParams& params = *seq.request.sampling;
  if (end == seq.num_tokens() && !seq.request.prompt_only) {
    Sampling sample;
    sample.params = seq.request.sampling;
    sample.seed = seq.seed;
    sample.output_index = seq.num_output();
    sample.prompt_tokens = seq.num_prompt;
    history.clear();
    if (needs_history(params)) history.assign(seq.tokens.begin(), seq.tokens.end());
    sample.history = std::move(history);
    row.sample = std::move(sample);
    row.tokens.insert(row.tokens.end(), seq.drafts.begin(), seq.drafts.begin() + num_drafts);
    row.num_drafts = num_drafts;
    // Not more than could be used after the one token that is sampled at least.
    const int32_t left = std::min(params.max_tokens - seq.num_output(), config_.scheduler.max_model_len - seq.num_tokens()) - 2;
    row.want_drafts = std::clamp(left, 0, want_drafts);
  } else if (end < seq.num_tokens() && config_.speculation.num_drafts > 0) {
    row.next = seq.tokens[static_cast<size_t>(end)];
  }
  const auto held = static_cast<int32_t>(seq.cache.pages.size());
  const int32_t num_pages = std::min(held, pages_for(end + row.num_drafts + row.want_drafts));
  row.pages.assign(seq.cache.pages.begin(), seq.cache.pages.begin() + num_pages);
  // The row of token i reports on prompt token i + 1.
  const int32_t report_end = std::min(end, seq.num_prompt - 1);
  if (params.prompt_logprobs && report_end > std::max(row.start, seq.num_prompt_logprobs)) {
    row.prompt_logprobs = params.prompt_logprobs;
    row.prompt_next.assign(seq.tokens.begin() + row.start + 1, seq.tokens.begin() + report_end + 1);
  }
}

std::vector<RequestOutput> Scheduler::commit(const StepPlan& plan, StepResult&& result, double seconds,
                                             std::vector<RequestOutput> storage) {
  const auto decodes = [](const SeqStep& row) { return static_cast<int32_t>(row.tokens.size()) - row.num_drafts == 1; };
  if (seconds > 0 && std::all_of(plan.rows.begin(), plan.rows.end(), decodes)) draft_policy_.saw_step(seconds);
  cache_.apply(result.tier);
  std::vector<RequestOutput> outputs = std::move(storage);
  outputs.clear();
  outputs.reserve(plan.rows.size());
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    if (auto output = commit_row(plan.rows[i], std::move(result.rows[i]))) outputs.push_back(std::move(*output));
  }
  return outputs;
}

std::optional<RequestOutput> Scheduler::commit_row(const SeqStep& row, RowResult result) {
  Sequence& seq = sequence(row.seq);
  if (!result.error.empty()) return finish(seq, output_of(seq), {FinishReason::kError, std::nullopt, std::move(result.error)});

  const int32_t num_tokens = static_cast<int32_t>(row.tokens.size()) - row.num_drafts;
  seq.num_computed += num_tokens;
  counters_.prompt_tokens += std::clamp(seq.num_prompt - row.start, 0, num_tokens);
  if (row.prompt_logprobs) {
    // After a preemption the chunks may fall differently: skip what an earlier chunk has reported.
    const int32_t known = std::max(0, seq.num_prompt_logprobs - row.start);
    std::move(result.prompt_logprobs.begin() + known, result.prompt_logprobs.end(), std::back_inserter(seq.prompt_logprobs));
    seq.num_prompt_logprobs = row.start + static_cast<int32_t>(result.prompt_logprobs.size());
  }
  const bool has_output = seq.num_pending() == 0;
  std::optional<Finish> reason;
  if (has_output && seq.request.prompt_only) reason = Finish{FinishReason::kLength, std::nullopt, {}};
  if (has_output && !reason) take_tokens(seq, row, result, reason);

  if (cache_.prefix_caching()) seq.keys.extend(std::span(seq.tokens).first(static_cast<size_t>(seq.num_computed)));
  cache_.publish(seq.cache, seq.tokens, seq.keys, seq.num_computed);
  if (!has_output) return std::nullopt;

  RequestOutput output = output_of(seq);
  output.tokens = std::move(result.tokens);
  output.logprobs = std::move(result.logprobs);
  output.prompt_logprobs = std::exchange(seq.prompt_logprobs, {});
  if (reason) return finish(seq, std::move(output), std::move(*reason));
  return output;
}

// Guesses that were right and the token drawn after them, up to the one that ends the sequence; what follows that one never was.
void Scheduler::take_tokens(Sequence& seq, const SeqStep& row, RowResult& result, std::optional<Finish>& reason) {
  const auto accepted = static_cast<int32_t>(result.tokens.size()) - 1;
  if (row.num_drafts > 0) {
    draft_policy_.saw_row(row.num_drafts, accepted);
    count_drafts(counters_.speculation, row.num_drafts, accepted);
  }
  size_t taken = 0;
  while (taken < result.tokens.size() && !reason) {
    seq.tokens.push_back(result.tokens[taken++]);
    ++counters_.generation_tokens;
    reason = finish_after_token(seq, config_);
  }
  if (row.num_drafts > 0) count_drafts(seq.speculation, row.num_drafts, std::min(accepted, static_cast<int32_t>(taken)));
  result.tokens.resize(taken);
  if (result.logprobs.size() > taken) result.logprobs.resize(taken);
  seq.num_computed = seq.num_tokens() - 1;
  seq.drafts = std::move(result.drafts);
}

std::vector<RequestOutput> Scheduler::fail_rows(const StepPlan& plan, const std::string& error) {
  std::vector<RequestOutput> outputs;
  for (const SeqStep& row : plan.rows) {
    Sequence& seq = sequence(row.seq);
    outputs.push_back(finish(seq, output_of(seq), {FinishReason::kError, std::nullopt, error}));
  }
  // Pages may be known that were never loaded, and fetches that nobody will answer.
  if (!plan.tier.loads.empty() || !plan.tier.fetches.empty() || plan.tier.wait) cache_.reset_prefixes();
  return outputs;
}

std::vector<RequestOutput> Scheduler::finish_all(const Finish& reason) {
  std::vector<RequestOutput> outputs;
  for (Queue* queue : {&running_, &waiting_}) {
    while (!queue->empty()) {
      Sequence& seq = **queue->begin();
      outputs.push_back(finish(seq, output_of(seq), reason));
    }
  }
  return outputs;
}

RequestOutput Scheduler::finish(Sequence& seq, RequestOutput last, Finish reason) {
  // An error leaves pages and slot as it found or half-wrote them; everything else ends between two steps.
  if (reason.reason == FinishReason::kError)
    cache_.release(seq.cache);
  else
    cache_.retire(seq.cache, seq.tokens, seq.keys, seq.num_computed);
  if (const DraftCounters& s = seq.speculation; s.drafts > 0) {
    log_debug("speculation: request ", index(seq.request.id), " (", seq.request.trace, "): ", s.accepted_tokens, " of ", s.draft_tokens,
              " guesses right, ", s.mean_length(), " tokens per verification");
  }
  set_fetching(seq, false);
  (seq.status == SeqStatus::kRunning ? running_ : waiting_).erase(&seq);
  by_request_.erase(seq.request.id);
  sequences_.erase(SeqId{seq.id});  // a copy: the key must outlive the sequence it is read from
  last.finish = std::move(reason);
  return last;
}

Sequence& Scheduler::sequence(SeqId id) {
  const auto found = sequences_.find(id);
  WEIR_CHECK(found != sequences_.end(), "sequence ", index(id), " is unknown");
  return *found->second;
}

void Scheduler::check_invariants() const {
  std::set<PageId> pages;
  std::set<SlotId> slots;
  for (const Sequence* seq : running_) {
    const int32_t held = static_cast<int32_t>(seq->cache.pages.size());
    WEIR_CHECK(seq->status == SeqStatus::kRunning && seq->cache.slot && seq->num_pending() > 0, "sequence ", index(seq->id));
    WEIR_CHECK(held >= pages_for(seq->num_tokens() - 1) && held <= pages_for(seq->num_tokens() + kMaxDrafts), "sequence ", index(seq->id),
               " holds ", held, " pages for ", seq->num_tokens(), " tokens");
    pages.insert(seq->cache.pages.begin(), seq->cache.pages.end());
    WEIR_CHECK(slots.insert(*seq->cache.slot).second, "slot ", index(*seq->cache.slot), " has two sequences");
    for (const Snapshot& snapshot : seq->cache.snapshots) WEIR_CHECK(slots.insert(snapshot.slot).second, "slot ", index(snapshot.slot));
  }
  for (const Sequence* seq : running_)
    if (seq->cache.start_from) slots.insert(*seq->cache.start_from);
  for (const Sequence* seq : waiting_) {
    WEIR_CHECK(seq->status == SeqStatus::kWaiting && !seq->cache.slot && seq->cache.pages.empty() && seq->num_computed == 0, "sequence ",
               index(seq->id));
  }
  WEIR_CHECK(num_running() <= most_running(config_), num_running(), " running");
  WEIR_CHECK(running_.size() + waiting_.size() == sequences_.size() && by_request_.size() == sequences_.size(), sequences_.size());
  WEIR_CHECK(cache_.pages_used() == static_cast<int32_t>(pages.size()), cache_.pages_used(), " pages used, ", pages.size(), " held");
  WEIR_CHECK(cache_.slots_used() == static_cast<int32_t>(slots.size()), cache_.slots_used(), " slots used, ", slots.size(), " held");
}

void check_result(const StepPlan& plan, const StepResult& result) {
  if (result.id != plan.id) fail(ErrorCode::kInternal, "the executor answered step ", index(result.id), ", wanted ", index(plan.id));
  if (result.rows.size() != plan.rows.size()) {
    fail(ErrorCode::kInternal, "the executor answered ", result.rows.size(), " rows, wanted ", plan.rows.size());
  }
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    const SeqStep& asked = plan.rows[i];
    const RowResult& got = result.rows[i];
    const auto expect = [&](const char* what, size_t wanted, size_t seen) {
      if (seen != wanted) fail(ErrorCode::kInternal, "row ", i, " of the executor's answer has ", seen, " ", what, ", wanted ", wanted);
    };
    if (got.seq != asked.seq) {
      fail(ErrorCode::kInternal, "row ", i, " of the executor's answer is of sequence ", index(got.seq), ", wanted ", index(asked.seq));
    }
    if (!got.error.empty()) continue;
    const size_t most = asked.sample ? 1 + static_cast<size_t>(asked.num_drafts) : 0;
    if (got.tokens.size() > most || (asked.sample && got.tokens.empty())) expect("tokens", most, got.tokens.size());
    const auto drafts = asked.tokens.end() - asked.num_drafts;
    if (asked.sample && !std::equal(got.tokens.begin(), got.tokens.end() - 1, drafts))
      fail(ErrorCode::kInternal, "row ", i, " of the executor's answer keeps guesses that were not made");
    if (got.drafts.size() > static_cast<size_t>(asked.want_drafts))
      expect("guesses", static_cast<size_t>(asked.want_drafts), got.drafts.size());
    expect("logprobs", asked.sample && asked.sample->params->logprobs ? got.tokens.size() : 0, got.logprobs.size());
    expect("prompt logprobs", asked.prompt_next.size(), got.prompt_logprobs.size());
  }
}

}  // namespace weir
