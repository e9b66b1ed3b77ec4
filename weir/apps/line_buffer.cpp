#include "weir/apps/line_buffer.h"

#include <algorithm>
#include <cctype>

#include "weir/apps/terminal.h"

namespace weir {
namespace {

constexpr size_t kMaxHistory = 1000;
constexpr size_t kMaxText = 1 << 20;  // about the longest context; a paste beyond this is cut
constexpr size_t kMaxSequence = 32;   // longer "escape sequences" are noise

bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\t'; }

}  // namespace

std::optional<KeyPress> KeyDecoder::push(char byte) {
  if (pasting_) return paste_byte(byte);
  const auto c = static_cast<unsigned char>(byte);
  if (held_.empty()) {
    if (c < 0x20 || c == 0x7f) {
      if (c != 0x1b) return control(c);
    } else if (c < 0x80) {
      return KeyPress{Key::kText, std::string(1, byte)};
    }
    held_ = byte;
    return std::nullopt;
  }
  held_ += byte;
  if (held_[0] == '\x1b') return sequence();

  // A UTF-8 character: complete, broken (dropped, but an ASCII byte that broke it counts), or to be continued.
  const auto lead = static_cast<unsigned char>(held_[0]);
  const size_t wanted = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if ((c & 0xc0) != 0x80) {
    held_.clear();
    return c < 0x80 ? push(byte) : std::nullopt;
  }
  if (held_.size() < wanted) return std::nullopt;
  KeyPress press{Key::kText, std::move(held_)};
  held_.clear();
  if (character_bytes(press.text, 0) != press.text.size()) return std::nullopt;
  return press;
}

std::optional<KeyPress> KeyDecoder::control(unsigned char byte) {
  switch (byte) {
    case '\r':
    case '\n': return KeyPress{Key::kEnter, ""};
    case '\t': return KeyPress{Key::kText, "\t"};
    case 'A' - '@': return KeyPress{Key::kLineStart, ""};
    case 'B' - '@': return KeyPress{Key::kLeft, ""};
    case 'C' - '@': return KeyPress{Key::kInterrupt, ""};
    case 'D' - '@': return KeyPress{Key::kEnd, ""};
    case 'E' - '@': return KeyPress{Key::kLineEnd, ""};
    case 'F' - '@': return KeyPress{Key::kRight, ""};
    case 'H' - '@':
    case 0x7f: return KeyPress{Key::kBackspace, ""};
    case 'K' - '@': return KeyPress{Key::kKillToEnd, ""};
    case 'L' - '@': return KeyPress{Key::kClearScreen, ""};
    case 'N' - '@': return KeyPress{Key::kNext, ""};
    case 'P' - '@': return KeyPress{Key::kPrevious, ""};
    case 'U' - '@': return KeyPress{Key::kKillToStart, ""};
    case 'W' - '@': return KeyPress{Key::kKillWord, ""};
    case 'Y' - '@': return KeyPress{Key::kYank, ""};
    case 'Z' - '@': return KeyPress{Key::kSuspend, ""};
    default: return std::nullopt;
  }
}

std::optional<KeyPress> KeyDecoder::sequence() {
  const char kind = held_[1], last = held_.back();
  const auto done = [this](std::optional<Key> key) -> std::optional<KeyPress> {
    held_.clear();
    return key ? std::optional(KeyPress{*key, ""}) : std::nullopt;
  };
  if (held_.size() == 2 && kind != '[' && kind != 'O') {
    switch (kind) {
      case '\r':
      case '\n': return done(Key::kNewline);
      case 'b': return done(Key::kWordLeft);
      case 'f': return done(Key::kWordRight);
      case 0x7f: return done(Key::kKillWord);
      case '\x1b': held_.pop_back(); return std::nullopt;  // Escape pressed, then a sequence
      default: return done(std::nullopt);
    }
  }
  if (held_.size() == 2) return std::nullopt;
  // CSI: parameters, then one final byte from @ to ~. SS3: one byte.
  if (kind == '[' && !(last >= '@' && last <= '~')) return held_.size() > kMaxSequence ? done(std::nullopt) : std::nullopt;
  const std::string parameters = held_.substr(2, held_.size() - 3);
  const bool word = parameters.ends_with(";5") || parameters.ends_with(";3");  // with Ctrl or Alt
  switch (last) {
    case 'A': return done(Key::kPrevious);
    case 'B': return done(Key::kNext);
    case 'C': return done(word ? Key::kWordRight : Key::kRight);
    case 'D': return done(word ? Key::kWordLeft : Key::kLeft);
    case 'H': return done(Key::kLineStart);
    case 'F': return done(Key::kLineEnd);
    case '~':
      if (parameters == "200") {
        pasting_ = true;
        pasted_.clear();
        return done(std::nullopt);
      }
      if (parameters == "1" || parameters == "7") return done(Key::kLineStart);
      if (parameters == "4" || parameters == "8") return done(Key::kLineEnd);
      if (parameters == "3") return done(Key::kDelete);
      return done(std::nullopt);
    default: return done(std::nullopt);
  }
}

std::optional<KeyPress> KeyDecoder::paste_byte(char byte) {
  static constexpr std::string_view kEndOfPaste = "\x1b[201~";
  pasted_ += byte;
  if (!pasted_.ends_with(kEndOfPaste)) {
    if (pasted_.size() > kMaxText + kEndOfPaste.size()) pasted_.erase(kMaxText, 1);
    return std::nullopt;
  }
  pasting_ = false;
  pasted_.resize(pasted_.size() - kEndOfPaste.size());
  KeyPress press{Key::kText, ""};
  for (size_t i = 0; i < pasted_.size();) {
    const size_t bytes = character_bytes(pasted_, i);
    const char c = pasted_[i];
    if (c == '\r') {
      press.text += '\n';
      if (i + 1 < pasted_.size() && pasted_[i + 1] == '\n') ++i;
    } else if (c == '\n' || c == '\t' || (bytes == 1 && static_cast<unsigned char>(c) >= 0x20 && static_cast<unsigned char>(c) < 0x7f) ||
               bytes > 1) {
      press.text.append(pasted_, i, bytes);
    }
    i += bytes;
  }
  pasted_.clear();
  return press;
}

bool LineBuffer::apply(const KeyPress& press) {
  const auto line_start = [this] { return text_.rfind('\n', cursor_ == 0 ? std::string::npos : cursor_ - 1); };
  switch (press.key) {
    case Key::kText:
    case Key::kNewline: {
      const std::string& added = press.key == Key::kNewline ? "\n" : press.text;
      if (text_.size() + added.size() > kMaxText) break;
      text_.insert(cursor_, added);
      cursor_ += added.size();
      break;
    }
    case Key::kEnter: return true;
    case Key::kLeft: cursor_ = before(cursor_); break;
    case Key::kRight: cursor_ = after(cursor_); break;
    case Key::kWordLeft: cursor_ = word_before(cursor_); break;
    case Key::kWordRight: cursor_ = word_after(cursor_); break;
    case Key::kLineStart: {
      const size_t at = cursor_ == 0 ? std::string::npos : line_start();
      cursor_ = at == std::string::npos ? 0 : at + 1;
      break;
    }
    case Key::kLineEnd: cursor_ = std::min(text_.find('\n', cursor_), text_.size()); break;
    case Key::kPrevious:
      if (shown_ > 0) show_history(shown_ - 1);
      break;
    case Key::kNext:
      if (shown_ < history_.size()) show_history(shown_ + 1);
      break;
    case Key::kBackspace: erase(before(cursor_), cursor_, false); break;
    case Key::kEnd:
    case Key::kDelete: erase(cursor_, after(cursor_), false); break;
    case Key::kKillWord: erase(word_before(cursor_), cursor_, true); break;
    case Key::kKillToStart: erase(0, cursor_, true); break;
    case Key::kKillToEnd: erase(cursor_, text_.size(), true); break;
    case Key::kYank:
      text_.insert(cursor_, killed_);
      cursor_ += killed_.size();
      break;
    case Key::kInterrupt:
    case Key::kSuspend:
    case Key::kClearScreen: break;
  }
  return false;
}

void LineBuffer::clear() {
  text_.clear();
  cursor_ = 0;
  shown_ = history_.size();
  unfinished_.clear();
}

void LineBuffer::remember(const std::string& line) {
  if (!line.empty() && (history_.empty() || history_.back() != line)) history_.push_back(line);
  if (history_.size() > kMaxHistory) history_.erase(history_.begin());
  shown_ = history_.size();
}

void LineBuffer::show_history(size_t index) {
  if (shown_ == history_.size()) unfinished_ = text_;
  shown_ = index;
  text_ = index == history_.size() ? unfinished_ : history_[index];
  cursor_ = text_.size();
}

size_t LineBuffer::before(size_t at) const {
  while (at > 0) {
    do --at;
    while (at > 0 && (static_cast<unsigned char>(text_[at]) & 0xc0) == 0x80);
    if (display_width(std::string_view(text_).substr(at, character_bytes(text_, at))) > 0) break;
  }
  return at;
}

size_t LineBuffer::after(size_t at) const {
  if (at >= text_.size()) return text_.size();
  at += character_bytes(text_, at);
  while (at < text_.size()) {
    const size_t bytes = character_bytes(text_, at);
    if (display_width(std::string_view(text_).substr(at, bytes)) > 0) break;
    at += bytes;
  }
  return at;
}

size_t LineBuffer::word_before(size_t at) const {
  while (at > 0 && is_blank(text_[at - 1])) --at;
  while (at > 0 && !is_blank(text_[at - 1])) --at;
  return at;
}

size_t LineBuffer::word_after(size_t at) const {
  while (at < text_.size() && is_blank(text_[at])) ++at;
  while (at < text_.size() && !is_blank(text_[at])) ++at;
  return at;
}

void LineBuffer::erase(size_t begin, size_t end, bool keep) {
  if (keep && begin < end) killed_ = text_.substr(begin, end - begin);
  text_.erase(begin, end - begin);
  cursor_ = begin;
}

LineLayout lay_out(std::string_view prompt, int prompt_width, std::string_view text, size_t cursor, int columns) {
  columns = std::max(columns, 4);
  LineLayout out;
  out.rows.emplace_back(prompt);
  int column = prompt_width;
  const auto next_row = [&] {
    out.rows.emplace_back();
    column = 0;
  };
  if (column >= columns) next_row();
  for (size_t i = 0; i <= text.size();) {
    const bool at_end = i == text.size();
    const std::string_view character = at_end ? std::string_view{} : text.substr(i, character_bytes(text, i));
    const std::string drawn = character == "\t" ? "    " : printable(character);
    const int width = character == "\n" ? 0 : display_width(drawn);
    if (column + width > columns || (column == columns && (at_end || character == "\n"))) next_row();
    if (i == cursor) {
      out.cursor_row = static_cast<int>(out.rows.size()) - 1;
      out.cursor_column = std::min(column, columns - 1);
    }
    if (at_end) break;
    if (character == "\n") {
      next_row();
    } else {
      out.rows.back() += drawn;
      column += width;
    }
    i += character.size();
  }
  return out;
}

}  // namespace weir
