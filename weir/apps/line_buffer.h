// Line editing without a terminal: bytes of a keyboard become keys, keys change a text with a cursor, and the text is laid out in rows.
// line_editor.h connects the three to a terminal.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weir {

enum class Key : uint8_t {
  kText,
  kEnter,
  kNewline,
  kInterrupt,
  kEnd,
  kSuspend,
  kClearScreen,  // kEnd: Ctrl-D
  kLeft,
  kRight,
  kWordLeft,
  kWordRight,
  kLineStart,
  kLineEnd,
  kPrevious,
  kNext,
  kBackspace,
  kDelete,
  kKillWord,
  kKillToStart,
  kKillToEnd,
  kYank,
};

struct KeyPress {
  Key key;
  std::string text;  // kText: complete characters, line breaks of a paste as "\n", no other control characters but tabs
};

// Bytes as terminals send them, in any portions: UTF-8, control keys, CSI and SS3 sequences, bracketed paste. Unknown sequences are
// skipped.
class KeyDecoder {
 public:
  // A key that this byte completes.
  std::optional<KeyPress> push(char byte);

 private:
  std::optional<KeyPress> control(unsigned char byte);
  std::optional<KeyPress> sequence();
  std::optional<KeyPress> paste_byte(char byte);

  std::string held_;  // an unfinished character or escape sequence
  std::string pasted_;
  bool pasting_ = false;
};

// The text being written and what was written before.
class LineBuffer {
 public:
  // True when the text is finished (kEnter). kInterrupt, kEnd on an empty text, kSuspend and kClearScreen are the caller's.
  bool apply(const KeyPress& press);

  const std::string& text() const { return text_; }
  size_t cursor() const { return cursor_; }  // a byte, at the start of a character
  void clear();
  void remember(const std::string& line);  // into the history; repeats of the last one are left out

 private:
  size_t before(size_t at) const;  // start of the character before `at`, combining marks included
  size_t after(size_t at) const;
  size_t word_before(size_t at) const;
  size_t word_after(size_t at) const;
  void erase(size_t begin, size_t end, bool keep);
  void show_history(size_t index);

  std::string text_;
  size_t cursor_ = 0;
  std::string killed_;  // for kYank
  std::vector<std::string> history_;
  size_t shown_ = 0;        // index into history_; history_.size(): the text that is being written
  std::string unfinished_;  // that text while history is shown
};

// Rows of prompt + text on a terminal that is `columns` wide, and where the cursor stands. No row is wider than the terminal, and a row
// that is exactly full is followed by another one, so that the cursor always has a place.
struct LineLayout {
  std::vector<std::string> rows;
  int cursor_row = 0, cursor_column = 0;
};
// prompt: one line; `prompt_width` its columns (it may hold escape sequences, which count nothing).
LineLayout lay_out(std::string_view prompt, int prompt_width, std::string_view text, size_t cursor, int columns);

}  // namespace weir
