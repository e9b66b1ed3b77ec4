// Streams of text: thoughts split from content, stop strings found. However the text is cut, the parts must be the same.
// Input: one byte of options, stop strings between NUL bytes (the first three pieces), then the text; its bytes also say where to cut.
#include <string>
#include <vector>

#include "fuzz_input.h"
#include "weir/base/check.h"
#include "weir/text/reasoning.h"
#include "weir/text/stop_strings.h"

namespace {

std::vector<std::string> cut(std::string_view text, uint8_t seed) {
  std::vector<std::string> chunks;
  for (size_t at = 0; at < text.size();) {
    const size_t size = 1 + (static_cast<uint8_t>(text[at]) ^ seed) % 7;
    chunks.emplace_back(text.substr(at, size));
    at += size;
  }
  return chunks;
}

std::string split(const std::vector<std::string>& chunks, bool thinking) {
  weir::ReasoningParser parser(thinking);
  std::string reasoning, content;
  const auto add = [&](const weir::ReasoningParser::Delta& d) {
    reasoning += d.reasoning;
    content += d.content;
  };
  for (const std::string& chunk : chunks) add(parser.push(chunk));
  add(parser.finish());
  return reasoning + '\0' + content;
}

std::string stopped(const std::vector<std::string>& chunks, const std::vector<std::string>& stops, bool include_stop) {
  weir::StopMatcher matcher(stops, include_stop);
  std::string text;
  for (const std::string& chunk : chunks) {
    const auto match = matcher.push(chunk);
    text += match.safe;
    if (match.matched_index) return text + '\0' + std::to_string(*match.matched_index);
  }
  return text + matcher.finish();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view text = weir::text_of(data + 1, size - 1);
  std::vector<std::string> stops;
  while (stops.size() < 3 && text.find('\0') != text.npos) {
    stops.emplace_back(text.substr(0, text.find('\0')));
    text.remove_prefix(stops.back().size() + 1);
  }
  const bool option = data[0] % 2 != 0;
  const std::vector<std::string> whole = {std::string(text)}, chunks = cut(text, data[0]);
  WEIR_CHECK(split(whole, option) == split(chunks, option));
  WEIR_CHECK(stopped(whole, stops, option) == stopped(chunks, stops, option));
  return 0;
}
