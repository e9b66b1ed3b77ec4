// Turns a float checkpoint into a W8A8 one (spec/w8a8.md), tensor by tensor in bounded memory.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "weir/apps/quantize_recipe.h"

namespace weir {

enum class QuantizedFormat : uint8_t {
  kAscend,             // msmodelslim: quant_model_weights*.safetensors and quant_model_description.json
  kCompressedTensors,  // llm-compressor: model*.safetensors and quantization_config in config.json
};

struct QuantizeOptions {
  std::string source, destination;  // directories
  QuantizedFormat format = QuantizedFormat::kAscend;
  QuantizeRecipe recipe;
  int64_t max_shard_bytes = int64_t{4} << 30;
  bool resume = false;  // keep complete shards that an interrupted run left
  int threads = 0;      // 0: one per physical core
};

struct QuantizeReport {
  struct Matrix {
    std::string name;  // module, canonical
    double error = 0;  // sqrt(Σ (w - s q)² / Σ w²)
  };
  std::vector<Matrix> matrices;  // of shards that were written now
  int64_t source_bytes = 0, written_bytes = 0;
  int64_t shards = 0, kept_shards = 0;
};

// Writes shards, then the other files, then index and description, and config.json last: a directory without it is not a model.
// planned(bytes) is told the size of the source, then progress(bytes) what has been read since the last call; both may be empty.
// Throws Error: the source is quantised already or holds NaN, the destination is not empty, the disk is too small or full.
QuantizeReport quantize_checkpoint(const QuantizeOptions& options, const std::function<void(int64_t)>& planned,
                                   const std::function<void(int64_t)>& progress);

}  // namespace weir
