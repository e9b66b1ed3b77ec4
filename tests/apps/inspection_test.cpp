#include "weir/apps/inspection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "weir/base/error.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::string kRoot = WEIR_SOURCE_DIR;

TEST(Inspection, CountsTheBundledModelAsItsCardSays) {
  const Inspection model = inspect_model(kRoot + "/models/weir-tiny");
  EXPECT_EQ(model.mtp.elements, 584'576);
  EXPECT_EQ(model.vision.elements, 268'224);
  EXPECT_EQ(model.text.elements + model.mtp.elements + model.vision.elements, 5'812'704);
  EXPECT_EQ(model.other.tensors, 0);
  EXPECT_EQ(model.scales.tensors, 0);
  EXPECT_EQ(model.num_files, 1);
  EXPECT_EQ(model.trunk_experts, "fused");
  EXPECT_EQ(model.mtp_experts, "per expert");
  EXPECT_EQ(model.quantization, "none");
  EXPECT_TRUE(model.quantized.empty());
  EXPECT_EQ(model.obstacle, "");
  // 2 attention layers, 2 heads of 64, keys and values, 2 bytes each.
  EXPECT_EQ(model.bf16.kv_per_token, 2 * 2 * 64 * 2 * 2);
  EXPECT_EQ(model.f32.kv_per_token, 2 * model.bf16.kv_per_token);
  EXPECT_GE(model.bf16.state_per_sequence, 6 * 8 * 32 * 32 * 4);
  EXPECT_GE(model.bf16.weights + model.bf16.coding_saving, 2 * model.text.elements);
  EXPECT_GT(model.bf16.coding_saving, 2 * model.text.elements / 5) << "a quarter, but for the embedding";
  EXPECT_EQ(model.f32.coding_saving, 0);
}

TEST(Inspection, DtypesAddUpToTheWhole) {
  const Inspection model = inspect_model(kRoot + "/models/weir-tiny");
  int64_t bytes = 0;
  for (const auto& [type, tally] : model.dtypes) bytes += tally.bytes;
  EXPECT_EQ(bytes, model.bytes_on_disk);
  EXPECT_EQ(model.dtypes.at("F32").tensors, 12) << "A_log and norm of six delta-net layers";
}

TEST(Inspection, ReportsShardsExpertLayoutsAndDenseModels) {
  const Inspection sharded = inspect_model(kRoot + "/tests/golden/moe_per_expert");
  EXPECT_EQ(sharded.num_files, 5);
  EXPECT_EQ(sharded.trunk_experts, "per expert");
  const Inspection dense = inspect_model(kRoot + "/tests/golden/dense");
  EXPECT_EQ(dense.trunk_experts, "");
  EXPECT_THAT(to_text(dense), HasSubstr("dense, width"));
}

TEST(Inspection, TextAndJsonTellTheSame) {
  const Inspection model = inspect_model(kRoot + "/models/weir-tiny");
  EXPECT_THAT(to_text(model),
              AllOf(HasSubstr("(3D A) x 2"), HasSubstr("16, 4 per token"), HasSubstr("BF16"), HasSubstr("servable"), HasSubstr("yes")));
  const Json json = to_json(model);
  EXPECT_EQ(json["layers"]["count"], 8);
  EXPECT_EQ(json["layers"]["types"][3], "full_attention");
  EXPECT_EQ(json["parameters"]["mtp"]["parameters"], 584'576);
  EXPECT_EQ(json["memory"]["bfloat16"]["kv_bytes_per_token"], model.bf16.kv_per_token);
  EXPECT_EQ(json["servable"], true);
}

TEST(Inspection, ShowsTheTypesOfAQuantisedExportAndWhatTheySave) {
  const Inspection model = inspect_model(kRoot + "/tests/golden/w8a8"), plain = inspect_model(kRoot + "/tests/golden/moe");
  EXPECT_EQ(model.quantization, "quant_model_description.json");
  EXPECT_EQ(model.quant_method, "ascend");
  EXPECT_EQ(model.obstacle, "");
  ASSERT_EQ(model.quantized.size(), 1u);
  const Inspection::Quantized q = model.quantized.at("W8A8_DYNAMIC").at("model.language_model.layers.*.self_attn.q_proj");
  EXPECT_EQ(q.count, 1);
  EXPECT_EQ(q.layers, (std::set<int64_t>{3}));
  EXPECT_GT(model.bf16.int8_saving, 0);
  EXPECT_EQ(model.bf16.weights, plain.bf16.weights - model.bf16.int8_saving);
  EXPECT_THAT(to_text(model),
              AllOf(HasSubstr("layers.*.self_attn.q_proj  (layer 3)"), HasSubstr("(all layers)"), HasSubstr("saved by int8")));
  EXPECT_EQ(to_json(model)["memory"]["bfloat16"]["int8_saving_bytes"], model.bf16.int8_saving);
}

TEST(Inspection, SaysWhichTensorContradictsTheDescription) {
  const std::filesystem::path dir = std::filesystem::path(testing::TempDir()) / "weir_inspect_quantised";
  std::filesystem::remove_all(dir);
  std::filesystem::create_directories(dir);
  for (const char* file : {"config.json", "model.safetensors"})
    std::filesystem::copy_file(kRoot + "/tests/golden/dense/" + file, dir / file);
  const std::string name = "model.language_model.layers.3.self_attn.q_proj.weight";
  std::ofstream(dir / "quant_model_description.json") << "{\"version\": \"1.0.0\", \"" << name << "\": \"W8A8_DYNAMIC\"}";
  EXPECT_THAT(inspect_model(dir).obstacle, AllOf(HasSubstr(name), HasSubstr("BF16"), HasSubstr("W8A8_DYNAMIC")));

  std::ofstream(dir / "quant_model_description.json") << "[1, 2]";
  EXPECT_THROW(inspect_model(dir), Error);
  std::filesystem::remove_all(dir);
}

TEST(Inspection, NamesTheFileThatIsMissing) {
  try {
    inspect_model(kRoot + "/tests/apps/data");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("tests/apps/data/config.json"));
  }
}

}  // namespace
}  // namespace weir
