#include "weir/api/choice_stream.h"

#include <algorithm>
#include <utility>

namespace weir {

ChoiceStream::ChoiceStream(std::shared_ptr<const Tokenizer> tokenizer, ChoiceOptions options)
    : options_(std::move(options)),
      detokenizer_(tokenizer, options_.skip_special),
      stop_matcher_(options_.stop, options_.include_stop),
      reasoning_(options_.starts_thinking),
      think_(tokenizer->find("<think>")),
      end_think_(tokenizer->find("</think>")),
      thinking_(options_.starts_thinking) {
  delta_.content = std::move(options_.prefix);
}

Usage ChoiceStream::usage() const {
  Usage out = usage_;
  out.accepted_drafts = std::min(out.accepted_drafts, out.completion_tokens);  // more may be computed than a stop string lets through
  return out;
}

bool ChoiceStream::push(RequestOutput output) {
  if (end_) return false;
  started_ = true;
  const int32_t completion_tokens = usage_.completion_tokens;  // those that became part of the answer are counted here
  usage_ = output.usage;
  usage_.completion_tokens = completion_tokens;
  if (!output.prompt_logprobs.empty()) prompt_logprobs_ = std::move(output.prompt_logprobs);

  const bool stop_token_last = output.finish && output.finish->reason == FinishReason::kStop && output.finish->stop_token;
  for (size_t i = 0; i < output.tokens.size(); ++i) {
    const Token token = output.tokens[i];
    ++usage_.completion_tokens;
    delta_.tokens.push_back(token);
    if (i < output.logprobs.size()) delta_.logprobs.push_back(std::move(output.logprobs[i]));
    count_reasoning(token);
    if (stop_token_last && i + 1 == output.tokens.size() && !options_.include_stop) break;  // it ends the text, it is not part of it
    if (add_text(detokenizer_.push(token))) return !output.finish;
  }
  if (!output.finish) return false;

  if (add_text(detokenizer_.finish())) return false;
  add_visible(stop_matcher_.finish());
  const Finish& last = *output.finish;
  const bool asked_for = stop_token_last && std::ranges::count(options_.stop_token_ids, *last.stop_token);
  if (asked_for)
    finish(last.reason, *last.stop_token);
  else
    finish(last.reason, std::monostate{}, last.error);
  return false;
}

bool ChoiceStream::add_text(const std::string& text) {
  if (text.empty()) return false;
  if (usage_.completion_tokens <= options_.min_tokens) {
    add_visible(text);
    return false;
  }
  const auto match = stop_matcher_.push(text);
  add_visible(match.safe);
  if (!match.matched_index) return false;
  finish(FinishReason::kStop, options_.stop[*match.matched_index]);
  return true;
}

void ChoiceStream::add_visible(const std::string& text) {
  if (text.empty()) return;
  if (!options_.split_reasoning) {
    delta_.content += text;
    return;
  }
  add_parts(reasoning_.push(text));
}

void ChoiceStream::add_parts(ReasoningParser::Delta parts) {
  if (options_.keep_reasoning) delta_.reasoning += parts.reasoning;
  delta_.content += parts.content;
}

void ChoiceStream::count_reasoning(Token token) {
  if (token == end_think_)
    thinking_ = false;
  else if (token == think_ && usage_.completion_tokens == 1)
    thinking_ = true;
  else if (thinking_)
    ++reasoning_tokens_;
}

void ChoiceStream::finish(FinishReason reason, std::variant<std::monostate, Token, std::string> stop_reason, std::string error) {
  if (options_.split_reasoning) add_parts(reasoning_.finish());
  end_ = delta_.end = ChoiceEnd{reason, std::move(stop_reason), std::move(error)};
}

ChoiceDelta ChoiceStream::take() { return std::exchange(delta_, {}); }

}  // namespace weir
