// A recipe of `weir quantize`, read as the user's file and asked about the matrices of a model. What it chooses may be int8 at all.
#include <algorithm>
#include <string>
#include <vector>

#include "fuzz_input.h"
#include "weir/apps/quantize_recipe.h"

namespace {

const std::vector<std::string> kModules = {"lm_head",
                                           "model.language_model.embed_tokens",
                                           "model.language_model.layers.0.linear_attn.in_proj_a",
                                           "model.language_model.layers.0.linear_attn.in_proj_qkv",
                                           "model.language_model.layers.0.linear_attn.in_proj_z",
                                           "model.language_model.layers.0.linear_attn.out_proj",
                                           "model.language_model.layers.0.mlp.experts.0.down_proj",
                                           "model.language_model.layers.0.mlp.experts.0.gate_proj",
                                           "model.language_model.layers.0.mlp.experts.0.up_proj",
                                           "model.language_model.layers.0.mlp.gate",
                                           "model.language_model.layers.3.self_attn.k_proj",
                                           "model.language_model.layers.3.self_attn.o_proj",
                                           "model.language_model.layers.3.self_attn.q_proj",
                                           "model.language_model.layers.3.self_attn.v_proj",
                                           "model.visual.blocks.0.mlp.up_proj",
                                           "mtp.fc"};

bool stays_float(const std::string& module) {
  return module.ends_with(".embed_tokens") || module.ends_with(".in_proj_a") || module.ends_with(".gate") ||
         module.starts_with("model.visual.");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const weir::ModelDir kDir;
  kDir.write("recipe.yaml", weir::text_of(data, size));
  weir::expect_answer_or_error([&] {
    const weir::QuantizeRecipe recipe = weir::QuantizeRecipe::read(kDir.path() + "/recipe.yaml");
    weir::ModelConfig config;
    config.num_experts = 1;
    const std::vector<bool> int8 = recipe.choose(config, kModules);
    WEIR_CHECK(int8.size() == kModules.size() && std::find(int8.begin(), int8.end(), true) != int8.end());
    for (size_t i = 0; i < int8.size(); ++i) WEIR_CHECK(!int8[i] || !stays_float(kModules[i]), kModules[i]);
  });
  return 0;
}
