// Random tensors, and sequences cut into steps at random, for the tests of operators.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "weir/ops/context.h"
#include "weir/ops/rows.h"

namespace weir::ops {

inline Tensor random_normal(Shape shape, uint32_t seed, float scale = 1.0f) {
  Tensor x = Tensor::zeros(shape, DType::kF32);
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  for (int64_t i = 0; i < x.numel(); ++i) x.data<float>()[i] = normal(rng);
  return x;
}

inline Tensor ints(const std::vector<int32_t>& values, Shape shape) {
  Tensor x = Tensor::zeros(shape, DType::kI32);
  if (!values.empty()) std::memcpy(x.data<int32_t>(), values.data(), values.size() * sizeof(int32_t));
  return x;
}

inline Tensor copy_of(const Tensor& x) {
  Tensor y = Tensor::zeros(x.shape(), x.dtype());
  for (int64_t i = 0; i < x.dim(0); ++i)
    std::memcpy(static_cast<char*>(y.raw()) + i * y.row_stride() * element_size(x.dtype()),
                static_cast<const char*>(x.raw()) + i * x.row_stride() * element_size(x.dtype()),
                static_cast<size_t>(x.numel() / x.dim(0) * element_size(x.dtype())));
  return y;
}

inline void expect_same_bits(const Tensor& got, const Tensor& want, const std::string& what) {
  ASSERT_EQ(got.shape(), want.shape()) << what;
  const auto* a = got.data<float>();
  const auto* b = want.data<float>();
  for (int64_t i = 0; i < got.numel(); ++i)
    ASSERT_EQ(std::bit_cast<uint32_t>(a[i]), std::bit_cast<uint32_t>(b[i])) << what << ": element " << i << ": " << a[i] << " and " << b[i];
}

struct Snapshot {
  int32_t position, slot;
};

// A piece of sequence `seq` in one step.
struct Piece {
  int32_t seq, start, count, read, write;
  std::vector<Snapshot> snapshots = {};
};
using Pieces = std::vector<Piece>;

// Sequence s has slots 2 s and 2 s + 1, and pages of its own, out of order.
constexpr int32_t kPagesPerSequence = 80;
inline int32_t page_of(int32_t seq, int32_t index) { return seq * kPagesPerSequence + (index * 37 + 11) % kPagesPerSequence; }

inline Rows rows_of(const Pieces& pieces) {
  const auto n = static_cast<int64_t>(pieces.size());
  std::vector<int32_t> row_starts{0}, starts, table, read, write, snapshots;
  for (const Piece& p : pieces) {
    for (const Snapshot& s : p.snapshots) snapshots.insert(snapshots.end(), {static_cast<int32_t>(starts.size()), s.position, s.slot});
    row_starts.push_back(row_starts.back() + p.count);
    starts.push_back(p.start);
    read.push_back(p.read);
    write.push_back(p.write);
    for (int32_t i = 0; i < kPagesPerSequence; ++i) table.push_back(page_of(p.seq, i));
  }
  return Rows{ints(row_starts, {n + 1}), ints(starts, {n}), ints(table, {n, kPagesPerSequence}),
              ints(read, {n}),           ints(write, {n}),  ints(snapshots, {static_cast<int64_t>(snapshots.size()) / 3, 3})};
}

// Every sequence alone, one token at a time, in its slot 2 s.
inline std::vector<Pieces> one_by_one(const std::vector<int32_t>& lengths) {
  std::vector<Pieces> steps;
  for (int32_t s = 0; s < static_cast<int32_t>(lengths.size()); ++s)
    for (int32_t t = 0; t < lengths[static_cast<size_t>(s)]; ++t) steps.push_back({Piece{s, t, 1, t == 0 ? -1 : 2 * s, 2 * s}});
  return steps;
}

// Steps in which each sequence takes part or not, with pieces of 1, 2, a few, 31, 32, 33 or 65 tokens or all that is left, and sometimes
// moves to its other slot. `last` receives the slot that each sequence ends in.
inline std::vector<Pieces> random_cuts(const std::vector<int32_t>& lengths, uint32_t seed, std::vector<int32_t>& last) {
  std::mt19937 rng(seed);
  std::vector<int32_t> done(lengths.size(), 0);
  last.assign(lengths.size(), -1);
  std::vector<Pieces> steps;
  for (;;) {
    Pieces pieces;
    bool left = false;
    for (size_t s = 0; s < lengths.size(); ++s) {
      if (done[s] == lengths[s]) continue;
      left = true;
      if (rng() % 3 == 0) continue;
      const int32_t sizes[] = {1, 1, 2, static_cast<int32_t>(1 + rng() % 20), 31, 32, 33, 65, lengths[s]};
      const int32_t count = std::min(sizes[rng() % 9], lengths[s] - done[s]);
      const auto home = static_cast<int32_t>(2 * s);
      const int32_t write = last[s] < 0 ? home : rng() % 4 == 0 ? 2 * home + 1 - last[s] : last[s];
      pieces.push_back(Piece{static_cast<int32_t>(s), done[s], count, last[s], write});
      done[s] += count;
      last[s] = write;
    }
    if (!left) return steps;
    std::shuffle(pieces.begin(), pieces.end(), rng);
    if (!pieces.empty()) steps.push_back(pieces);
  }
}

// The rows of one step, taken out of the whole sequences [len, ...] in the order of its pieces.
inline Tensor gather(const std::vector<Tensor>& sequences, const Pieces& pieces) {
  int64_t tokens = 0;
  for (const Piece& p : pieces) tokens += p.count;
  const Tensor& first = sequences[0];
  const int64_t width = first.numel() / first.dim(0);
  std::vector<int64_t> dims{tokens};
  for (int i = 1; i < first.rank(); ++i) dims.push_back(first.dim(i));
  Tensor x = Tensor::zeros(Shape(std::span<const int64_t>(dims)), DType::kF32);
  float* to = x.data<float>();
  for (const Piece& p : pieces) {
    std::memcpy(to, sequences[static_cast<size_t>(p.seq)].data<float>() + p.start * width,
                static_cast<size_t>(p.count * width) * sizeof(float));
    to += p.count * width;
  }
  return x;
}

// The reverse for results [T, width].
inline void scatter(const Tensor& results, const Pieces& pieces, std::vector<Tensor>& sequences) {
  const int64_t width = results.dim(1);
  const float* from = results.data<float>();
  for (const Piece& p : pieces) {
    std::memcpy(sequences[static_cast<size_t>(p.seq)].data<float>() + p.start * width, from,
                static_cast<size_t>(p.count * width) * sizeof(float));
    from += p.count * width;
  }
}

inline std::vector<Tensor> random_sequences(const std::vector<int32_t>& lengths, std::initializer_list<int64_t> width, uint32_t seed) {
  std::vector<Tensor> out;
  for (const int32_t length : lengths) {
    std::vector<int64_t> dims{length};
    dims.insert(dims.end(), width);
    out.push_back(random_normal(Shape(std::span<const int64_t>(dims)), seed + static_cast<uint32_t>(out.size())));
  }
  return out;
}

}  // namespace weir::ops
