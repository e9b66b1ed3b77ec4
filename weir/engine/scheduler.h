// Decides what every sequence computes in the next step, and takes in what came of it. One rule and no modes: running sequences
// first, then waiting ones; each wants the tokens it has not computed yet and gets them, or what the token budget leaves. Whole
// prompts, chunks of long ones, single decode tokens and recomputation after preemption all follow from it.
//
// A sequence that is let in begins behind what the prefix cache has of it; what it computes is published as it goes, and its slot when it
// ends, is aborted or preempted. What a failed step may have left half-written is not.
//
// Guesses are tokens behind the last one of a row. What is computed for them counts when they turn out right; otherwise the slot is read
// before them and their keys and values are written over. Nothing that is not verified is ever published.
//
// Invariants: a running sequence holds one slot and the pages of all its tokens but the one sampled last, and at most those of kMaxDrafts
// tokens more; a waiting one holds nothing; the first running sequence in RunsBefore order is never preempted and is in every plan; every
// added request gets exactly one output with `finish`. Engine thread only. Knows requests, plans and ids; no clock, no queue, no executor.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "weir/cache/cache_manager.h"
#include "weir/core/config.h"
#include "weir/core/plan.h"
#include "weir/core/request.h"
#include "weir/engine/draft_policy.h"
#include "weir/engine/policy.h"
#include "weir/engine/sequence.h"

namespace weir {

struct Add {
  Request request;
};
struct Abort {
  RequestId id;
};
struct ResetPrefixCache {};
using Command = std::variant<Add, Abort, ResetPrefixCache>;

class Scheduler {
 public:
  struct Counters {
    int64_t prompt_tokens = 0;      // computed, recomputation included
    int64_t generation_tokens = 0;  // sampled
    int64_t preemptions = 0;
    int64_t prefix_queries = 0, prefix_hits = 0;  // tokens of prompts, each request counted once
    int64_t tier_queries = 0, tier_hits = 0;      // tokens that the pages here did not have, and those that the second tier had
    DraftCounters speculation;
  };

  // Borrows cache, which must hold nothing. Throws Error(kInvalidArgument) for settings nothing could run with.
  Scheduler(EngineConfig config, CacheManager& cache);

  // Add has passed check_request, and its id is not in use. Abort returns the last output of the request; unknown ids are ignored.
  std::optional<RequestOutput> apply(Command command);

  // Bookkeeping only. Has at least one row unless idle().
  StepPlan plan();
  // A plan that has been committed: its memory is used for the next one.
  void recycle(StepPlan plan);

  // Takes in the result of the last plan, one row per row of the plan, in order and well-formed (see check_result); what it leaves of it is
  // for the next step to fill again. `seconds` is how long the ranks took, for the choice of how much to guess; 0: unknown. `storage`: what
  // is returned uses its memory.
  std::vector<RequestOutput> commit(const StepPlan& plan, StepResult&& result, double seconds = 0, std::vector<RequestOutput> storage = {});

  // The step failed as a whole: finishes every sequence of the plan with kError.
  std::vector<RequestOutput> fail_rows(const StepPlan& plan, const std::string& error);

  // Finishes everything.
  std::vector<RequestOutput> finish_all(const Finish& finish);

  bool idle() const { return sequences_.empty(); }
  int32_t num_running() const { return static_cast<int32_t>(running_.size()); }
  int32_t num_waiting() const { return static_cast<int32_t>(waiting_.size()); }
  const Counters& counters() const { return counters_; }

  // Aborts the program when an invariant is broken: page and slot counts against what sequences hold. O(sequences).
  void check_invariants() const;

 private:
  using Queue = std::set<Sequence*, RunsBefore>;

  void add(Request request);
  void give_pages_to_running();
  int32_t admit(Sequence& seq, int32_t budget, bool may_split_block);
  bool fetch(Sequence& seq, PrefixMatch& match);
  void set_fetching(Sequence& seq, bool is_fetching);
  void count_lookup(Sequence& seq, const PrefixMatch& match);
  void add_snapshots(SeqStep& row);
  void preempt(Sequence& seq);
  int32_t grow_for_drafts(Sequence& seq, int32_t num_drafts);
  void fill_row(SeqStep& row, const Sequence& seq, int32_t num_tokens, int32_t num_drafts, int32_t want_drafts) const;
  void take_tokens(Sequence& seq, const SeqStep& row, RowResult& result, std::optional<Finish>& reason);
  std::optional<RequestOutput> commit_row(const SeqStep& row, RowResult result);
  RequestOutput finish(Sequence& seq, RequestOutput last, Finish reason);  // seq is gone afterwards
  Sequence& sequence(SeqId id);

  EngineConfig config_;
  CacheManager& cache_;
  std::unordered_map<SeqId, std::unique_ptr<Sequence>> sequences_;
  std::unordered_map<RequestId, SeqId> by_request_;
  Queue running_, waiting_;  // every sequence is in exactly one, as its status says
  DraftPolicy draft_policy_;
  // Of the plan being made: running sequences that have their pages, those that decode apart from those inside their prompts.
  std::vector<Sequence*> decodes_, prompts_;
  StepPlan spare_plan_;  // recycled: its rows, and those in spare_rows_, only lend their memory
  std::vector<SeqStep> spare_rows_;
  int32_t num_fetching_ = 0;  // waiting sequences that are
  uint64_t num_added_ = 0, num_plans_ = 0;
  Counters counters_;
};

// Throws Error(kInternal) when a result does not fit its plan: an executor may be a remote program.
void check_result(const StepPlan& plan, const StepResult& result);

}  // namespace weir
