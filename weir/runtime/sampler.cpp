#include "weir/runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "weir/base/error.h"
#include "weir/base/mix.h"

namespace weir {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

void mask(std::span<float> logits, Token id) {
  if (id >= 0 && static_cast<size_t>(id) < logits.size()) logits[static_cast<size_t>(id)] = kMasked;
}

void apply_bias_and_masks(std::span<float> logits, const Sampling& how, const SampleContext& context) {
  const SamplingParams& p = *how.params;
  for (const auto& [id, bias] : p.logit_bias)
    if (static_cast<size_t>(id) < logits.size()) logits[static_cast<size_t>(id)] += bias;
  if (!p.allowed_token_ids.empty()) {
    std::vector<float> kept;
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
void apply_penalties(std::span<float> logits, const Sampling& how) {
  const SamplingParams& p = *how.params;
  if (p.repetition_penalty == 1.0f && p.frequency_penalty == 0.0f && p.presence_penalty == 0.0f) return;
  std::unordered_map<Token, int32_t> output_count;  // 0: in the prompt only
  for (size_t i = 0; i < how.history.size(); ++i) {
    int32_t& count = output_count[how.history[i]];
    if (static_cast<int32_t>(i) >= how.prompt_tokens) ++count;
  }
  for (const auto& [id, count] : output_count) {
    if (id < 0 || static_cast<size_t>(id) >= logits.size()) continue;
    float& logit = logits[static_cast<size_t>(id)];
    logit = logit > 0 ? logit / p.repetition_penalty : logit * p.repetition_penalty;
    if (count > 0) logit -= p.frequency_penalty * static_cast<float>(count) + p.presence_penalty;
  }
}

struct Candidate {
  float logit;
  Token id;
};
bool likelier(const Candidate& a, const Candidate& b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

// The candidates that survive min_p and top_k, likeliest first (fully sorted only as far as needed by top_p).
std::vector<Candidate> truncate(std::span<const float> logits, const SamplingParams& p, float max_logit) {
  // min_p in logit space: p_i >= min_p * p_max  <=>  logit_i >= max + log(min_p).
  const float floor = p.min_p > 0 ? max_logit + std::log(p.min_p) * p.temperature : kMasked;
  std::vector<Candidate> all;
  const size_t wanted = p.top_k > 0 ? static_cast<size_t>(p.top_k) : logits.size();
  if (wanted < logits.size() && wanted <= 1024) {
    // A heap of the k best so far; its worst one is the bar, and most logits of a large vocabulary fall below it.
    for (size_t i = 0; i < logits.size(); ++i) {
      const Candidate c{logits[i], static_cast<Token>(i)};
      if (c.logit == kMasked || c.logit < floor) continue;
      if (all.size() < wanted) {
        all.push_back(c);
        std::push_heap(all.begin(), all.end(), likelier);
      } else if (likelier(c, all.front())) {
        std::pop_heap(all.begin(), all.end(), likelier);
        all.back() = c;
        std::push_heap(all.begin(), all.end(), likelier);
      }
    }
  } else {
    for (size_t i = 0; i < logits.size(); ++i)
      if (logits[i] != kMasked && logits[i] >= floor) all.push_back({logits[i], static_cast<Token>(i)});
  }
  std::sort(all.begin(), all.end(), likelier);
  if (all.size() > wanted) all.resize(wanted);
  return all;
}

Token draw(std::span<const float> logits, const Sampling& how, float max_logit) {
  const SamplingParams& p = *how.params;
  const std::vector<Candidate> candidates = truncate(logits, p, max_logit);
  std::vector<double> weight(candidates.size());
  double total = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    weight[i] = std::exp((static_cast<double>(candidates[i].logit) - max_logit) / p.temperature);
    total += weight[i];
  }
  // top_p: the shortest likeliest prefix that holds the share top_p of what min_p and top_k left.
  size_t count = candidates.size();
  if (p.top_p < 1.0f) {
    const double bar = total * p.top_p;
    double sum = 0;
    count = 0;
    while (count < candidates.size() && (count == 0 || sum < bar)) sum += weight[count++];
    total = sum;
  }
  const double target = uniform(how.seed, static_cast<uint64_t>(how.output_index)) * total;
  double sum = 0;
  for (size_t i = 0; i < count; ++i) {
    sum += weight[i];
    if (target < sum) return candidates[i].id;
  }
  return candidates[count - 1].id;  // rounding of the last addition
}

}  // namespace

double uniform(uint64_t seed, uint64_t n) {
  // A second round decorrelates neighbouring seeds.
  const uint64_t x = mix(mix(seed + kGolden * (n + 1)) + kGolden) + kGolden;
  return static_cast<double>(x >> 11) * 0x1.0p-53;
}

Token argmax(std::span<const float> logits) {
  float best = kMasked;
  Token at = -1;
  bool finite = true;
  for (size_t i = 0; i < logits.size(); ++i) {
    finite &= !(logits[i] != logits[i]);
    if (logits[i] > best) {
      best = logits[i];
      at = static_cast<Token>(i);
    }
  }
  return finite && best < std::numeric_limits<float>::infinity() ? at : -1;
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

Sample sample(std::span<float> all_logits, const Sampling& how, const SampleContext& context) {
  const std::span<float> logits = all_logits.first(std::min(all_logits.size(), static_cast<size_t>(context.num_tokens)));
  if (argmax(logits) < 0) fail(ErrorCode::kInternal, "the model produced non-finite logits");
  const SamplingParams& p = *how.params;
  std::vector<float> raw;  // log-probabilities are of the distribution before any parameter changed it
  if (p.logprobs) raw.assign(logits.begin(), logits.end());
  apply_bias_and_masks(logits, how, context);
  apply_penalties(logits, how);
  const Token best = argmax(logits);
  if (best < 0)
    fail(ErrorCode::kInvalidArgument,
         "no token is left to choose from: allowed_token_ids, bad_words, logit_bias and min_tokens exclude all");
  Sample out;
  out.token = p.temperature == 0 ? best : draw(logits, how, logits[static_cast<size_t>(best)]);
  if (p.logprobs) out.logprobs = top_logprobs(raw, out.token, *p.logprobs);
  return out;
}

}  // namespace weir
