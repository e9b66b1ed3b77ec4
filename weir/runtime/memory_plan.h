// The static memory plan: what a model will take, decided before a byte of weights is read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "weir/models/config.h"
#include "weir/ops/linear.h"

namespace weir {

// Memory this process may still take: the smallest of the cgroup's limit less its use and the machine's available memory. Bytes.
int64_t available_memory();

struct MemoryRequest {
  DType compute = DType::kBF16;
  ops::WeightCoding coding = ops::WeightCoding::kPlain;
  CacheTypes types;
  int64_t int8_saving = 0;  // bytes that the weights take less because some are kept in I8, see nn/stored_linear.h
  int32_t max_num_seqs = 0;
  int32_t max_num_batched_tokens = 0;
  int32_t max_model_len = 0;                 // 0: the model's, lowered to what fits
  std::optional<int32_t> num_snapshots = 0;  // delta-net states beside those of running sequences; nullopt: chosen
  bool with_mtp = false;                     // the draft head is loaded and has a KV layer
  int threads = 1;
  int64_t budget = 0;       // bytes for everything
  int64_t cache_bytes = 0;  // > 0: bytes for pages and slots, instead of what the budget leaves
};

struct MemoryPlan {
  int64_t weights = 0, activations = 0, pages = 0, slots = 0;  // bytes
  int32_t num_pages = 0, num_slots = 0;                        // slots: max_num_seqs + num_snapshots
  int32_t num_snapshots = 0;                                   // lowered to what fits
  int32_t max_num_seqs = 0;                                    // lowered to the slots that fit
  int32_t max_model_len = 0;
  int64_t page_bytes = 0, slot_bytes = 0;
  CacheTypes types;
  int64_t budget = 0;
  std::string notice;  // what was lowered and why; empty when nothing was

  int64_t total() const { return weights + activations + pages + slots; }
  std::string str() const;  // a table for the log
};

// Throws Error(kResourceExhausted) naming the flag to change and the value that would fit.
MemoryPlan plan_memory(const ModelConfig& config, const MemoryRequest& request);

}  // namespace weir
