// Patterns on tensor names. Input: the pattern, then names, a line each. The same text is tried as a glob and as a regular expression; a
// glob without sets must agree with the textbook's table.
#include <algorithm>
#include <string>
#include <vector>

#include "fuzz_input.h"
#include "weir/weights/name_pattern.h"

namespace {

constexpr size_t kMostNames = 8, kLongestName = 300;

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines(1);
  for (const char c : text) {
    if (c != '\n')
      lines.back() += c;
    else
      lines.emplace_back();
  }
  return lines;
}

// matched[j]: the pattern read so far matches the first j characters.
bool table_matches(std::string_view pattern, std::string_view name) {
  std::vector<bool> matched(name.size() + 1, false);
  matched[0] = true;
  for (const char c : pattern) {
    if (c == '*') {
      for (size_t j = 1; j <= name.size(); ++j) matched[j] = matched[j] || matched[j - 1];
      continue;
    }
    for (size_t j = name.size(); j > 0; --j) matched[j] = matched[j - 1] && (c == '?' || c == name[j - 1]);
    matched[0] = false;
  }
  return matched[name.size()];
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::string> lines = lines_of(weir::text_of(data, size));
  const std::string pattern = lines.front();
  lines.erase(lines.begin());
  lines.resize(std::min(lines.size(), kMostNames));
  for (std::string& name : lines) {
    name.resize(std::min(name.size(), kLongestName));
    weir::expect_answer_or_error([&] {
      const bool matches = weir::NamePattern::glob(pattern).matches(name);
      WEIR_CHECK(pattern.find('[') != pattern.npos || matches == table_matches(pattern, name), pattern, " ", name);
    });
    weir::expect_answer_or_error([&] {
      const weir::NamePattern regex = weir::NamePattern::regex(pattern);
      WEIR_CHECK(regex.matches(name) == weir::NamePattern(regex).matches(name), pattern, " ", name);
    });
  }
  return 0;
}
