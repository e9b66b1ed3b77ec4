#include "weir/runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "weir/base/error.h"
#include "weir/base/mix.h"
#include "weir/kernels/cpu/elementwise.h"
#include "weir/kernels/cpu/isa.h"

namespace weir {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

void mask(std::span<float> logits, Token id) {
  if (id >= 0 && static_cast<size_t>(id) < logits.size()) logits[static_cast<size_t>(id)] = kMasked;
}

bool changes_logits(const Sampling& how) {
  const SamplingParams& p = *how.params;
  return !p.logit_bias.empty() || !p.allowed_token_ids.empty() || !p.bad_words.empty() || how.output_index < p.min_tokens ||
         p.repetition_penalty != 1.0f || p.frequency_penalty != 0.0f || p.presence_penalty != 0.0f;
}

void apply_bias_and_masks(std::span<float> logits, const Sampling& how, const SampleContext& context, std::vector<float>& kept) {
  const SamplingParams& p = *how.params;
  for (const auto& [id, bias] : p.logit_bias)
    if (static_cast<size_t>(id) < logits.size()) logits[static_cast<size_t>(id)] += bias;
  if (!p.allowed_token_ids.empty()) {
    kept.clear();
    for (const Token id : p.allowed_token_ids)
      kept.push_back(static_cast<size_t>(id) < logits.size() ? logits[static_cast<size_t>(id)] : kMasked);
    std::fill(logits.begin(), logits.end(), kMasked);
    for (size_t i = 0; i < kept.size(); ++i)
      if (static_cast<size_t>(p.allowed_token_ids[i]) < logits.size()) logits[static_cast<size_t>(p.allowed_token_ids[i])] = kept[i];
  }
  const std::span<const Token> output =
      std::span(how.history).subspan(std::min(how.history.size(), static_cast<size_t>(how.prompt_tokens)));
  for (const std::vector<Token>& word : p.bad_words) {
    if (word.empty()) continue;
    const size_t head = word.size() - 1;  // the last token is forbidden when the ones before it were just generated
    if (output.size() >= head && std::equal(word.begin(), word.end() - 1, output.end() - static_cast<ptrdiff_t>(head)))
      mask(logits, word.back());
  }
  if (how.output_index < p.min_tokens) {
    for (const Token id : context.eos_token_ids) mask(logits, id);
    for (const Token id : p.stop_token_ids) mask(logits, id);
  }
}

// As vLLM: repetition over prompt and output (divide positive, multiply negative logits), frequency and presence over the output.
void apply_penalties(std::span<float> logits, const Sampling& how, std::vector<SampleScratch::Seen>& seen) {
  const SamplingParams& p = *how.params;
  if (p.repetition_penalty == 1.0f && p.frequency_penalty == 0.0f && p.presence_penalty == 0.0f) return;
  seen.clear();
  for (size_t i = 0; i < how.history.size(); ++i) seen.push_back({how.history[i], static_cast<int32_t>(i) >= how.prompt_tokens ? 1 : 0});
  std::sort(seen.begin(), seen.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  for (size_t begin = 0, end = 0; begin < seen.size(); begin = end) {
    const Token id = seen[begin].id;
    int32_t in_output = 0;
    for (; end < seen.size() && seen[end].id == id; ++end) in_output += seen[end].in_output;
    if (id < 0 || static_cast<size_t>(id) >= logits.size()) continue;
    float& logit = logits[static_cast<size_t>(id)];
    logit = logit > 0 ? logit / p.repetition_penalty : logit * p.repetition_penalty;
    if (in_output > 0) logit -= p.frequency_penalty * static_cast<float>(in_output) + p.presence_penalty;
  }
}

using Candidate = SampleScratch::Candidate;
bool likelier(const Candidate& a, const Candidate& b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

const cpu::ElementwiseKernels& kernels() { return cpu::elementwise_kernels(cpu::active_isa()); }

// Fewer candidates than this are kept in a heap while looking at all logits.
constexpr size_t kSmallTopK = 1024;
// Of 1 / temperature: finite, so that the best token's 0 times it stays 0.
constexpr float kSteepest = 1e30f;
// Weights are added up in blocks: F32 inside, F64 over them.
constexpr size_t kBlock = 512;

// The k likeliest of the logits at or above `floor`, likeliest first. The worst of the heap is the bar, and most logits of a large
// vocabulary fall below it.
void take_top_k(std::span<const float> logits, float floor, size_t k, std::vector<Candidate>& best) {
  best.clear();
  best.reserve(kSmallTopK);
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] == kMasked || logits[i] < floor || (best.size() == k && logits[i] < best.front().logit)) continue;
    const Candidate c{logits[i], static_cast<Token>(i)};
    if (best.size() < k) {
      best.push_back(c);
      std::push_heap(best.begin(), best.end(), likelier);
    } else if (likelier(c, best.front())) {
      std::pop_heap(best.begin(), best.end(), likelier);
      best.back() = c;
      std::push_heap(best.begin(), best.end(), likelier);
    }
  }
  std::sort_heap(best.begin(), best.end(), likelier);
}

// The likeliest candidates, likeliest first, of which together weigh `wanted` and no shorter list does; at most `most`. Sorted only as far
// as that takes: of a trained model some dozen candidates, whatever the vocabulary.
void take_heaviest(std::span<const float> logits, std::span<const float> weights, double wanted, double lightest, size_t most,
                   std::vector<Candidate>& best) {
  best.clear();
  best.reserve(logits.size());
  for (size_t i = 0; i < logits.size(); ++i)
    if (weights[i] > 0 && weights[i] >= lightest) best.push_back({logits[i], static_cast<Token>(i)});
  const auto weight = [&](const Candidate& c) { return static_cast<double>(weights[static_cast<size_t>(c.id)]); };
  double sum = 0;
  for (size_t sorted = 0, step = 64; sorted < best.size(); step *= 8) {
    const size_t end = std::min(best.size(), sorted + step);
    const auto from = best.begin() + static_cast<ptrdiff_t>(sorted), to = best.begin() + static_cast<ptrdiff_t>(end);
    std::nth_element(from, to, best.end(), likelier);
    std::sort(from, to, likelier);
    for (; sorted < end; ++sorted) {
      if (sorted == most || (sorted > 0 && sum >= wanted)) {
        best.resize(sorted);
        return;
      }
      sum += weight(best[sorted]);
    }
  }
}

// The candidate at which the running sum of weights passes `share` of their total.
Token draw_among(const std::vector<Candidate>& candidates, double share, double top_p, float max_logit, float temperature,
                 std::vector<double>& weights) {
  weights.reserve(candidates.capacity());
  weights.resize(candidates.size());
  double total = 0;
  for (size_t i = 0; i < candidates.size(); ++i)
    total += weights[i] = std::exp((static_cast<double>(candidates[i].logit) - max_logit) / temperature);
  // The shortest likeliest prefix that holds the share top_p.
  size_t count = candidates.size();
  if (top_p < 1.0) {
    const double bar = total * top_p;
    double sum = 0;
    count = 0;
    while (count < candidates.size() && (count == 0 || sum < bar)) sum += weights[count++];
    total = sum;
  }
  double sum = 0;
  for (size_t i = 0; i < count; ++i) {
    sum += weights[i];
    if (share * total < sum) return candidates[i].id;
  }
  return candidates[count - 1].id;  // rounding of the last addition
}

// With nothing but min_p, in the order of ids: no sorting at all.
Token draw_among_all(std::span<const float> weights, std::span<const double> block_sums, double target) {
  double sum = 0;
  Token last = 0;
  for (size_t b = 0; b < block_sums.size(); ++b) {
    if (sum + block_sums[b] <= target) {
      sum += block_sums[b];
      continue;
    }
    const size_t end = std::min(weights.size(), (b + 1) * kBlock);
    for (size_t i = b * kBlock; i < end; ++i) {
      if (weights[i] == 0) continue;
      last = static_cast<Token>(i);
      sum += weights[i];
      if (sum > target) return last;
    }
  }
  if (weights[static_cast<size_t>(last)] > 0) return last;  // rounding: the block's sum was a little more than the sum of its parts
  for (size_t i = weights.size(); i-- > 0;)
    if (weights[i] > 0) return static_cast<Token>(i);
  return last;
}

Token draw(std::span<const float> logits, const Sampling& how, float max_logit, SampleScratch& scratch) {
  const SamplingParams& p = *how.params;
  // min_p in logit space: p_i >= min_p * p_max  <=>  logit_i >= max + log(min_p) * temperature.
  const float floor = p.min_p > 0 ? max_logit + std::log(p.min_p) * p.temperature : kMasked;
  const double share = uniform(how.seed, static_cast<uint64_t>(how.output_index));
  const size_t top_k = p.top_k > 0 ? std::min(static_cast<size_t>(p.top_k), logits.size()) : logits.size();
  if (top_k < logits.size() && top_k <= kSmallTopK) {
    take_top_k(logits, floor, top_k, scratch.candidates);
    return draw_among(scratch.candidates, share, p.top_p, max_logit, p.temperature, scratch.sums);
  }

  const float scale = std::min(1.0f / p.temperature, kSteepest);
  scratch.weights.resize(logits.size());
  scratch.sums.clear();
  double total = 0;
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const size_t count = std::min(kBlock, logits.size() - begin);
    float* const weights = scratch.weights.data() + begin;
    float sum = kernels().weights(logits.data() + begin, max_logit, scale, weights, static_cast<int64_t>(count));
    if (p.min_p > 0) {
      sum = 0;
      for (size_t i = 0; i < count; ++i) sum += weights[i] = logits[begin + i] >= floor ? weights[i] : 0.0f;
    }
    scratch.sums.push_back(sum);
    total += sum;
  }
  if (top_k == logits.size() && p.top_p >= 1.0f) return draw_among_all(scratch.weights, scratch.sums, share * total);
  // What is lighter than this does not weigh 1 - top_p even if all of the vocabulary is: it is behind the prefix that is looked for.
  const double lightest = top_k == logits.size() ? (1.0 - p.top_p) * total / static_cast<double>(2 * logits.size()) : 0.0;
  const double wanted = top_k == logits.size() ? total * p.top_p : std::numeric_limits<double>::infinity();
  take_heaviest(logits, scratch.weights, wanted, lightest, top_k, scratch.candidates);
  return draw_among(scratch.candidates, share, top_k == logits.size() ? 1.0 : p.top_p, max_logit, p.temperature, scratch.sums);
}

}  // namespace

double uniform(uint64_t seed, uint64_t n) {
  // A second round decorrelates neighbouring seeds.
  const uint64_t x = mix(mix(seed + kGolden * (n + 1)) + kGolden) + kGolden;
  return static_cast<double>(x >> 11) * 0x1.0p-53;
}

Token argmax(std::span<const float> logits) {
  const float best = kernels().largest(logits.data(), static_cast<int64_t>(logits.size()));
  if (!(best > kMasked && best < std::numeric_limits<float>::infinity())) return -1;
  return static_cast<Token>(std::find(logits.begin(), logits.end(), best) - logits.begin());
}

PositionLogprobs top_logprobs(std::span<const float> logits, Token token, int32_t k) {
  const float max_logit = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const float logit : logits) total += std::exp(static_cast<double>(logit) - max_logit);
  const double log_total = std::log(total) + max_logit;
  const auto entry = [&](Token id, int32_t rank) {
    return TokenLogprob{id, static_cast<float>(static_cast<double>(logits[static_cast<size_t>(id)]) - log_total), rank};
  };
  const bool known = static_cast<size_t>(token) < logits.size();  // a prompt may hold ids beyond the tokenizer's
  const Candidate own{known ? logits[static_cast<size_t>(token)] : kMasked, token};
  int32_t rank = 1;
  std::vector<Candidate> best;
  for (size_t i = 0; i < logits.size(); ++i) {
    const Candidate c{logits[i], static_cast<Token>(i)};
    rank += likelier(c, own) ? 1 : 0;
    if (k == 0 || (static_cast<int32_t>(best.size()) == k && !likelier(c, best.back()))) continue;
    if (static_cast<int32_t>(best.size()) == k) best.pop_back();
    best.insert(std::upper_bound(best.begin(), best.end(), c, likelier), c);
  }
  PositionLogprobs out{known ? entry(token, rank) : TokenLogprob{token, kMasked, rank}};
  for (size_t i = 0; i < best.size(); ++i) out.push_back(entry(best[i].id, static_cast<int32_t>(i) + 1));
  return out;
}

Sample sample(std::span<float> all_logits, const Sampling& how, const SampleContext& context, SampleScratch& scratch) {
  const std::span<float> logits = all_logits.first(std::min(all_logits.size(), static_cast<size_t>(context.num_tokens)));
  Token best = argmax(logits);
  if (best < 0) fail(ErrorCode::kInternal, "the model produced non-finite logits");
  const SamplingParams& p = *how.params;
  if (p.logprobs) scratch.raw.assign(logits.begin(), logits.end());  // those of the distribution before any parameter changed it
  if (changes_logits(how)) {
    apply_bias_and_masks(logits, how, context, scratch.kept);
    apply_penalties(logits, how, scratch.seen);
    best = argmax(logits);
  }
  if (best < 0)
    fail(ErrorCode::kInvalidArgument,
         "no token is left to choose from: allowed_token_ids, bad_words, logit_bias and min_tokens exclude all");
  Sample out;
  out.token = p.temperature == 0 ? best : draw(logits, how, logits[static_cast<size_t>(best)], scratch);
  if (p.logprobs) out.logprobs = top_logprobs(scratch.raw, out.token, *p.logprobs);
  return out;
}

}  // namespace weir
