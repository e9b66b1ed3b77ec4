#include "weir/apps/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace weir {
namespace {

struct Range {
  char32_t first, last;
};

// East Asian wide and fullwidth blocks and the emoji planes; rough at the edges, where terminals disagree among themselves.
constexpr std::array kWide = {Range{0x1100, 0x115f},   Range{0x2e80, 0x303e},   Range{0x3041, 0x33ff},  Range{0x3400, 0x4dbf},
                              Range{0x4e00, 0x9fff},   Range{0xa000, 0xa4cf},   Range{0xac00, 0xd7a3},  Range{0xf900, 0xfaff},
                              Range{0xfe30, 0xfe4f},   Range{0xff00, 0xff60},   Range{0xffe0, 0xffe6},  Range{0x1f300, 0x1f64f},
                              Range{0x1f680, 0x1f6ff}, Range{0x1f900, 0x1f9ff}, Range{0x20000, 0x3fffd}};
constexpr std::array kZero = {Range{0x300, 0x36f},   Range{0x483, 0x489},     Range{0x591, 0x5bd},    Range{0x610, 0x61a},
                              Range{0x64b, 0x65f},   Range{0x900, 0x902},     Range{0x93c, 0x93c},    Range{0x941, 0x948},
                              Range{0xe31, 0xe31},   Range{0xe34, 0xe3a},     Range{0xe47, 0xe4e},    Range{0x1ab0, 0x1aff},
                              Range{0x1dc0, 0x1dff}, Range{0x200b, 0x200f},   Range{0x20d0, 0x20ff},  Range{0xfe00, 0xfe0f},
                              Range{0xfe20, 0xfe2f}, Range{0x1f3fb, 0x1f3ff}, Range{0xe0100, 0xe01ef}};

template <size_t N>
bool contains(const std::array<Range, N>& ranges, char32_t c) {
  return std::any_of(ranges.begin(), ranges.end(), [c](const Range& range) { return c >= range.first && c <= range.last; });
}

}  // namespace

bool is_terminal(int fd) { return ::isatty(fd) != 0; }

int terminal_columns(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

size_t character_bytes(std::string_view text, size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  const size_t wanted = lead < 0x80 ? 1 : lead >= 0xf0 && lead < 0xf5 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 1;
  if (lead >= 0xf5 || at + wanted > text.size()) return 1;
  for (size_t i = 1; i < wanted; ++i)
    if ((static_cast<unsigned char>(text[at + i]) & 0xc0) != 0x80) return 1;
  return wanted;
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t bytes = character_bytes(text, i);
    const auto c = static_cast<unsigned char>(text[i]);
    // C1 controls are two bytes in UTF-8: 0xc2 0x80 … 0xc2 0x9f.
    const bool control = bytes == 1 ? ((c < 0x20 && c != '\n' && c != '\t') || c >= 0x7f)
                                    : bytes == 2 && c == 0xc2 && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (control)
      out += "\xef\xbf\xbd";
    else
      out.append(text, i, bytes);
    i += bytes;
  }
  return out;
}

int display_width(std::string_view text) {
  int width = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t bytes = character_bytes(text, i);
    char32_t c = static_cast<unsigned char>(text[i]);
    if (bytes > 1) {
      c &= 0xffu >> (bytes + 1);
      for (size_t k = 1; k < bytes; ++k) c = (c << 6) | (static_cast<unsigned char>(text[i + k]) & 0x3fu);
    }
    width += contains(kZero, c) ? 0 : contains(kWide, c) ? 2 : 1;
    i += bytes;
  }
  return width;
}

}  // namespace weir
