#include "weir/apps/line_editor.h"

#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "weir/apps/terminal.h"
#include "weir/base/error.h"

namespace weir {
namespace {

// Bytes as they are typed, without echo; Ctrl-C is a byte too. Bracketed paste tells a paste from typing.
class RawMode {
 public:
  RawMode(int in_fd, int out_fd) : in_fd_(in_fd), out_fd_(out_fd) { enter(); }
  ~RawMode() { leave(); }
  RawMode(const RawMode&) = delete;
  RawMode& operator=(const RawMode&) = delete;

  void enter() {
    if (::tcgetattr(in_fd_, &saved_) != 0) fail(ErrorCode::kInternal, "cannot read the terminal's settings");
    termios raw = saved_;
    raw.c_iflag &= static_cast<tcflag_t>(~(ICRNL | INLCR | IGNCR | IXON | ISTRIP));
    raw.c_lflag &= static_cast<tcflag_t>(~(ICANON | ECHO | ISIG | IEXTEN));
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    ::tcsetattr(in_fd_, TCSADRAIN, &raw);
    say("\x1b[?2004h");
  }
  void leave() {
    say("\x1b[?2004l");
    ::tcsetattr(in_fd_, TCSADRAIN, &saved_);
  }

 private:
  void say(std::string_view bytes) const { [[maybe_unused]] const ssize_t written = ::write(out_fd_, bytes.data(), bytes.size()); }

  int in_fd_, out_fd_;
  termios saved_{};
};

int terminal_rows(int fd) {
  winsize size{};
  return ::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 ? 24 : size.ws_row;
}

bool can_move_cursor() {
  const char* term = std::getenv("TERM");
  return term != nullptr && *term != '\0' && std::string_view(term) != "dumb";
}

}  // namespace

LineEditor::LineEditor(int in_fd, int out_fd)
    : in_fd_(in_fd), out_fd_(out_fd), interactive_(is_terminal(in_fd) && is_terminal(out_fd) && can_move_cursor()) {}

LineEditor::Result LineEditor::read(std::string_view prompt, std::string_view style) {
  return interactive_ ? read_edited(prompt, style) : read_plain();
}

LineEditor::Result LineEditor::read_plain() {
  for (size_t searched = 0;;) {
    if (const size_t end = pending_.find('\n', searched); end != std::string::npos) {
      Result result{Outcome::kLine, pending_.substr(0, end)};
      if (result.line.ends_with('\r')) result.line.pop_back();
      pending_.erase(0, end + 1);
      return result;
    }
    searched = pending_.size();
    if (end_of_file_) {
      if (pending_.empty()) return {Outcome::kEnd, ""};
      Result result{Outcome::kLine, std::move(pending_)};
      pending_.clear();
      return result;
    }
    std::array<char, 4096> bytes{};
    const ssize_t count = ::read(in_fd_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) return {Outcome::kInterrupted, ""};
    if (count <= 0)
      end_of_file_ = true;
    else
      pending_.append(bytes.data(), static_cast<size_t>(count));
  }
}

LineEditor::Result LineEditor::read_edited(std::string_view prompt, std::string_view style) {
  RawMode raw(in_fd_, out_fd_);
  buffer_.clear();
  drawn_cursor_row_ = 0;
  draw(prompt, style);
  const auto finish = [&](Outcome outcome) {
    // The cursor may stand inside the text: go behind it, so that what follows starts on a row of its own.
    while (buffer_.cursor() < buffer_.text().size()) buffer_.apply({Key::kRight, ""});
    draw(prompt, style);
    write_all("\r\n");
    return Result{outcome, outcome == Outcome::kLine ? buffer_.text() : ""};
  };
  for (;;) {
    char byte = 0;
    const ssize_t count = ::read(in_fd_, &byte, 1);
    if (count < 0 && errno == EINTR) continue;  // the window changed its size, or the program was continued
    if (count <= 0) return finish(Outcome::kEnd);
    const auto press = decoder_.push(byte);
    if (!press) continue;
    switch (press->key) {
      case Key::kInterrupt: return finish(Outcome::kInterrupted);
      case Key::kEnd:
        if (buffer_.text().empty()) return finish(Outcome::kEnd);
        break;
      case Key::kSuspend:
        raw.leave();
        std::raise(SIGTSTP);
        raw.enter();
        drawn_cursor_row_ = 0;
        break;
      case Key::kClearScreen:
        write_all("\x1b[H\x1b[2J");
        drawn_cursor_row_ = 0;
        break;
      default: break;
    }
    if (buffer_.apply(*press)) {
      buffer_.remember(buffer_.text());
      return finish(Outcome::kLine);
    }
    // A paste or fast typing is drawn once.
    int waiting = 0;
    if (::ioctl(in_fd_, FIONREAD, &waiting) != 0 || waiting == 0) draw(prompt, style);
  }
}

void LineEditor::draw(std::string_view prompt, std::string_view style) {
  const std::string styled = style.empty() ? std::string(prompt) : concat(style, prompt, "\x1b[0m");
  const LineLayout layout = lay_out(styled, display_width(prompt), buffer_.text(), buffer_.cursor(), terminal_columns(out_fd_));

  // What has scrolled off the top cannot be drawn over: of a long text, the rows around the cursor are shown.
  const int height = std::max(terminal_rows(out_fd_) - 1, 1), rows = static_cast<int>(layout.rows.size());
  const int first = std::clamp(layout.cursor_row - height + 1, 0, std::max(rows - height, 0));
  const int last = std::min(first + height, rows) - 1;

  std::string out;
  if (drawn_cursor_row_ > 0) out += concat("\x1b[", drawn_cursor_row_, "A");
  out += "\r\x1b[J";
  for (int row = first; row <= last; ++row) out += (row == first ? "" : "\r\n") + layout.rows[static_cast<size_t>(row)];
  if (last > layout.cursor_row) out += concat("\x1b[", last - layout.cursor_row, "A");
  out += '\r';
  if (layout.cursor_column > 0) out += concat("\x1b[", layout.cursor_column, "C");
  drawn_cursor_row_ = layout.cursor_row - first;
  write_all(out);
}

void LineEditor::write_all(std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t count = ::write(out_fd_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;  // the terminal is gone; the next read ends the input
    bytes.remove_prefix(static_cast<size_t>(count));
  }
}

}  // namespace weir
