// Every operator of a model at the model's sizes, with random weights: what `weir bench kernels` measures.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "weir/bench/measurement.h"
#include "weir/models/config.h"
#include "weir/ops/linear.h"

namespace weir::bench {

constexpr int64_t kMaxCaseTokens = 4096, kMaxCaseContext = 262'144;

struct CaseOptions {
  std::vector<DType> types = {DType::kBF16, DType::kI8, DType::kF32};  // of matrix products
  ops::WeightCoding coding = ops::WeightCoding::kTwelveBits;           // of BF16 weights
  // Tokens of a call. Up to kMostSequences they are one token each of so many sequences (decoding), more are a chunk of one prompt.
  std::vector<int64_t> tokens = {1, 8, 512};
  int64_t context = 4096;               // tokens that attention sees
  std::string filter;                   // only kernels whose name contains it
  int64_t memory = int64_t{384} << 20;  // bytes of weights or states that exist at once; more than a cache, or the figures are the cache's
};
constexpr int64_t kMostSequences = 64;

// Calls visit for one case after the other; what a case needs lives as long as its call. Weights that exceed `memory` are cut: fewer rows
// of the vocabulary, experts that share storage with others (each is still read from memory).
void each_kernel_case(const ModelConfig& model, const CaseOptions& options, ThreadPool& pool,
                      const std::function<void(const KernelCase&)>& visit);

}  // namespace weir::bench
