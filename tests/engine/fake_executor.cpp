#include "tests/engine/fake_executor.h"

#include <algorithm>
#include <map>
#include <set>

#include "weir/base/check.h"

namespace weir::testing {
namespace {

constexpr int32_t kConvolution = 3;  // inputs before a token that its convolution needs
constexpr uint64_t kEmptyPrefix = 0x243f6a8885a308d3u;

uint64_t mix(uint64_t digest, uint64_t value) {
  digest = (digest ^ value) * 0x9e3779b97f4a7c15u;
  return digest ^ (digest >> 29);
}

bool is_stop(Token token, const SamplingParams& params, const EngineConfig& config) {
  const auto in = [token](const std::vector<Token>& ids) { return std::find(ids.begin(), ids.end(), token) != ids.end(); };
  return in(params.stop_token_ids) || (!params.ignore_eos && in(config.eos_token_ids));
}

// Greedy depends on the prefix alone, a draw on seed and output index too; stop ids are masked while they may not end the answer.
Token draw(uint64_t prefix, const Sampling& sample, const EngineConfig& config) {
  if (sample.params->temperature > 0) prefix = mix(mix(prefix, sample.seed), static_cast<uint64_t>(sample.output_index));
  auto token = static_cast<Token>(mix(prefix, 7) % kFakeVocab);
  while (sample.output_index < sample.params->min_tokens && is_stop(token, *sample.params, config)) token = (token + 1) % kFakeVocab;
  return token;
}

PositionLogprobs logprobs_of(uint64_t prefix, Token token, int32_t count) {
  PositionLogprobs out{{token, -static_cast<float>(mix(prefix, static_cast<uint64_t>(token)) % 1000) / 100, 1}};
  for (int32_t i = 0; i < count; ++i) out.push_back({static_cast<Token>(mix(prefix, 100 + i) % kFakeVocab), -1.0f, i + 1});
  return out;
}

bool needs_history(const SamplingParams& p) {
  return p.presence_penalty != 0 || p.frequency_penalty != 0 || p.repetition_penalty != 1 || !p.bad_words.empty();
}

}  // namespace

Expected expected_answer(const Request& request, const EngineConfig& config) {
  Expected out;
  const SamplingParams& params = *request.sampling;
  uint64_t prefix = kEmptyPrefix;
  for (size_t i = 0; i < request.prompt.size(); ++i) {
    if (i > 0 && params.prompt_logprobs) out.prompt_logprobs.push_back(logprobs_of(prefix, request.prompt[i], *params.prompt_logprobs));
    prefix = mix(prefix, static_cast<uint64_t>(request.prompt[i]));
  }
  out.reason = FinishReason::kLength;
  if (request.prompt_only) return out;
  Sampling sample;
  sample.params = request.sampling;
  sample.seed = params.seed.value_or(0);
  const auto length = static_cast<int32_t>(request.prompt.size());
  for (int32_t i = 0; i < params.max_tokens && length + i < config.scheduler.max_model_len; ++i) {
    sample.output_index = i;
    const Token token = draw(prefix, sample, config);
    if (params.logprobs) out.logprobs.push_back(logprobs_of(prefix, token, *params.logprobs));
    out.tokens.push_back(token);
    if (i >= params.min_tokens && is_stop(token, params, config)) {
      out.reason = FinishReason::kStop;
      break;
    }
    prefix = mix(prefix, static_cast<uint64_t>(token));
  }
  return out;
}

FakeExecutor::FakeExecutor(EngineConfig config)
    : config_(std::move(config)),
      pages_(static_cast<size_t>(config_.cache.num_pages), std::vector<Token>(kPageTokens, -1)),
      heads_(pages_),
      slots_(static_cast<size_t>(config_.cache.num_slots)) {}

StepResult FakeExecutor::run(const StepPlan& plan, StepResult) {
  check_plan(plan);
  if (before_step) before_step(plan);
  StepResult result{plan.id, {}, run_tier(plan.tier)};
  for (const SeqStep& row : plan.rows) {
    result.rows.push_back(run_row(row));
    if (row_error) result.rows.back().error = row_error(row);
    if (result.rows.back().error.empty()) continue;
    for (size_t p = static_cast<size_t>(row.start / kPageTokens); p < row.pages.size(); ++p) {
      std::vector<Token>& page = pages_[static_cast<size_t>(index(row.pages[p]))];
      std::fill(page.begin() + (p == static_cast<size_t>(row.start / kPageTokens) ? row.start % kPageTokens : 0), page.end(), -1);
    }
    for (const Snapshot& snapshot : row.snapshots) slots_[static_cast<size_t>(index(snapshot.slot))] = {};
    slots_[static_cast<size_t>(index(row.state_write))] = {};
  }
  return result;
}

// What holds for a plan as a whole.
void FakeExecutor::check_plan(const StepPlan& plan) const {
  WEIR_CHECK(!plan.rows.empty() || !plan.tier.empty(), "an empty plan");
  int64_t num_tokens = 0;
  std::set<SeqId> seqs;
  std::map<PageId, int> written_pages, pages;  // how many rows …
  std::map<SlotId, int> written_slots;
  for (const SeqStep& row : plan.rows) {
    num_tokens += static_cast<int64_t>(row.tokens.size());
    WEIR_CHECK(seqs.insert(row.seq).second, "sequence ", index(row.seq), " has two rows");
    const int32_t end = row.start + static_cast<int32_t>(row.tokens.size());
    const auto num_pages = [](int32_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; };
    const auto given = static_cast<int32_t>(row.pages.size());
    WEIR_CHECK(given >= num_pages(end) && given <= num_pages(end + row.want_drafts), "pages of sequence ", index(row.seq));
    WEIR_CHECK(row.num_drafts >= 0 && row.num_drafts <= config_.speculation.num_drafts &&
                   row.want_drafts <= config_.speculation.num_drafts && (row.sample || row.num_drafts + row.want_drafts == 0),
               "guesses of sequence ", index(row.seq));
    WEIR_CHECK(row.num_drafts == 0 || row.start / kSlotBlock == (end - 1) / kSlotBlock, "guesses of sequence ", index(row.seq),
               " reach into another block");
    for (const PageId page : std::set<PageId>(row.pages.begin(), row.pages.end())) ++pages[page];
    for (size_t i = static_cast<size_t>(row.start / kPageTokens); i < row.pages.size(); ++i) ++written_pages[row.pages[i]];
    ++written_slots[row.state_write];
    for (const Snapshot& snapshot : row.snapshots) {
      ++written_slots[snapshot.slot];
      WEIR_CHECK(snapshot.position > row.start && snapshot.position <= end, "snapshot of sequence ", index(row.seq), " at ",
                 snapshot.position);
    }
  }
  for (const auto& [page, count] : written_pages)
    WEIR_CHECK(count == 1 && pages[page] == 1, "page ", index(page), " is written and shared");
  for (const auto& [slot, count] : written_slots) WEIR_CHECK(count == 1, "slot ", index(slot), " is written twice");
  for (const SeqStep& row : plan.rows)
    WEIR_CHECK(!row.state_read || row.state_read == row.state_write || !written_slots.contains(*row.state_read), "slot ",
               index(*row.state_read), " is written and read by sequence ", index(row.seq));
  WEIR_CHECK(static_cast<int32_t>(plan.rows.size()) <= config_.scheduler.max_num_seqs, plan.rows.size(), " rows");
  WEIR_CHECK(num_tokens <= config_.scheduler.max_num_batched_tokens, num_tokens, " tokens");
}

TierEvents FakeExecutor::run_tier(const TierOps& ops) {
  WEIR_CHECK(config_.cache.has_tier || ops.empty(), "there is no second tier");
  TierEvents events;
  if (ops.forget_all) tier_.clear();
  for (const TierSave& save : ops.saves) {
    Stored stored{.label = save.entry.label};
    const auto from = static_cast<size_t>(save.from);
    if (save.entry.label.kind == TierLabel::Kind::kPage) {
      stored.page = pages_[from], stored.head = heads_[from];
      WEIR_CHECK(std::equal(stored.page.begin(), stored.page.end(), save.entry.label.tokens.begin()), "a page of other tokens is saved");
    } else {
      stored.state = slots_[from];
    }
    WEIR_CHECK(tier_.emplace(save.entry.id, std::move(stored)).second, "entry ", index(save.entry.id), " is saved twice");
  }
  for (const TierId id : ops.fetches) fetching_.push_back(id);
  for (const TierLoad& load : ops.loads) {
    Stored& stored = tier_.at(load.entry.id);
    WEIR_CHECK(std::exchange(stored.is_near, false) && stored.label == load.entry.label, "entry ", index(load.entry.id),
               " was not fetched");
    const auto to = static_cast<size_t>(load.to);
    if (stored.label.kind == TierLabel::Kind::kPage)
      pages_[to] = stored.page, heads_[to] = stored.head;
    else
      slots_[to] = stored.state;
  }
  if (ops.drop_fetched)
    for (auto& [id, stored] : tier_) stored.is_near = false;
  while (!fetching_.empty() && (ops.wait || !arrives || arrives())) {
    const TierId id = fetching_.front();
    fetching_.pop_front();
    const auto found = tier_.find(id);
    if (found == tier_.end() || (is_lost && is_lost())) {
      tier_.erase(id);
      events.lost.push_back(id);
    } else {
      found->second.is_near = true;
      events.fetched.push_back(id);
    }
  }
  return events;
}

RowResult FakeExecutor::run_row(const SeqStep& row) {
  // The prefix is what the pages really hold, and the state must have seen exactly that.
  std::vector<Token> prefix;
  std::vector<uint64_t> digests{kEmptyPrefix};  // of the first 0, 1, … tokens
  const auto cell = [&](int32_t position) -> Token& {
    const PageId page = row.pages[static_cast<size_t>(position / kPageTokens)];
    return pages_[static_cast<size_t>(index(page))][static_cast<size_t>(position % kPageTokens)];
  };
  const auto see = [&](Token token) {
    prefix.push_back(token);
    digests.push_back(mix(digests.back(), static_cast<uint64_t>(token)));
  };
  for (int32_t i = 0; i < row.start; ++i) see(cell(i));
  WEIR_CHECK(row.state_read.has_value() == (row.start > 0), "sequence ", index(row.seq), " starts at ", row.start);
  State read;
  if (row.state_read) {
    read = slots_[static_cast<size_t>(index(*row.state_read))];
    WEIR_CHECK(row.start >= read.block && row.start <= read.end() && row.start - std::min(row.start, kConvolution) >= read.oldest_input,
               "sequence ", index(row.seq), " starts at ", row.start, ", its state reaches from ", read.block, " to ", read.end());
    WEIR_CHECK(read.digests[static_cast<size_t>(row.start - read.block)] == digests.back(), "sequence ", index(row.seq),
               ": pages and state have seen different tokens");
  }

  RowResult result;
  result.seq = row.seq;
  WEIR_CHECK(row.prompt_logprobs.has_value() == !row.prompt_next.empty());
  for (size_t i = 0; i < row.tokens.size(); ++i) {
    cell(row.start + static_cast<int32_t>(i)) = row.tokens[i];
    see(row.tokens[i]);
    if (i >= row.prompt_next.size()) continue;
    WEIR_CHECK(i + 1 >= row.tokens.size() || row.prompt_next[i] == row.tokens[i + 1], "prompt_next of sequence ", index(row.seq));
    result.prompt_logprobs.push_back(logprobs_of(digests.back(), row.prompt_next[i], *row.prompt_logprobs));
  }
  tokens_computed_ += static_cast<int64_t>(row.tokens.size());
  for (const Snapshot& snapshot : row.snapshots) store(read, row, digests, snapshot.position, snapshot.slot);
  store(read, row, digests, static_cast<int32_t>(prefix.size()), row.state_write);

  if (row.sample) verify(row, prefix, digests, result);
  if (config_.speculation.num_drafts > 0) draft(row, prefix, digests, result);
  return result;
}

void FakeExecutor::verify(const SeqStep& row, const std::vector<Token>& prefix, const std::vector<uint64_t>& digests,
                          RowResult& result) const {
  Sampling sample = *row.sample;
  const auto certain = static_cast<int32_t>(prefix.size()) - row.num_drafts;
  WEIR_CHECK(sample.output_index == certain - sample.prompt_tokens, "output index of ", index(row.seq));
  WEIR_CHECK(sample.history ==
                 (needs_history(*sample.params) ? std::vector<Token>(prefix.begin(), prefix.begin() + certain) : std::vector<Token>{}),
             "history of ", index(row.seq));
  for (int32_t at = certain;; ++at, ++sample.output_index) {
    const uint64_t digest = digests[static_cast<size_t>(at)];
    const Token token = draw(digest, sample, config_);
    result.tokens.push_back(token);
    if (sample.params->logprobs) result.logprobs.push_back(logprobs_of(digest, token, *sample.params->logprobs));
    if (at == certain + row.num_drafts || token != prefix[static_cast<size_t>(at)]) return;
  }
}

// A head that is right three times of four, and must have seen every token of the sequence with the one after it. Only the last token of
// a page may have been computed by somebody whose text went on differently.
void FakeExecutor::draft(const SeqStep& row, const std::vector<Token>& prefix, const std::vector<uint64_t>& digests, RowResult& result) {
  const auto cell = [&](int32_t position) -> Token& {
    const PageId page = row.pages[static_cast<size_t>(position / kPageTokens)];
    return heads_[static_cast<size_t>(index(page))][static_cast<size_t>(position % kPageTokens)];
  };
  const auto end = static_cast<int32_t>(prefix.size());
  for (int32_t i = row.start; i + 1 < end; ++i) cell(i) = prefix[static_cast<size_t>(i) + 1];
  cell(end - 1) = row.next.value_or(-1);
  if (!row.sample) return;
  const int32_t kept = end - 1 - row.num_drafts + static_cast<int32_t>(result.tokens.size()) - 1;
  cell(kept) = result.tokens.back();
  if (row.want_drafts == 0) return;
  for (int32_t i = 0; i < kept; ++i)
    WEIR_CHECK(cell(i) == prefix[static_cast<size_t>(i) + 1] || (i < row.start && i % kPageTokens == kPageTokens - 1),
               "the head of sequence ", index(row.seq), " has a hole at ", i);

  Sampling sample = *row.sample;
  sample.output_index += static_cast<int32_t>(result.tokens.size());
  uint64_t digest = mix(digests[static_cast<size_t>(kept) + 1], static_cast<uint64_t>(result.tokens.back()));
  for (int32_t i = 0; i < row.want_drafts; ++i, ++sample.output_index) {
    if (mix(digest, 13) % 20 == 0) return;  // a head may have nothing to say
    Token guess = draw(digest, sample, config_);
    if (mix(digest, 11) % 4 == 0) guess = (guess + 1) % kFakeVocab;
    result.drafts.push_back(guess);
    digest = mix(digest, static_cast<uint64_t>(guess));
    const int32_t position = kept + 1 + i;
    if (position >= static_cast<int32_t>(row.pages.size()) * kPageTokens) return;
    if (i + 1 < row.want_drafts) cell(position) = -1;
  }
}

// As the delta net does: the state before the position's block, the log of that block, and the last inputs of the convolution, of which
// those before the row are only what the slot read from had.
void FakeExecutor::store(const State& read, const SeqStep& row, const std::vector<uint64_t>& digests, int32_t position, SlotId slot) {
  State& out = slots_[static_cast<size_t>(index(slot))];
  out.block = (position - 1) / kSlotBlock * kSlotBlock;
  out.digests.assign(digests.begin() + out.block, digests.begin() + position + 1);
  out.oldest_input = std::max(row.start > 0 ? read.oldest_input : 0, position - kConvolution - kSlotHistory);
}

}  // namespace weir::testing
