#include "weir/bench/shapes.h"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "weir/base/error.h"

namespace weir::bench {
namespace {

struct Sizes {
  const char* name;
  int64_t hidden, layers, heads, head_dim, k_heads, v_heads, experts, top_k, width, vocab;
};

// From the published config.json of each; mini is the checkpoint that tools/golden/make_synthetic.py writes. All have two KV heads, heads
// of 128 in the delta net, a shared expert as wide as the others, and attention in every fourth layer.
constexpr Sizes kSizes[] = {
    {"mini", 1024, 12, 8, 128, 8, 16, 64, 8, 256, 32'768},
    {"35B-A3B", 2048, 40, 16, 256, 16, 32, 256, 8, 512, 248'320},
    {"122B-A10B", 3072, 48, 32, 256, 16, 64, 256, 8, 1024, 248'320},
    {"397B-A17B", 4096, 60, 32, 256, 16, 64, 512, 10, 1024, 248'320},
};

ModelConfig config_of(const Sizes& s) {
  ModelConfig c;
  c.model_type = "qwen3_5_moe";
  c.vocab_size = s.vocab;
  c.hidden = s.hidden;
  for (int64_t i = 0; i < s.layers; ++i) c.layers.push_back(i % 4 == 3 ? LayerKind::kAttention : LayerKind::kDeltaNet);
  c.heads = s.heads;
  c.kv_heads = 2;
  c.head_dim = s.head_dim;
  c.rotary_pairs = s.head_dim / 8;
  c.k_heads = s.k_heads;
  c.v_heads = s.v_heads;
  c.k_dim = c.v_dim = 128;
  c.num_experts = s.experts;
  c.top_k = s.top_k;
  c.expert_intermediate = c.shared_intermediate = s.width;
  return c;
}

bool same_word(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](char x, char y) { return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y)); });
}

}  // namespace

const std::vector<std::string>& known_shapes() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const Sizes& sizes : kSizes) out.emplace_back(sizes.name);
    return out;
  }();
  return names;
}

ModelConfig model_shape(const std::string& name_or_dir) {
  for (const Sizes& sizes : kSizes)
    if (same_word(sizes.name, name_or_dir)) return config_of(sizes);
  std::error_code ignored;
  if (std::filesystem::exists(name_or_dir + "/config.json", ignored)) return read_model_config(name_or_dir);
  std::string known;
  for (const std::string& name : known_shapes()) known += (known.empty() ? "" : ", ") + name;
  fail(ErrorCode::kNotFound, "\"", name_or_dir, "\" is neither a known shape (", known, ") nor a directory with a config.json");
}

}  // namespace weir::bench
