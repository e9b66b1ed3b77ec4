// How many tokens to guess per sequence. Guessing pays where the tokens it wins outweigh the time it adds, and both depend on model,
// machine, text and the number of sequences. So both are measured: how often the guess at each position is right, and how much longer a
// step with so many guesses takes than one without. The choice is the best quotient; 0 is a choice like any other, and the one that doubt
// decides for.
//
// Measuring needs steps that are not the best ones: probes, of a few steps each. A probe is compared with the steps before and after it,
// because a machine that does something else for a while would make the one look dear and the others cheap: of the two comparisons the
// one that speaks against guessing counts. What a probe is expected to lose says how seldom it comes: all of them together cost about half
// a percent.
// Engine thread only. No clock: whoever runs the steps says how long they took.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "weir/core/config.h"

namespace weir {

class DraftPolicy {
 public:
  // REQUIRES: num_drafts in [0, kMaxDrafts]
  explicit DraftPolicy(const SpeculationConfig& config);

  // Guesses per sequence in a step in which `num_decoding` sequences stream. Call it once per step.
  int32_t choose(int32_t num_decoding);

  // Of the first `num_drafts` guesses of a sequence, `num_accepted` were right before one was wrong.
  void saw_row(int32_t num_drafts, int32_t num_accepted);

  // The step of the last choose() did nothing but decode its sequences, and took so long.
  void saw_step(double seconds);

  // Tokens that a step with `num_drafts` guesses is expected to give a sequence: 1 … 1 + num_drafts.
  double expected_tokens(int32_t num_drafts) const;

 private:
  static constexpr int32_t kNoProbe = -1;

  // What is known of steps with about the same number of sequences.
  struct Load {
    std::array<double, kMaxDrafts + 1> cost{};  // of a step with so many guesses, in steps without any; 0: never measured
    int32_t best = 0;
    int32_t probe = kNoProbe;               // guesses of the probe under way
    bool probed_up = true;                  // the last probe was of more guesses than the best
    std::vector<double> steady;             // seconds of the latest steps with `best` guesses
    std::vector<double> probed;             // and of the steps of a probe, until it has been compared with those after it
    double before = 0;                      // median of those before it
    int64_t interval = 0, until_probe = 0;  // in steady steps
  };

  Load& load_of(int32_t num_decoding);
  void begin_probe(Load& load) const;
  void compare_probe(Load& load) const;
  void set_best(Load& load) const;
  double cost(const Load& load, int32_t num_drafts) const;
  double rate(const Load& load, int32_t num_drafts) const;  // tokens of a sequence in the time of a step without guesses; 0: unknown

  SpeculationConfig config_;
  std::array<double, kMaxDrafts + 1> accepted_{};  // [i]: share of right guesses at position i among those whose predecessors were right
  std::array<int64_t, kMaxDrafts + 1> seen_{};
  std::map<int32_t, Load> loads_;
  Load* current_ = nullptr;  // of the last choose()
  int32_t chosen_ = 0, chosen_before_ = 0;
};

}  // namespace weir
