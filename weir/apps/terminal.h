// What the commands need to know of the terminal they may be talking to.
#pragma once

#include <string>
#include <string_view>

namespace weir {

bool is_terminal(int fd);
int terminal_columns(int fd);  // 80 when it is no terminal or does not say

// Text of a model or a server, made safe to print: control characters but newline and tab are shown as U+FFFD, so that an answer cannot
// move the cursor or retitle the window.
std::string printable(std::string_view text);

// Columns the text takes on a terminal: wide characters (CJK, most emoji) two, combining marks none. Invalid bytes count one.
int display_width(std::string_view text);

// Bytes of the character that starts at text[at] (1 for invalid UTF-8). REQUIRES: at < text.size().
size_t character_bytes(std::string_view text, size_t at);

}  // namespace weir
