// Weights that were mapped from a file so that serving can begin at once, on their way into huge pages: the page cache may have small ones,
// which experts are slower to read from, and may give them up when memory is short.
#pragma once

#include <atomic>
#include <cstddef>
#include <span>
#include <thread>
#include <vector>

namespace weir {

class MappedWeights {
 public:
  // Copies them in place (tensor/file_memory.h), piece by piece, on a thread of its own that takes a quarter of a core. The memory must
  // stay until this object is gone.
  explicit MappedWeights(std::vector<std::span<std::byte>> weights);
  // Stops behind the piece at work.
  ~MappedWeights();
  MappedWeights(const MappedWeights&) = delete;
  MappedWeights& operator=(const MappedWeights&) = delete;

  void wait();  // until all have moved, as fast as that goes: for measurements

 private:
  void move();
  bool move(std::span<std::byte> weight);

  std::vector<std::span<std::byte>> weights_;
  std::atomic<bool> stop_{false}, hurry_{false};
  std::thread thread_;
};

}  // namespace weir
