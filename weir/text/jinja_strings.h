// Algorithms of Python's str, over UTF-8. Positions and counts are in characters where Python's are.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weir::jinja {

enum class Side : uint8_t { kLeft, kRight, kBoth };

// chars absent: white space.
std::string_view strip(std::string_view text, std::optional<std::string_view> chars, Side side = Side::kBoth);
// separator absent: runs of white space. max < 0: no limit. An empty separator is a Fault.
std::vector<std::string_view> split(std::string_view text, std::optional<std::string_view> separator, int64_t max);
std::vector<std::string_view> split_right(std::string_view text, std::optional<std::string_view> separator, int64_t max);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);
std::string replace(std::string_view text, std::string_view from, std::string_view to, int64_t max);  // Fault above the string limit
// Byte offsets, npos when absent; linear in the text, whatever the needle.
size_t find(std::string_view text, std::string_view part, size_t from = 0);
size_t find_last(std::string_view text, std::string_view part);
int64_t count(std::string_view text, std::string_view part);                                 // without overlaps
std::string pad(std::string_view text, int64_t width, char32_t fill, Side where_text_goes);  // kBoth: centred

}  // namespace weir::jinja
