// Finds the strings that end an answer (OpenAI `stop`) in a stream of text. Text that may be the start of one is held back; any
// chunking of the same text gives the same answer. Each byte costs a few comparisons per stop string, however long those are.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weir {

class StopMatcher {
 public:
  // Empty strings never match. include_stop: the string that was found stays at the end of the text.
  StopMatcher(std::vector<std::string> stops, bool include_stop);

  struct Match {
    std::string safe;                     // text that can be shown now
    std::optional<size_t> matched_index;  // which of the stops ended the text
  };
  // The first stop string to be complete ends the text; of several that end at the same byte, the longest. What comes later is dropped.
  Match push(std::string_view text);
  std::string finish();  // what is held back, when the text ended otherwise

 private:
  struct Stop {
    std::string text;
    std::vector<size_t> border;  // of each prefix: the longest shorter prefix that is also its end (Knuth-Morris-Pratt)
    size_t matched = 0;          // length of the longest prefix that the text so far ends with
  };

  std::vector<Stop> stops_;
  bool include_stop_;
  bool done_ = false;
  std::string held_;
};

}  // namespace weir
