// Splits a stream of answer text into thought and content (`--reasoning-parser qwen3`). Any chunking of the same text gives the same parts.
//
// A thought ends at </think>, which belongs to neither part, or at <tool_call>, which begins the content. One newline at its start and
// the newlines at its end are dropped, and so are the newlines between </think> and the content. One more </think> behind the thought,
// which models write now and then, is swallowed.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace weir {

class ReasoningParser {
 public:
  // thinking: the prompt ends inside an open <think>, so the text starts as reasoning; otherwise all is content
  // (a <think> at the very start of the text still opens a thought).
  explicit ReasoningParser(bool thinking) : thinking_(thinking) {}

  struct Delta {
    std::string reasoning;
    std::string content;
  };
  // New text in, what is certain by now out: text that may be the start of a marker is held back.
  Delta push(std::string_view text);
  Delta finish();  // releases what was held back

 private:
  enum class Where { kStart, kThoughtStart, kThought, kAfterThought, kContent };

  Delta parse(bool last);
  bool step(bool last, Delta& out);  // true: the state changed and the rest of held_ is to be looked at again
  bool step_thought(bool last, Delta& out);
  bool step_content(bool last, Delta& out);
  void add_thought(std::string_view text, Delta& out);

  bool thinking_;
  Where where_ = Where::kStart;
  bool swallow_ = false;  // a thought has ended and no second </think> was met yet
  std::string held_;
  size_t held_newlines_ = 0;  // of the thought: dropped when it ends here, passed on when it goes on
};

}  // namespace weir
