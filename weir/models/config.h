// config.json of the Qwen3.5 family (`qwen3_5_moe`, `qwen3_5` and their text-only exports), read leniently as the field needs it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "weir/tensor/dtype.h"

namespace weir {

enum class LayerKind : uint8_t { kDeltaNet, kAttention };

struct ModelConfig {
  std::string model_type;  // "qwen3_5_moe" or "qwen3_5"
  int64_t vocab_size = 0, hidden = 0;
  std::vector<LayerKind> layers;
  float rms_eps = 1e-6f;
  int64_t max_position = 0;
  bool tied_embeddings = false;

  // Gated full attention.
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t rotary_pairs = 0;  // rotated elements / 2
  double rope_theta = 1e7;
  std::vector<int64_t> mrope_section;  // sums to rotary_pairs; interleaved t, h, w

  // Gated DeltaNet.
  int64_t k_heads = 0, v_heads = 0, k_dim = 0, v_dim = 0, conv_kernel = 4;

  // Feed-forward: experts when num_experts > 0, else one dense network.
  int64_t num_experts = 0, top_k = 0, expert_intermediate = 0, shared_intermediate = 0;
  int64_t dense_intermediate = 0;

  int64_t mtp_layers = 0;
  std::vector<int32_t> eos_token_ids;  // of config.json; generation_config.json has the last word
  bool has_vision = false;

  bool moe() const { return num_experts > 0; }
  int64_t count(LayerKind kind) const;
};

// Reads DIR/config.json. Throws Error naming the file, the field, the value seen and what is allowed; sizes are bounded, so that later
// arithmetic on them cannot overflow.
ModelConfig read_model_config(const std::string& dir);

// What a sequence's memory is kept in.
struct CacheTypes {
  DType kv = DType::kBF16;    // keys and values: kBF16, kF32, kI8 with a scale per token and head
  DType state = DType::kF32;  // the delta net's S: kF32, kBF16
};

// Parameters and bytes that follow from the sizes alone.
int64_t kv_bytes_per_token(const ModelConfig& config, DType kv, bool with_mtp = false);  // trunk, and the draft head's layer
int64_t state_bytes_per_slot(const ModelConfig& config, DType state);  // delta-net states with their logs, and convolution inputs

}  // namespace weir
