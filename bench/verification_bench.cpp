// How to keep a delta net's state while guesses are verified: one state and a log of what the tokens add (weir), or 1 + K states, one after
// each token. The log is timed with all of the mixer's arithmetic between its projections; of the other way only the memory it moves at
// least, one state read and 1 + K written. Milliseconds per layer and sequence, for the shape of the 397B, medians over rounds in which
// both take turns.
//   bench_verification [--drafts K] [--threads N] [--rounds N]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "weir/ops/delta_net.h"

namespace weir::ops {
namespace {

constexpr DeltaShape kShape{16, 64, 128, 128};
constexpr int64_t kStateFloats = kShape.v_heads * kShape.k_dim * kShape.v_dim, kLayers = 4, kKernel = 4;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Tensor ints(const std::vector<int32_t>& values) {
  Tensor out = Tensor::zeros(Shape{static_cast<int64_t>(values.size())}, DType::kI32);
  std::copy(values.begin(), values.end(), out.data<int32_t>());
  return out;
}

class Verification {
 public:
  Verification(int batch, int drafts, int threads) : batch_(batch), drafts_(drafts), team_(threads), arena_(size_t{512} << 20) {
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      pools_.push_back(make_delta_pool(batch, kShape));
      inputs_.push_back(make_conv_pool(batch, kShape.channels(), kKernel));
    }
    const auto some = [](Shape shape) {
      Tensor out = Tensor::zeros(shape, DType::kF32);
      for (int64_t i = 0; i < out.numel(); ++i) out.data<float>()[i] = 0.01f * static_cast<float>(i % 97 - 48);
      return out;
    };
    net_ = {kShape, some({kKernel, kShape.channels()}), some({kShape.v_heads}), some({kShape.v_heads}), some({kShape.v_dim}), 1e-6f};
    projection_ = some({int64_t{batch} * kDeltaBlock, kShape.channels() + kShape.values() + 2 * kShape.v_heads});
    states_ = Tensor::zeros(Shape{kLayers, batch, 1 + drafts, kStateFloats}, DType::kF32);
  }

  // Seconds of `count` tokens of every sequence from `start` on, all layers.
  double with_log(int start, int count) {
    double seconds = 0;
    for (size_t layer = 0; layer < pools_.size(); ++layer) {
      arena_.reset();
      Context ctx{team_, arena_};
      std::vector<int32_t> row_starts, starts, read, write;
      for (int s = 0; s <= batch_; ++s) row_starts.push_back(s * count);
      for (int s = 0; s < batch_; ++s) starts.push_back(start), read.push_back(start > 0 ? s : -1), write.push_back(s);
      const Rows rows{ints(row_starts), ints(starts), Tensor::zeros(Shape{batch_, 8}, DType::kI32),
                      ints(read),       ints(write),  Tensor::zeros(Shape{0, 3}, DType::kI32)};
      const double begin = now();
      delta_net(ctx, projection_.rows(0, int64_t{batch_} * count), net_, inputs_[layer], pools_[layer], rows);
      seconds += now() - begin;
    }
    return seconds;
  }

  double with_states(int round) {
    const double begin = now();
    for (size_t layer = 0; layer < pools_.size(); ++layer) {
      team_.parallel_items(batch_, [&](int64_t s, int) {
        const float* state = pools_[layer].data<float>() + s * pools_[layer].row_stride() + kSlotHeaderFloats;
        float sums[64] = {};
        for (int64_t i = 0; i + 64 <= kStateFloats; i += 64)
          for (int64_t j = 0; j < 64; ++j) sums[j] += state[i + j];
        sink_ = sums[round % 64];
        float* out = states_.data<float>() + (static_cast<int64_t>(layer) * batch_ + s) * (1 + drafts_) * kStateFloats;
        std::memset(out, round, static_cast<size_t>((1 + drafts_) * kStateFloats) * sizeof(float));
      });
    }
    return now() - begin;
  }

 private:
  int batch_, drafts_;
  ThreadPool team_;
  Arena arena_;
  DeltaNet net_;
  std::vector<Tensor> pools_, inputs_;
  Tensor projection_;
  Tensor states_;
  volatile float sink_ = 0;
};

int run(int argc, char** argv) {
  int drafts = 3, threads = 1, rounds = 9;
  for (int i = 1; i + 1 < argc; i += 2) {
    int* const value = std::strcmp(argv[i], "--drafts") == 0 ? &drafts : std::strcmp(argv[i], "--threads") == 0 ? &threads : &rounds;
    *value = std::clamp(std::atoi(argv[i + 1]), 1, 64);
  }
  drafts = std::min(drafts, 8);
  std::printf("%8s %22s %26s\n", "at once", "state and log, ms", "1 + K states, at least, ms");
  for (const int batch : {1, 8, 32}) {
    Verification both(batch, drafts, threads);
    std::vector<double> log, states;
    for (int round = 0; round < rounds; ++round) {
      both.with_log(0, kDeltaBlock);
      both.with_log(kDeltaBlock, kDeltaBlock / 2);  // the log is half full
      log.push_back(both.with_log(kDeltaBlock + kDeltaBlock / 2, 1 + drafts));
      states.push_back(both.with_states(round));
    }
    const double each = 1e3 / static_cast<double>(kLayers * batch);
    std::printf("%8d %22.3f %26.3f\n", batch, each * median(log), each * median(states));
  }
  return 0;
}

}  // namespace
}  // namespace weir::ops

int main(int argc, char** argv) { return weir::ops::run(argc, argv); }
