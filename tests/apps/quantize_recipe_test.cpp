// Recipes of `weir quantize`: what files of the user's may say, and what is refused with its line.
#include "weir/apps/quantize_recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/runtime/golden_model.h"
#include "tests/weights/safetensors_files.h"
#include "weir/apps/inspection.h"
#include "weir/apps/quantizer.h"
#include "weir/base/error.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::string kLayer = "model.language_model.layers.0.";
const std::vector<std::string> kModules = {"lm_head",
                                           kLayer + "linear_attn.in_proj_qkv",
                                           kLayer + "linear_attn.in_proj_z",
                                           kLayer + "mlp.experts.0.gate_proj",
                                           kLayer + "mlp.experts.0.up_proj",
                                           kLayer + "mlp.experts.0.down_proj",
                                           kLayer + "mlp.gate",
                                           kLayer + "mlp.shared_expert.gate_proj",
                                           kLayer + "mlp.shared_expert.up_proj",
                                           "model.language_model.embed_tokens",
                                           "model.visual.blocks.0.mlp.up_proj",
                                           "mtp.fc"};

ModelConfig moe() {
  ModelConfig config;
  config.model_type = "qwen3_5_moe";
  config.num_experts = 1;
  return config;
}

QuantizeRecipe from(const std::string& yaml) {
  const TempDir dir;
  dir.write("recipe.yaml", yaml);
  return QuantizeRecipe::read(dir.file("recipe.yaml"));
}

std::vector<std::string> chosen(const QuantizeRecipe& recipe, const ModelConfig& config = moe()) {
  const std::vector<bool> int8 = recipe.choose(config, kModules);
  std::vector<std::string> out;
  for (size_t i = 0; i < kModules.size(); ++i)
    if (int8[i]) out.push_back(kModules[i]);
  return out;
}

template <class Body>
std::string error_of(Body body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "(no error)";
}
std::string yaml_error(const std::string& yaml) {
  return error_of([&] { chosen(from(yaml)); });
}

TEST(QuantizeRecipe, TheFirstPatternThatMatchesDecides) {
  const auto some =
      chosen(from("# head and shared expert\n- \"*.experts.*\": float\n- '*.linear_attn.*': float\n- \"*.fc\": float\n- '*': int8\n"));
  EXPECT_EQ(some, (std::vector<std::string>{"lm_head", kLayer + "mlp.shared_expert.gate_proj", kLayer + "mlp.shared_expert.up_proj"}));
  EXPECT_EQ(chosen(from("[{lm_head.weight: int8}, {'*': float}]")), (std::vector<std::string>{"lm_head"}));
}

TEST(QuantizeRecipe, AllHasAnUntiedHeadAndNoRouter) {
  const auto all = chosen(QuantizeRecipe::Named::kAll);
  EXPECT_EQ(all.size(), 8u);
  EXPECT_EQ(all.front(), "lm_head");
  ModelConfig tied = moe();
  tied.tied_embeddings = true;
  EXPECT_NE(chosen(QuantizeRecipe::Named::kAll, tied).front(), "lm_head");
  EXPECT_EQ(chosen(QuantizeRecipe::Named::kExperts).size(), 3u);
  EXPECT_EQ(chosen(QuantizeRecipe::Named::kDefault).size(), 3u) << "no attention layer among them";
}

TEST(QuantizeRecipe, AsksOnlyForWhatCanBeInt8) {
  EXPECT_THAT(yaml_error("- lm_head: int8\n\n- \"*.mlp.gate\": int8\n"),
              AllOf(HasSubstr("recipe.yaml:3:"), HasSubstr("mlp.gate"), HasSubstr("stays float")));
  EXPECT_THAT(yaml_error("- '*.embed_tokens': int8"), HasSubstr("embed_tokens"));
  EXPECT_THAT(yaml_error("- lm_head: int8\n- '*.o_proj': int8"),
              AllOf(HasSubstr("recipe.yaml:2:"), HasSubstr("'*.o_proj' matches no matrix")));
  EXPECT_THAT(yaml_error("- '*': float"), HasSubstr("names no matrix"));
  ModelConfig tied = moe();
  tied.tied_embeddings = true;
  EXPECT_THAT(error_of([&] { chosen(from("- lm_head: int8"), tied); }), AllOf(HasSubstr("lm_head"), HasSubstr("untied")));
}

TEST(QuantizeRecipe, WhatIsComputedTogetherIsOfOneType) {
  EXPECT_THAT(yaml_error("- '*.in_proj_z': int8"), AllOf(HasSubstr("in_proj_qkv"), HasSubstr("in_proj_z"), HasSubstr("computed together")));
  EXPECT_THAT(yaml_error("- '*.experts.*.gate_proj': int8"), HasSubstr("computed together"));
}

TEST(QuantizeRecipe, OtherFilesAreRefusedWithTheirLine) {
  for (const auto& [yaml, line, why] : {std::tuple{"", 1, "expected a list"},
                                        {"lm_head: int8", 1, "expected a list"},
                                        {"- lm_head", 1, "expected a list"},
                                        {"- lm_head: int8\n- [a, b]", 2, "expected a list"},
                                        {"- lm_head: int8\n- x: int4", 2, "'int4'"},
                                        {"- lm_head: int8\n- x: [int8]", 2, "int8 or float"},
                                        {"- lm_head: int8\n  x: int8", 2, "one pattern to a line"},
                                        {"- ? [a]\n  : int8", 1, "a pattern"},
                                        {"- &a lm_head: int8", 1, "plain text"},
                                        {"- lm_head: !int int8", 1, "plain text"},
                                        {"- x: *b", 1, "int8 or float"},
                                        {"- \"lm_head: int8", 1, "not YAML"},
                                        {"- lm_head: int8\n---\n- x: int8", 2, "second document"},
                                        {"- lm_head: int8\n- \"[a\": int8", 2, "without ']'"},
                                        {"\x01", 1, "not YAML"}})
    EXPECT_THAT(yaml_error(yaml), AllOf(HasSubstr(concat("recipe.yaml:", line, ":")), HasSubstr(why))) << yaml;
  EXPECT_THAT(yaml_error("[]"), HasSubstr("empty"));
  EXPECT_THAT(error_of([] { QuantizeRecipe::read("/nowhere/recipe.yaml"); }), HasSubstr("/nowhere/recipe.yaml"));
  EXPECT_THAT(yaml_error(std::string(200'000, '[')), HasSubstr("recipe.yaml:1:"));
}

TEST(QuantizeRecipe, AnInt8HeadIsServed) {
  const TempDir dir;
  dir.write("recipe.yaml", "- lm_head: int8\n");
  for (const QuantizedFormat format : {QuantizedFormat::kAscend, QuantizedFormat::kCompressedTensors}) {
    const std::string out = dir.file(format == QuantizedFormat::kAscend ? "ascend" : "compressed");
    quantize_checkpoint({.source = golden_dir("moe"),
                         .destination = out,
                         .format = format,
                         .recipe = QuantizeRecipe::read(dir.file("recipe.yaml")),
                         .threads = 1},
                        {}, {});
    const Inspection inspection = inspect_model(out);
    EXPECT_EQ(inspection.obstacle, "");
    EXPECT_EQ(inspection.quantized.begin()->second.count("lm_head"), 1u);
    EXPECT_GT(inspection.bf16.int8_saving, 0);
    GoldenModel plain(golden_dir("moe"), DType::kBF16, 1), int8(out, DType::kBF16, 1);
    const std::vector<Token> prompt = {5, 17, 99, 3, 250, 7, 7, 42};
    const auto want = plain.prefill(0, prompt, 0), got = int8.prefill(0, prompt, 0);
    for (size_t t = 0; t < prompt.size(); ++t) {
      double error = 0, size = 0;
      for (size_t i = 0; i < want[t].size(); ++i) error += std::pow(got[t][i] - want[t][i], 2), size += std::pow(want[t][i], 2);
      EXPECT_LT(std::sqrt(error / size), 0.02) << "token " << t;
      EXPECT_GT(error, 0) << "the head is the one that was";
    }
  }
}

}  // namespace
}  // namespace weir
