// Splits a stream of answer text into thought and content (`--reasoning-parser qwen3`). Any chunking of the same text gives the same parts.
#pragma once

#include <string>
#include <string_view>

namespace weir {

class ReasoningParser {
 public:
  // thinking: the prompt ends inside an open <think>, so the text starts as reasoning; otherwise all is content
  // (a <think> at the very start of the text still opens a thought).
  explicit ReasoningParser(bool thinking);

  struct Delta {
    std::string reasoning;
    std::string content;
  };
  // New text in, what is certain by now out: text that may be the start of a marker is held back.
  Delta push(std::string_view text);
  Delta finish();   // releases what was held back

 private:
  enum class Where { kStart, kThought, kAfterThought, kContent };
  Where where_;
  std::string held_;
};

}  // namespace weir
