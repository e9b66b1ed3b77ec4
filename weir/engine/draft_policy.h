// How many tokens to guess per sequence. Guessing pays where the tokens it wins outweigh the time it adds, and both depend on model,
// machine, text and the number of sequences. So both are measured: how often the guess at each position is right, and how long a step
// takes by (sequences, guesses). The choice is the best quotient; 0 is a choice like any other, and the one that doubt decides for.
//
// Measuring needs steps that are not the best ones: every choice is compared with no guess and with one more at growing intervals. At the
// longest interval that is 3 of 512 steps.
// Engine thread only. No clock: whoever runs the steps says how long they took.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>

#include "weir/core/config.h"

namespace weir {

class DraftPolicy {
 public:
  // REQUIRES: num_drafts in [0, kMaxDrafts]
  explicit DraftPolicy(const SpeculationConfig& config);

  // Guesses per sequence in a step in which `num_decoding` sequences stream. Advances the measuring schedule: call it once per step.
  int32_t choose(int32_t num_decoding);

  // Of the first `num_drafts` guesses of a sequence, `num_accepted` were right before one was wrong.
  void saw_row(int32_t num_drafts, int32_t num_accepted);

  // The step of the last choose() did nothing but decode its sequences, and took so long.
  void saw_step(double seconds);

  // Tokens that a step with `num_drafts` guesses is expected to give a sequence: 1 … 1 + num_drafts.
  double expected_tokens(int32_t num_drafts) const;

 private:
  using PerDrafts = std::array<double, kMaxDrafts + 1>;

  // What is known of steps with about the same number of sequences.
  struct Load {
    PerDrafts seconds{};                     // smoothed; 0: not measured
    std::array<bool, kMaxDrafts + 1> own{};  // measured here, not taken over from another load
    int32_t best = 0;
    int64_t steps = 0, next_probe = 0, interval = 0;
    int32_t probe = 0, probe_steps = 0;  // guesses of the probe under way, steps left of it
    int32_t best_before_probe = 0;
  };

  Load& load_of(int32_t num_decoding);
  double seconds(const Load& load, int32_t num_drafts) const;
  int32_t best(const Load& load) const;

  SpeculationConfig config_;
  PerDrafts accepted_{};  // [i]: share of right guesses at position i among those whose predecessors were right
  std::array<int64_t, kMaxDrafts + 1> seen_{};
  std::map<int32_t, Load> loads_;
  Load* current_ = nullptr;  // of the last choose()
  int32_t chosen_ = 0, chosen_before_ = 0;
};

}  // namespace weir
