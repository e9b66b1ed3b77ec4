// What a model directory holds and what serving it takes, from its headers alone: no weight is read.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "weir/base/json.h"
#include "weir/models/config.h"

namespace weir {

// Tensors of one kind counted together.
struct TensorTally {
  int64_t tensors = 0;
  int64_t elements = 0;
  int64_t bytes = 0;

  void add(int64_t tensor_elements, int64_t tensor_bytes) { ++tensors, elements += tensor_elements, bytes += tensor_bytes; }
};

struct Inspection {
  std::string path;
  ModelConfig config;
  TensorTally text, mtp, vision, scales, other;  // scales: what quantisation adds beside the weights
  std::map<std::string, TensorTally> dtypes;     // by safetensors name: "BF16"
  int64_t num_files = 0;
  int64_t bytes_on_disk = 0;               // of the tensors
  std::string trunk_experts, mtp_experts;  // "fused", "per expert", "per expert, gate and up joined"; empty: none

  std::string quantization;  // "none", or who says so: "quant_model_description.json", "quantization_config"
  std::string quant_method;  // "ascend", "compressed-tensors", …; empty: none
  // Type -> module with numbers as "*" -> tensors, for all types but FLOAT.
  struct Quantized {
    int64_t count = 0;
    std::set<int64_t> layers;  // of the main stack
  };
  std::map<std::string, std::map<std::string, Quantized>> quantized;

  // Bytes to serve in BF16 and in float32.
  struct Memory {
    int64_t weights = 0;        // packed for the kernels, without vision and MTP
    int64_t int8_saving = 0;    // what int8 matrices take less than float ones, and
    int64_t coding_saving = 0;  // what BF16 matrices take less in 12 bits than in 16; both taken off `weights` already
    int64_t kv_per_token = 0;
    int64_t state_per_sequence = 0;  // delta-net states, convolution inputs included
    int64_t conv_per_sequence = 0;   // the convolution inputs among them
    int64_t activations = 0;         // of a step of 2048 tokens and 256 sequences
    int64_t one_full_context = 0;    // weights, activations and one sequence as long as the model allows
  };
  Memory bf16, f32;
  std::string obstacle;  // why this weir cannot serve it; empty: it can
};

// Throws Error naming the file and field that is missing or wrong.
Inspection inspect_model(const std::string& dir);

Json to_json(const Inspection& inspection);
std::string to_text(const Inspection& inspection);

}  // namespace weir
