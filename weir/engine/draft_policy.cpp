#include "weir/engine/draft_policy.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <utility>

namespace weir {
namespace {

constexpr size_t kProbeSteps = 3, kSteadySteps = 5;             // medians of so many
constexpr int64_t kFirstInterval = 16, kLongestInterval = 256;  // steady steps between two probes
constexpr double kProbeLoss = 0.005;                            // of all time, at most about
constexpr double kMargin = 1.02;                                // what a choice must promise over guessing nothing
// Weight of the newest probe, cheaper or dearer than the ones before it (what disturbs a probe makes it dear), and how far it may be off.
constexpr double kCheaperMemory = 0.7, kDearerMemory = 0.3, kMostSurprise = 1.3;
constexpr double kRowMemory = 1.0 / 256, kSeldomRowMemory = 1.0 / 32;  // weight of the newest guess; when only probes guess
constexpr double kPrior = 0.7;                                         // of a guess being right, until some have been seen

// Up to 8 sequences each number is a load of its own; above, four loads per doubling.
int32_t bucket(int32_t num_decoding) {
  if (num_decoding <= 8) return num_decoding;
  const int octave = std::bit_width(static_cast<uint32_t>(num_decoding)) - 1;
  return octave * 4 + ((num_decoding >> (octave - 2)) & 3);
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

DraftPolicy::DraftPolicy(const SpeculationConfig& config) : config_(config) { accepted_.fill(kPrior); }

int32_t DraftPolicy::choose(int32_t num_decoding) {
  current_ = nullptr;
  if (!config_.adaptive || config_.num_drafts == 0) return config_.num_drafts;
  if (num_decoding == 0) return chosen_;  // prompts alone: as the step before
  current_ = &load_of(num_decoding);
  chosen_before_ = chosen_;
  chosen_ = current_->probe != kNoProbe ? current_->probe : current_->best;
  return chosen_;
}

void DraftPolicy::saw_row(int32_t num_drafts, int32_t num_accepted) {
  const double memory = current_ != nullptr && current_->best == 0 ? kSeldomRowMemory : kRowMemory;
  for (int32_t i = 1; i <= std::min(num_drafts, num_accepted + 1); ++i) {
    const auto at = static_cast<size_t>(i);
    const double weight = std::max(memory, 1.0 / static_cast<double>(2 + seen_[at]++));
    accepted_[at] += weight * ((i <= num_accepted ? 1.0 : 0.0) - accepted_[at]);
  }
}

void DraftPolicy::saw_step(double seconds) {
  // A step that guesses more than the one before verifies fewer than it guesses: its time is nobody's.
  if (current_ == nullptr || chosen_ > chosen_before_) return;
  Load& load = *current_;
  if (load.probe != kNoProbe) {
    load.probed.push_back(seconds);
    if (load.probed.size() == kProbeSteps) load.probe = kNoProbe;
    return;
  }
  if (load.steady.size() == kSteadySteps) load.steady.erase(load.steady.begin());
  load.steady.push_back(seconds);
  --load.until_probe;
  if (load.steady.size() < kSteadySteps) return;
  if (!load.probed.empty())
    compare_probe(load);
  else if (load.until_probe <= 0)
    begin_probe(load);
  else
    set_best(load);  // the guesses may have become better or worse
}

// Alternately of one guess more and of none, from which the margin is measured.
void DraftPolicy::begin_probe(Load& load) const {
  load.probed_up = load.best == 0 || (load.best < config_.num_drafts && !load.probed_up);
  load.probe = load.probed_up ? load.best + 1 : 0;
  load.before = median(load.steady);
  load.steady.clear();
}

void DraftPolicy::compare_probe(Load& load) const {
  const double probed = median(std::exchange(load.probed, {})), after = median(load.steady);
  const auto learn = [&](int32_t num_drafts, double seen) {
    double& known = load.cost[static_cast<size_t>(num_drafts)];
    if (known == 0) known = seen;
    known += (seen < known ? kCheaperMemory : kDearerMemory) * (std::clamp(seen, known / kMostSurprise, known * kMostSurprise) - known);
  };
  const int32_t before = load.best;
  if (load.probed_up)
    learn(before + 1, cost(load, before) * probed / std::min(load.before, after));
  else
    learn(before, std::max(load.before, after) / probed);
  set_best(load);
  load.interval = load.best == before ? std::min(2 * load.interval, kLongestInterval) : kFirstInterval;
  // The next probe loses what the other choice is worse by.
  const double loss = 1 - rate(load, load.best == 0 ? 1 : 0) / rate(load, load.best);
  const auto affordable = static_cast<int64_t>(static_cast<double>(kProbeSteps + 1) * std::max(loss, 0.0) / kProbeLoss);
  load.until_probe = std::max(load.interval, affordable);
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
  load.interval = load.until_probe = kFirstInterval;
  const auto neighbour = it != loads_.begin() ? std::prev(it) : std::next(it);
  if (neighbour != loads_.end()) {
    load.cost = neighbour->second.cost;
    load.best = neighbour->second.best;
  } else {
    load.until_probe = kSteadySteps;
  }
  return load;
}

// Measured, or on the line through the nearest two that are.
double DraftPolicy::cost(const Load& load, int32_t num_drafts) const {
  if (num_drafts == 0) return 1;
  const auto known = [&](int32_t k) { return k == 0 ? 1.0 : load.cost[static_cast<size_t>(k)]; };
  if (known(num_drafts) > 0) return known(num_drafts);
  int32_t below = num_drafts, above = num_drafts;
  while (known(below) == 0) --below;
  while (above < config_.num_drafts && known(above) == 0) ++above;
  if (known(above) == 0) {  // beyond what was tried
    if (below == 0) return 0;
    above = below--;
    while (known(below) == 0) --below;
  }
  return known(below) + (num_drafts - below) * (known(above) - known(below)) / (above - below);
}

double DraftPolicy::rate(const Load& load, int32_t num_drafts) const {
  const double steps = cost(load, num_drafts);
  return steps > 0 ? expected_tokens(num_drafts) / steps : 0;
}

void DraftPolicy::set_best(Load& load) const {
  int32_t best = 0;
  double most = kMargin;
  for (int32_t k = 1; k <= config_.num_drafts; ++k)
    if (const double tokens = rate(load, k); tokens > most) most = tokens, best = k;
  if (best != load.best) load.steady.clear();
  load.best = best;
}

}  // namespace weir
