// The choice of how much to guess, on simulated machines whose best choice is known.
#include "weir/engine/draft_policy.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

namespace weir {
namespace {

// Steps take seconds(sequences, guesses); a guess is right with probability `agreement`.
class Machine {
 public:
  Machine(SpeculationConfig config, double agreement, std::function<double(int, int)> seconds)
      : policy(config), agreement(agreement), seconds_(std::move(seconds)) {}

  void run(int sequences, int steps) {
    std::normal_distribution<double> noise(1.0, 0.05);
    for (int i = 0; i < steps; ++i) {
      if (--burst_ < -quiet) burst_ = std::geometric_distribution<int>(1.0 / 20)(rng_);  // another program is at work for a while
      chosen = policy.choose(sequences);
      ++choices[static_cast<size_t>(chosen)];
      const int verified = std::min(chosen, drafted_);
      const double took = seconds_(sequences, verified) * noise(rng_) * (burst_ > 0 ? 1.7 : 1.0);
      elapsed += seconds_(sequences, verified);
      for (int s = 0; s < sequences; ++s) {
        int accepted = 0;
        while (accepted < verified && std::bernoulli_distribution(agreement)(rng_)) ++accepted;
        if (verified > 0) policy.saw_row(verified, accepted);
        tokens += 1 + accepted;
      }
      policy.saw_step(took);
      drafted_ = chosen;
    }
  }

  double speed_up(int sequences) const { return tokens / elapsed / (sequences / seconds_(sequences, 0)); }
  void forget_totals() { tokens = elapsed = 0, choices = {}; }

  DraftPolicy policy;
  double agreement, tokens = 0, elapsed = 0;
  int32_t chosen = 0;
  std::array<int, kMaxDrafts + 1> choices{};
  int quiet = 1'000'000'000;  // steps between two bursts of another program

 private:
  std::function<double(int, int)> seconds_;
  int drafted_ = 0, burst_ = 0;
  std::mt19937 rng_{3};
};

// One sequence reads the weights, 10 ms, whatever it verifies; many are bound by arithmetic.
double weight_bound(int sequences, int guesses) { return 0.010 + 0.0002 * sequences * (1 + guesses) + 0.0005 * guesses; }
double compute_bound(int sequences, int guesses) { return 0.002 * sequences * (1 + guesses) + 0.0005 * guesses; }

double slightly_too_dear(int sequences, int guesses) { return 0.003 * sequences * (1 + 0.98 * guesses); }
double clearly_worth_it(int, int guesses) { return 0.010 * (1 + 0.35 * guesses); }

TEST(DraftPolicy, LosesNothingToMeasuringEvenOnABusyMachine) {
  for (const int steps : {150, 400, 20'000}) {
    Machine machine({.num_drafts = 3}, 0.8, slightly_too_dear);
    machine.quiet = 30;
    for (int n = 1; n < 32; ++n) machine.run(n, 3);  // requests come in
    machine.forget_totals();
    machine.run(32, steps);
    EXPECT_GT(machine.speed_up(32), 0.988) << steps << " steps";
  }
}

TEST(DraftPolicy, FindsWhatPaysEvenOnABusyMachine) {
  Machine machine({.num_drafts = 3}, 0.8, clearly_worth_it);
  machine.quiet = 30;
  machine.run(1, 200);
  machine.forget_totals();
  machine.run(1, 4000);
  EXPECT_GT(machine.choices[2] + machine.choices[3], 3000);
  EXPECT_GT(machine.speed_up(1), 1.38);  // 1.44 with two guesses or three, always
}

TEST(DraftPolicy, WithoutAdaptationTheNumberIsFixed) {
  DraftPolicy policy({.num_drafts = 3, .adaptive = false});
  for (const int32_t sequences : {1, 7, 200}) EXPECT_EQ(policy.choose(sequences), 3);
}

TEST(DraftPolicy, GuessesTheMostWhereItIsNearlyFree) {
  Machine machine({.num_drafts = 4}, 0.8, weight_bound);
  machine.run(1, 2000);
  EXPECT_EQ(machine.chosen, 4);
  EXPECT_GT(machine.speed_up(1), 2.5);
}

TEST(DraftPolicy, GuessesNothingWhereItCostsMoreThanItWins) {
  Machine machine({.num_drafts = 3}, 0.8, compute_bound);
  machine.run(32, 20'000);
  EXPECT_EQ(machine.chosen, 0);
  EXPECT_GT(machine.speed_up(32), 0.98);
}

TEST(DraftPolicy, GuessesNothingWhereGuessesAreWrong) {
  Machine machine({.num_drafts = 3}, 0.02, weight_bound);
  machine.run(1, 20'000);
  EXPECT_EQ(machine.chosen, 0);
  EXPECT_GT(machine.speed_up(1), 0.98);
}

TEST(DraftPolicy, FindsTheMiddle) {
  // Right half of the time: the k-th guess wins 2^-k tokens and costs a fifth of a step. The best quotient is at 1 or 2.
  Machine machine({.num_drafts = 8}, 0.5, [](int, int guesses) { return 0.01 + 0.002 * guesses; });
  machine.run(1, 3000);
  machine.forget_totals();
  machine.run(1, 3000);
  EXPECT_GT(machine.choices[1] + machine.choices[2], 2700);
}

TEST(DraftPolicy, FollowsATextThatBecomesHarderAndEasier) {
  Machine machine({.num_drafts = 3}, 0.9, [](int, int guesses) { return 0.01 + 0.003 * guesses; });
  machine.run(1, 1500);
  EXPECT_EQ(machine.chosen, 3);
  machine.agreement = 0.05;
  machine.run(1, 1500);
  EXPECT_EQ(machine.chosen, 0);
  machine.agreement = 0.9;
  machine.run(1, 6000);
  EXPECT_EQ(machine.chosen, 3);
}

TEST(DraftPolicy, TakesWhatItKnowsToAnotherLoad) {
  Machine machine({.num_drafts = 3}, 0.8, weight_bound);
  machine.run(4, 1000);
  machine.forget_totals();
  machine.run(5, 12);  // before this load has been measured
  EXPECT_EQ(machine.choices[3], 12);
}

TEST(DraftPolicy, ExpectsWhatItHasSeen) {
  DraftPolicy policy({.num_drafts = 3});
  for (int i = 0; i < 4000; ++i) policy.saw_row(3, i % 2 == 0 ? 3 : 0);  // all or nothing
  EXPECT_NEAR(policy.expected_tokens(1), 1.5, 0.02);
  EXPECT_NEAR(policy.expected_tokens(3), 2.5, 0.06);
  EXPECT_NEAR(policy.expected_tokens(0), 1.0, 1e-9);
}

}  // namespace
}  // namespace weir
