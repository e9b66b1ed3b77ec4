#include "weir/apps/progress_bar.h"

#include <algorithm>
#include <cstdio>

namespace weir {

ProgressBar::ProgressBar(std::string what, int64_t total, bool visible) : what_(std::move(what)), total_(total), visible_(visible) {}

ProgressBar::~ProgressBar() {
  if (visible_) std::fputs("\r\033[K", stderr);
}

void ProgressBar::advance(int64_t amount) {
  done_ += amount;
  if (!visible_) return;
  const int percent = total_ > 0 ? static_cast<int>(std::min<int64_t>(100, done_ * 100 / total_)) : 100;
  if (percent == shown_) return;
  shown_ = percent;
  constexpr int kWidth = 40;
  const std::string bar(static_cast<size_t>(percent * kWidth / 100), '#');
  std::fprintf(stderr, "\r%s [%-*s] %3d %%", what_.c_str(), kWidth, bar.c_str(), percent);
  std::fflush(stderr);
}

}  // namespace weir
