#include "weir/text/reasoning.h"

#include <algorithm>
#include <utility>

namespace weir {
namespace {

constexpr std::string_view kOpen = "<think>", kClose = "</think>", kToolCall = "<tool_call>";

// Length of the longest end of `text` that begins `marker`, without being all of it.
size_t open_end(std::string_view text, std::string_view marker) {
  for (size_t n = std::min(text.size(), marker.size() - 1); n > 0; --n) {
    if (text.ends_with(marker.substr(0, n))) return n;
  }
  return 0;
}

}  // namespace

ReasoningParser::Delta ReasoningParser::push(std::string_view text) {
  held_ += text;
  return parse(false);
}

ReasoningParser::Delta ReasoningParser::finish() { return parse(true); }

ReasoningParser::Delta ReasoningParser::parse(bool last) {
  Delta out;
  while (step(last, out)) {
  }
  if (last) out.reasoning.append(std::exchange(held_newlines_, 0), '\n');
  return out;
}

bool ReasoningParser::step(bool last, Delta& out) {
  switch (where_) {
    case Where::kStart:
      if (held_.starts_with(kOpen)) {
        held_.erase(0, kOpen.size());
        where_ = Where::kThoughtStart;
        return true;
      }
      if (!last && kOpen.starts_with(held_)) return false;
      where_ = thinking_ ? Where::kThoughtStart : Where::kContent;
      return true;
    case Where::kThoughtStart:
      if (held_.empty()) return false;
      if (held_[0] == '\n') held_.erase(0, 1);
      where_ = Where::kThought;
      return true;
    case Where::kThought: return step_thought(last, out);
    case Where::kAfterThought:
      held_.erase(0, std::min(held_.find_first_not_of('\n'), held_.size()));
      if (held_.empty()) return false;
      if (swallow_ && held_.starts_with(kClose)) {
        held_.erase(0, kClose.size());
        swallow_ = false;
        return true;
      }
      if (swallow_ && !last && kClose.starts_with(held_)) return false;
      where_ = Where::kContent;
      return true;
    case Where::kContent: return step_content(last, out);
  }
  return false;
}

bool ReasoningParser::step_thought(bool last, Delta& out) {
  const size_t close = held_.find(kClose), tool_call = held_.find(kToolCall), end = std::min(close, tool_call);
  if (end == held_.npos) {
    const size_t open = last ? 0 : std::max(open_end(held_, kClose), open_end(held_, kToolCall));
    add_thought(std::string_view(held_).substr(0, held_.size() - open), out);
    held_.erase(0, held_.size() - open);
    return false;
  }
  add_thought(std::string_view(held_).substr(0, end), out);
  held_newlines_ = 0;
  held_.erase(0, end == close ? end + kClose.size() : end);
  where_ = end == close ? Where::kAfterThought : Where::kContent;
  swallow_ = true;
  return true;
}

void ReasoningParser::add_thought(std::string_view text, Delta& out) {
  const size_t body = text.find_last_not_of('\n') + 1;  // 0 when all are newlines
  if (body > 0) {
    out.reasoning.append(std::exchange(held_newlines_, 0), '\n');
    out.reasoning += text.substr(0, body);
  }
  held_newlines_ += text.size() - body;
}

bool ReasoningParser::step_content(bool last, Delta& out) {
  const size_t close = swallow_ ? held_.find(kClose) : held_.npos;
  const size_t open = swallow_ && close == held_.npos && !last ? open_end(held_, kClose) : 0;
  const size_t end = std::min(close, held_.size() - open);
  out.content += std::string_view(held_).substr(0, end);
  held_.erase(0, close == held_.npos ? end : end + kClose.size());
  if (close != std::string::npos) swallow_ = false;
  return close != std::string::npos;
}

}  // namespace weir
