// A model without arithmetic, for testing everything above the ranks: the next token is a hash of the prefix. It has real caches,
// though: pages hold tokens and slots hold a digest of what they have seen, so a plan that reads pages never written, written by
// somebody else, or a state of another position fails the test at once. Like a rank, it remembers nothing else between plans.
#pragma once

#include <cstdint>
#include <functional>
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

  StepResult run(const StepPlan& plan) override;

  // Called before each plan; may throw, as a broken rank does.
  std::function<void(const StepPlan&)> before_step;
  // A text for a row makes it fail.
  std::function<std::string(const SeqStep&)> row_error;

 private:
  struct State {
    int32_t num_tokens = 0;
    uint64_t digest = 0;
  };

  void check_plan(const StepPlan& plan) const;
  RowResult run_row(const SeqStep& row);

  EngineConfig config_;
  std::optional<StepId> last_step_;
  std::vector<std::vector<Token>> pages_;  // [num_pages][kPageTokens]
  std::vector<State> slots_;
};

}  // namespace weir::testing
