// One line on a terminal that fills up while something of known size is done. Writes nothing when not visible.
#pragma once

#include <cstdint>
#include <string>

namespace weir {

class ProgressBar {
 public:
  ProgressBar(std::string what, int64_t total, bool visible);
  ~ProgressBar();  // clears the line
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  void advance(int64_t amount);

 private:
  std::string what_;
  int64_t total_, done_ = 0;
  int shown_ = -1;  // percent on the screen
  bool visible_;
};

}  // namespace weir
