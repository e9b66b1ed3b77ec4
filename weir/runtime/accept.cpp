#include "weir/runtime/accept.h"

#include "weir/base/check.h"

namespace weir {

Verdict verify(std::span<const std::span<float>> logits, std::span<const Token> drafts, Sampling how, const SampleContext& context) {
  WEIR_CHECK(logits.size() == drafts.size() + 1, logits.size(), " rows of logits for ", drafts.size(), " drafts");
  const bool keeps_history = !how.history.empty();
  Verdict out;
  for (size_t i = 0;; ++i) {
    Sample drawn = sample(logits[i], how, context);
    out.tokens.push_back(drawn.token);
    if (how.params->logprobs) out.logprobs.push_back(std::move(drawn.logprobs));
    if (i == drafts.size() || drawn.token != drafts[i]) return out;
    ++how.output_index;
    if (keeps_history) how.history.push_back(drawn.token);
  }
}

}  // namespace weir
