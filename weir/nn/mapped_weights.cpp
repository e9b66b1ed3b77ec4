#include "weir/nn/mapped_weights.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "weir/base/log.h"
#include "weir/tensor/file_memory.h"

namespace weir {
namespace {

using Clock = std::chrono::steady_clock;

// What lies in memory twice for a moment: multiples of a huge page, and few to a weight, because each becomes a mapping of its own, of
// which a process may have some 65,000.
constexpr size_t kHugePage = size_t{2} << 20, kLeastPiece = 4 * kHugePage, kMostPieces = 16;

size_t piece_of(size_t bytes) {
  const size_t pages = (bytes / kMostPieces + kHugePage - 1) / kHugePage;
  return std::max(kLeastPiece, pages * kHugePage);
}

// Requests go first, but not by a low priority of this thread: the kernel moves pages of others out of its way while it looks for a huge
// one, and whoever needs such a page waits until it gets to run again (seen: compute threads of another process, for minutes).
constexpr int kPausesPerPiece = 3;  // each as long as the piece took

}  // namespace

MappedWeights::MappedWeights(std::vector<std::span<std::byte>> weights) : weights_(std::move(weights)) {
  if (!weights_.empty()) thread_ = std::thread([this] { move(); });
}

MappedWeights::~MappedWeights() {
  stop_ = true;
  wait();
}

void MappedWeights::wait() {
  hurry_ = true;
  if (thread_.joinable()) thread_.join();
}

void MappedWeights::move() {
  pthread_setname_np(pthread_self(), "weir-mover");
  const auto begin = Clock::now();
  size_t moved = 0;
  for (const std::span<std::byte> weight : weights_) {
    if (!move(weight)) return;
    moved += weight.size();
  }
  const std::chrono::duration<double> took = Clock::now() - begin;
  log_info("Packed weights lie in huge pages now: ", moved >> 20, " MiB copied in ", took.count(), " s beside serving");
}

bool MappedWeights::move(std::span<std::byte> weight) {
  const size_t piece = piece_of(weight.size());
  for (size_t at = 0; at < weight.size(); at += piece) {
    if (stop_) return false;
    const auto begin = Clock::now();
    if (!copy_in_place(weight.subspan(at, std::min(piece, weight.size() - at)))) {
      log_warning("Packed weights stay mapped from their file: no memory for a copy in huge pages");
      return false;
    }
    const auto took = Clock::now() - begin;
    for (int pause = 0; pause < kPausesPerPiece && !hurry_; ++pause) std::this_thread::sleep_for(took);
  }
  return true;
}

}  // namespace weir
