// Loads a model directory and starts an engine for it in this process: what `serve` and `generate` have in common.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "weir/api/served_model.h"
#include "weir/base/json.h"
#include "weir/base/placement.h"
#include "weir/base/profiler.h"
#include "weir/core/config.h"
#include "weir/core/engine_client.h"
#include "weir/nn/mapped_weights.h"

namespace weir {

// The flags that decide how a model is loaded and scheduled; defaults are vLLM's unless said.
struct EngineOptions {
  std::string model;                        // directory
  std::string dtype = "auto";               // auto (as stored: BF16), bfloat16, float32
  std::string kv_cache_dtype = "auto";      // auto (as dtype), bfloat16, float32, int8
  std::string state_dtype = "auto";         // of the delta net: auto (float32), float32, bfloat16
  std::optional<std::string> quantization;  // a check of what the checkpoint is: ascend, compressed-tensors, fp8, none
  std::string fp8_as = "bfloat16";          // what fp8 weights become: bfloat16 (the type of dtype), int8
  bool compress_weights = true;             // BF16 matrices in 12 bits, without loss
  int threads = 0;                          // 0: one per physical core
  NumaMode numa = NumaMode::kAuto;
  bool bind_threads = true;   // to cores
  int32_t max_model_len = 0;  // 0: from config.json, lowered to what fits
  int32_t max_num_seqs = 256;
  int32_t max_num_batched_tokens = 0;  // 0: chosen (2048)
  int32_t long_prefill_token_threshold = 0;
  double memory_utilization = 0.9;    // of the memory this process may use (cgroup-aware)
  int64_t kv_cache_memory_bytes = 0;  // 0: what memory_utilization leaves, bounded by need
  bool enable_prefix_caching = true;
  std::optional<int32_t> num_state_snapshots;      // nullopt: chosen from what fits
  int32_t prefix_cache_retention_interval = 2048;  // tokens; 0: no states inside long prompts
  SpeculationConfig speculation;
  int64_t kv_offload_size = 0;  // bytes of the second tier; 0: there is none
  std::string kv_offload_dir;   // empty: in memory
  bool kv_offload_keep = false;
  std::string packed_cache;  // directory for packed weights; empty: none
  uint64_t seed = 0;
  std::string generation_config = "auto";          // auto: generation_config.json of the model; vllm: none; else a directory
  std::optional<Json> override_generation_config;  // an object, over the file's fields
  std::optional<std::string> tokenizer;            // a directory, instead of the model's
  std::optional<std::string> chat_template;        // a file or the text of a template, instead of the model's
  bool quiet = false;                              // no plan, no progress bar (tests, --version)
};

struct LocalEngine {
  ServedModel model;
  std::unique_ptr<EngineClient> engine;
  std::unique_ptr<MappedWeights> mapped;  // of the packed cache, nullptr: none are; stops before the engine's weights go
};

// Prints the static memory plan (weights, KV pages, state slots, activations) before reading weights, a progress bar on a
// terminal while loading, and refuses with the flag and the value that would fit. Throws Error naming file and field for a bad model.
// profiler: is told what the steps do; outlives the result; nullptr: nobody asks.
LocalEngine start_local_engine(const EngineOptions& options, Profiler* profiler = nullptr);

}  // namespace weir
