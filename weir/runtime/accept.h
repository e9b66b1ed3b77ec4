// Verification of drafts: draw the token of each position as if it were decoded alone, and go on for as long as the draft agrees.
//
// Why this is exact. A draw is a function of (logits, parameters, seed, output index), and the logits of a position do not depend on what
// else was in the step. So the tokens are those of plain decoding, one for one: greedy and sampled, with every penalty and mask. It is also
// rejection sampling against a one-hot proposal (Leviathan et al., arXiv 2211.17192): draft d is kept with probability p(d), else the token
// is p without d.
#pragma once

#include <span>

#include "weir/runtime/sampler.h"

namespace weir {

struct Verdict {
  TokenList tokens;                        // the drafts that agree, then the token drawn where they end: 1 … drafts.size() + 1
  std::vector<PositionLogprobs> logprobs;  // parallel to tokens when asked for
};

// logits: one row per draft and one more, used as scratch. `how` is of the first position. Throws Error when nothing can be drawn.
Verdict verify(std::span<const std::span<float>> logits, std::span<const Token> drafts, const Sampling& how, const SampleContext& context,
               SampleScratch& scratch);

}  // namespace weir
