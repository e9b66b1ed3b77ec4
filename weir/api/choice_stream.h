// One choice of an answer: tokens of the engine in, text out. Detokenizer, stop strings, reasoning split and bookkeeping of logprobs
// in one place, without sockets or JSON. What push() learns gathers until take(), so a slow reader costs one growing delta and
// not a queue; joined together, the deltas are the same however the outputs and the takes fall.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "weir/core/request.h"
#include "weir/text/detokenizer.h"
#include "weir/text/reasoning.h"
#include "weir/text/stop_strings.h"

namespace weir {

struct ChoiceOptions {
  std::vector<std::string> stop;
  bool include_stop = false;  // the stop string or stop token stays in the text
  bool skip_special = true;
  int32_t min_tokens = 0;             // stop strings in the text of the first min_tokens do not count
  std::vector<Token> stop_token_ids;  // reported as stop_reason; an eos is not
  bool split_reasoning = false;
  bool starts_thinking = false;  // the prompt ends inside a thought
  bool keep_reasoning = true;    // false: thoughts are dropped (include_reasoning)
  std::string prefix;            // content that comes first: echo
};

struct ChoiceEnd {
  FinishReason reason;
  std::variant<std::monostate, Token, std::string> stop_reason;  // the stop token or stop string that ended it
  std::string error;                                             // kError only
};

struct ChoiceDelta {
  std::string content;
  std::string reasoning;
  std::vector<Token> tokens;
  std::vector<PositionLogprobs> logprobs;  // parallel to tokens when asked for, else empty
  std::optional<ChoiceEnd> end;            // in the last delta
};

class ChoiceStream {
 public:
  ChoiceStream(std::shared_ptr<const Tokenizer> tokenizer, ChoiceOptions options);

  // One output of the engine. True: a stop string ended the choice and the engine does not know yet, so its request must be aborted.
  // Outputs after the end are ignored.
  bool push(RequestOutput output);

  // There is text or an end to tell. Tokens alone are not news: they wait for the character they are part of.
  bool has_text() const { return !delta_.content.empty() || !delta_.reasoning.empty() || delta_.end; }
  bool has_tokens() const { return !delta_.tokens.empty(); }
  ChoiceDelta take();

  bool started() const { return started_; }  // the first output came: prompt_logprobs() and usage() are known
  bool finished() const { return end_.has_value(); }
  const std::optional<ChoiceEnd>& end() const { return end_; }  // stays after it was taken
  Usage usage() const;  // completion_tokens and accepted_drafts: those that became part of the answer
  int32_t reasoning_tokens() const { return reasoning_tokens_; }
  // Of prompt tokens 1 … n-1, when asked for.
  const std::vector<PositionLogprobs>& prompt_logprobs() const { return prompt_logprobs_; }

 private:
  bool add_text(const std::string& text);  // true: a stop string is complete
  void add_visible(const std::string& text);
  void count_reasoning(Token token);
  void add_parts(ReasoningParser::Delta parts);
  void finish(FinishReason reason, std::variant<std::monostate, Token, std::string> stop_reason, std::string error = {});

  ChoiceOptions options_;
  Detokenizer detokenizer_;
  StopMatcher stop_matcher_;
  ReasoningParser reasoning_;
  std::optional<Token> think_, end_think_;  // the marker tokens
  bool thinking_;
  bool started_ = false;
  std::optional<ChoiceEnd> end_;
  Usage usage_;
  int32_t reasoning_tokens_ = 0;
  std::vector<PositionLogprobs> prompt_logprobs_;
  ChoiceDelta delta_;
};

}  // namespace weir
