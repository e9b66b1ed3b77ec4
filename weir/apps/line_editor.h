// Reads lines that people type: with editing, history and multi-line paste on a terminal, plainly from a pipe.
#pragma once

#include <string>
#include <string_view>

#include "weir/apps/line_buffer.h"

namespace weir {

class LineEditor {
 public:
  LineEditor(int in_fd, int out_fd);

  enum class Outcome : uint8_t { kLine, kEnd, kInterrupted };  // kEnd: Ctrl-D or end of file; kInterrupted: Ctrl-C, the text is dropped
  struct Result {
    Outcome outcome;
    std::string line;  // without its line end; may hold line breaks (Alt-Enter, paste)
  };
  // The prompt is shown on a terminal only. REQUIRES: prompt is one line without escape sequences; `style` goes before it and is
  // reset behind it ("\x1b[1m"; empty: plain).
  Result read(std::string_view prompt, std::string_view style);

  bool interactive() const { return interactive_; }

 private:
  Result read_plain();
  Result read_edited(std::string_view prompt, std::string_view style);
  void draw(std::string_view prompt, std::string_view style);
  void write_all(std::string_view bytes) const;

  int in_fd_, out_fd_;
  bool interactive_;
  LineBuffer buffer_;
  KeyDecoder decoder_;
  int drawn_cursor_row_ = 0;  // rows above the cursor in what is on the screen
  std::string pending_;       // read_plain: bytes behind the line returned
  bool end_of_file_ = false;
};

}  // namespace weir
