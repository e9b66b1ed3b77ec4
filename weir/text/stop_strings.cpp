#include "weir/text/stop_strings.h"

#include <algorithm>
#include <utility>

namespace weir {

StopMatcher::StopMatcher(std::vector<std::string> stops, bool include_stop) : include_stop_(include_stop) {
  for (std::string& text : stops) {
    std::vector<size_t> border(text.size() + 1, 0);
    for (size_t i = 1, k = 0; i < text.size(); ++i) {
      while (k > 0 && text[i] != text[k]) k = border[k];
      k += text[i] == text[k];
      border[i + 1] = k;
    }
    stops_.push_back({std::move(text), std::move(border), 0});
  }
}

StopMatcher::Match StopMatcher::push(std::string_view text) {
  if (done_) return {};
  Match out;
  for (const char c : text) {
    held_ += c;
    for (size_t i = 0; i < stops_.size(); ++i) {
      Stop& s = stops_[i];
      if (s.text.empty()) continue;
      while (s.matched > 0 && c != s.text[s.matched]) s.matched = s.border[s.matched];
      s.matched += c == s.text[s.matched];
      if (s.matched < s.text.size()) continue;
      if (!out.matched_index || s.text.size() > stops_[*out.matched_index].text.size()) out.matched_index = i;
    }
    if (!out.matched_index) continue;
    if (!include_stop_) held_.resize(held_.size() - stops_[*out.matched_index].text.size());
    out.safe = std::exchange(held_, {});
    done_ = true;
    return out;
  }
  size_t open = 0;  // bytes at the end that may become a stop string
  for (const Stop& s : stops_) open = std::max(open, s.matched);
  out.safe = held_.substr(0, held_.size() - open);
  held_.erase(0, held_.size() - open);
  return out;
}

std::string StopMatcher::finish() {
  done_ = true;
  return std::exchange(held_, {});
}

}  // namespace weir
