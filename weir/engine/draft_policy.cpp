#include "weir/engine/draft_policy.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace weir {
namespace {

constexpr int64_t kFirstInterval = 16, kLongestInterval = 512;  // steps between two probes
constexpr int32_t kProbeSteps = 3;                              // the first of them still verifies as the step before it did
constexpr double kMargin = 1.02;                                // what a choice must promise over guessing nothing
constexpr double kStepMemory = 0.2, kRowMemory = 1.0 / 256;     // weight of the newest measurement
constexpr double kPrior = 0.7;                                  // of a guess being right, until some have been seen

// Up to 8 sequences each number is a load of its own; above, four loads per doubling.
int32_t bucket(int32_t num_decoding) {
  if (num_decoding <= 8) return num_decoding;
  const int octave = std::bit_width(static_cast<uint32_t>(num_decoding)) - 1;
  return octave * 4 + ((num_decoding >> (octave - 2)) & 3);
}

}  // namespace

DraftPolicy::DraftPolicy(const SpeculationConfig& config) : config_(config) { accepted_.fill(kPrior); }

int32_t DraftPolicy::choose(int32_t num_decoding) {
  current_ = nullptr;
  if (!config_.adaptive || config_.num_drafts == 0) return config_.num_drafts;
  if (num_decoding == 0) return chosen_;  // prompts alone: as the step before
  Load& load = load_of(num_decoding);
  current_ = &load;
  chosen_before_ = chosen_;
  ++load.steps;
  const bool was_probing = load.probe_steps > 0;
  if (was_probing) --load.probe_steps;
  if (was_probing && load.probe_steps == 0) {  // the probe is over
    load.best = best(load);
    load.interval = load.best == load.best_before_probe ? std::min(2 * load.interval, kLongestInterval) : kFirstInterval;
    load.next_probe = load.steps + load.interval;
  }
  if (load.probe_steps == 0 && load.steps >= load.next_probe) {
    load.best_before_probe = load.best;
    load.probe_steps = kProbeSteps;
    // Alternately against one guess more and against none, whose time the margin is measured from.
    const bool up = load.best == 0 || (load.best < config_.num_drafts && load.probe == 0);
    load.probe = up ? load.best + 1 : 0;
  }
  chosen_ = load.probe_steps > 0 ? load.probe : load.best;
  return chosen_;
}

void DraftPolicy::saw_row(int32_t num_drafts, int32_t num_accepted) {
  for (int32_t i = 1; i <= std::min(num_drafts, num_accepted + 1); ++i) {
    const auto at = static_cast<size_t>(i);
    const double weight = std::max(kRowMemory, 1.0 / static_cast<double>(2 + seen_[at]++));
    accepted_[at] += weight * ((i <= num_accepted ? 1.0 : 0.0) - accepted_[at]);
  }
}

void DraftPolicy::saw_step(double seconds) {
  // A step that guesses more or less than the one before verifies the other's guesses: it is neither's time.
  if (current_ == nullptr || (chosen_ != chosen_before_ && chosen_ != 0)) return;
  Load& load = *current_;
  const auto at = static_cast<size_t>(chosen_);
  if (!load.own[at] && load.seconds[at] > 0) {
    // Taken over from another load, of which only the proportions hold.
    const double scale = seconds / load.seconds[at];
    for (size_t k = 0; k < load.seconds.size(); ++k)
      if (!load.own[k]) load.seconds[k] *= scale;
  }
  if (load.seconds[at] == 0 || !load.own[at])
    load.seconds[at] = seconds;
  else  // one slow step (a page fault, another program) must not decide
    load.seconds[at] += kStepMemory * (std::min(seconds, 2 * load.seconds[at]) - load.seconds[at]);
  load.own[at] = true;
  if (load.probe_steps == 0) load.best = best(load);
}

double DraftPolicy::expected_tokens(int32_t num_drafts) const {
  double tokens = 1, kept = 1;
  double last = kPrior;
  for (int32_t i = 1; i <= num_drafts; ++i) {
    const auto at = static_cast<size_t>(i);
    if (seen_[at] > 0) last = accepted_[at];  // a position not yet seen is taken to be like the one before it
    kept *= last;
    tokens += kept;
  }
  return tokens;
}

DraftPolicy::Load& DraftPolicy::load_of(int32_t num_decoding) {
  const auto [it, is_new] = loads_.try_emplace(bucket(num_decoding));
  if (!is_new) return it->second;
  Load& load = it->second;
  load.interval = kFirstInterval;
  const auto neighbour = it != loads_.begin() ? std::prev(it) : std::next(it);
  if (neighbour != loads_.end()) {
    load.seconds = neighbour->second.seconds;
    load.best = neighbour->second.best;
    load.next_probe = kFirstInterval;
  } else {
    load.best = 0;
    load.next_probe = 2;  // one step without guesses, then some with one
  }
  return load;
}

// Measured, or on the line through the nearest two that are.
double DraftPolicy::seconds(const Load& load, int32_t num_drafts) const {
  const auto at = static_cast<size_t>(num_drafts);
  if (load.seconds[at] > 0) return load.seconds[at];
  size_t below = at, above = at;
  while (below > 0 && load.seconds[below] == 0) --below;
  while (above < static_cast<size_t>(config_.num_drafts) && load.seconds[above] == 0) ++above;
  if (load.seconds[above] == 0) {  // beyond what was tried
    above = below;
    while (below > 0 && (below == above || load.seconds[below] == 0)) --below;
  }
  if (load.seconds[below] == 0 || load.seconds[above] == 0 || below == above) return 0;
  const double share = (static_cast<double>(at) - static_cast<double>(below)) / static_cast<double>(above - below);
  return load.seconds[below] + share * (load.seconds[above] - load.seconds[below]);
}

int32_t DraftPolicy::best(const Load& load) const {
  const double plain = seconds(load, 0);
  if (plain == 0) return load.best;
  int32_t best = 0;
  double most = kMargin / plain;
  for (int32_t k = 1; k <= config_.num_drafts; ++k) {
    const double time = seconds(load, k);
    if (time == 0) continue;
    const double rate = expected_tokens(k) / time;
    if (rate > most) most = rate, best = k;
  }
  return best;
}

}  // namespace weir
