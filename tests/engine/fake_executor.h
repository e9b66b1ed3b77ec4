// A model without arithmetic, for testing everything above the ranks: the next token is a hash of the prefix. It has real caches,
// though: pages hold tokens and slots hold digests of what they have seen, so a plan that reads pages never written, written by
// somebody else, a draft head's page with holes, or a state at a position that a real slot no longer reaches (ops/delta_net.h) fails the
// test at once; so does one in which a row writes what another one reads or writes. Like a rank, it remembers nothing else between plans.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "weir/core/config.h"
#include "weir/core/executor.h"

namespace weir::testing {

constexpr int32_t kFakeVocab = 50;

// What the fake model answers when it is alone and nothing goes wrong.
struct Expected {
  std::vector<Token> tokens;
  std::vector<PositionLogprobs> logprobs, prompt_logprobs;
  FinishReason reason;
};
Expected expected_answer(const Request& request, const EngineConfig& config);

class FakeExecutor final : public Executor {
 public:
  explicit FakeExecutor(EngineConfig config);

  StepResult run(const StepPlan& plan, StepResult storage = {}) override;
  bool prepare() override { return prepares && prepares(); }

  // Called before each plan; may throw, as a broken rank does.
  std::function<void(const StepPlan&)> before_step;
  // Called instead of prepare().
  std::function<bool()> prepares;
  // A text for a row makes it fail, leaving rubbish where it wrote.
  std::function<std::string(const SeqStep&)> row_error;

  // Bytes on their way from the second tier arrive, or are lost, when this says so; nothing: they arrive at once.
  std::function<bool()> arrives, is_lost;

  int64_t tokens_computed() const { return tokens_computed_; }

 private:
  struct State {
    int32_t block = 0;              // its matrix is the one before this token …
    std::vector<uint64_t> digests;  // … and its log has those after: digests of the first block, block + 1, … tokens
    int32_t oldest_input = 0;       // of the convolution
    int32_t end() const { return block + static_cast<int32_t>(digests.size()) - 1; }
  };

  // What a page or a slot holds, in the second tier.
  struct Stored {
    TierLabel label;
    std::vector<Token> page, head;
    State state;
    bool is_near = false;
  };

  void check_plan(const StepPlan& plan) const;
  TierEvents run_tier(const TierOps& ops);
  RowResult run_row(const SeqStep& row);
  void verify(const SeqStep& row, const std::vector<Token>& prefix, const std::vector<uint64_t>& digests, RowResult& result) const;
  void draft(const SeqStep& row, const std::vector<Token>& prefix, const std::vector<uint64_t>& digests, RowResult& result);
  void store(const State& read, const SeqStep& row, const std::vector<uint64_t>& digests, int32_t position, SlotId slot);

  EngineConfig config_;
  std::optional<StepId> last_step_;
  std::vector<std::vector<Token>> pages_;  // [num_pages][kPageTokens]
  std::vector<std::vector<Token>> heads_;  // the draft head's pages: of each token, the one that was taken to follow it
  std::vector<State> slots_;
  std::map<TierId, Stored> tier_;
  std::deque<TierId> fetching_;
  int64_t tokens_computed_ = 0;
};

}  // namespace weir::testing
