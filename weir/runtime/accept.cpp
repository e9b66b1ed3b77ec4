#include "weir/runtime/accept.h"

#include "weir/base/check.h"

namespace weir {

Verdict verify(std::span<const std::span<float>> logits, std::span<const Token> drafts, const Sampling& how, const SampleContext& context,
               SampleScratch& scratch) {
  WEIR_CHECK(logits.size() == drafts.size() + 1, logits.size(), " rows of logits for ", drafts.size(), " drafts");
  Verdict out;
  const auto draw = [&](std::span<float> row, const Sampling& sampling) {
    Sample drawn = sample(row, sampling, context, scratch);
    out.tokens.push_back(drawn.token);
    if (how.params->logprobs) out.logprobs.push_back(std::move(drawn.logprobs));
  };
  draw(logits[0], how);
  if (drafts.empty() || out.tokens.back() != drafts[0]) return out;
  Sampling next = how;
  for (size_t i = 1; i < logits.size(); ++i) {
    ++next.output_index;
    if (!how.history.empty()) next.history.push_back(out.tokens.back());
    draw(logits[i], next);
    if (i < drafts.size() && out.tokens.back() != drafts[i]) break;
  }
  return out;
}

}  // namespace weir
