#include "weir/nn/mapped_weights.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "weir/base/log.h"
#include "weir/tensor/file_memory.h"

namespace weir {
namespace {

// What lies in memory twice for a moment, and what the destructor may have to wait for: a multiple of a huge page.
constexpr size_t kPiece = size_t{32} << 20;
constexpr int kLowestPriority = 19;

}  // namespace

MappedWeights::MappedWeights(std::vector<std::span<std::byte>> weights) : weights_(std::move(weights)) {
  if (!weights_.empty()) thread_ = std::thread([this] { move(); });
}

MappedWeights::~MappedWeights() {
  stop_ = true;
  wait();
}

void MappedWeights::wait() {
  if (thread_.joinable()) thread_.join();
}

void MappedWeights::move() {
  pthread_setname_np(pthread_self(), "weir-mover");
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kLowestPriority);  // of this thread: requests go first
  const auto begin = std::chrono::steady_clock::now();
  size_t moved = 0;
  for (const std::span<std::byte> weight : weights_) {
    if (!move(weight)) return;
    moved += weight.size();
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  log_info("Packed weights lie in huge pages now: ", moved >> 20, " MiB copied in ", took.count(), " s beside serving");
}

bool MappedWeights::move(std::span<std::byte> weight) {
  for (size_t at = 0; at < weight.size(); at += kPiece) {
    if (stop_) return false;
    if (!copy_in_place(weight.subspan(at, std::min(kPiece, weight.size() - at)))) {
      log_warning("Packed weights stay mapped from their file: no memory for a copy in huge pages");
      return false;
    }
  }
  return true;
}

}  // namespace weir
