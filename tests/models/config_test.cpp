#include "weir/models/config.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "weir/base/error.h"
#include "weir/base/json.h"

namespace weir {
namespace {

Json weir_tiny() { return read_json_file(std::string(WEIR_SOURCE_DIR) + "/models/weir-tiny/config.json"); }

ModelConfig read(const std::string& text) {
  const auto dir = std::filesystem::path(testing::TempDir()) / ("config_" + std::to_string(::getpid()));
  std::filesystem::create_directories(dir);
  std::ofstream(dir / "config.json") << text;
  return read_model_config(dir.string());
}
ModelConfig read(const Json& json) { return read(json.dump()); }

std::string refusal(const Json& json) {
  try {
    read(json);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(ModelConfig, ReadsTheBundledModel) {
  const ModelConfig c = read(weir_tiny());
  EXPECT_EQ(c.model_type, "qwen3_5_moe");
  EXPECT_EQ(c.layers.size(), 8u);
  EXPECT_EQ(c.count(LayerKind::kAttention), 2);
  EXPECT_EQ(c.rotary_pairs, 8);
  EXPECT_EQ(c.mrope_section, (std::vector<int64_t>{3, 3, 2}));
  EXPECT_TRUE(c.moe());
  EXPECT_TRUE(c.has_vision);
  EXPECT_EQ(kv_bytes_per_token(c, DType::kBF16), 2 * 2 * 2 * 64 * 2);
  EXPECT_EQ(kv_bytes_per_token(c, DType::kI8), 2 * 2 * 2 * (64 + 4)) << "a scale with every key and value";
}

TEST(ModelConfig, AcceptsTheLooseFormsMetInTheWild) {
  Json flat = weir_tiny()["text_config"];  // a text-only export: fields at top level
  EXPECT_EQ(read(flat).hidden, 128);
  Json no_types = weir_tiny();
  no_types["text_config"].erase("layer_types");
  EXPECT_EQ(read(no_types).count(LayerKind::kAttention), 2);
  Json outside = weir_tiny();  // rotary fields beside the others, or under the older name
  const Json rope = outside["text_config"]["rope_parameters"];
  outside["text_config"].erase("rope_parameters");
  outside["text_config"]["rope_scaling"] = rope;
  EXPECT_EQ(read(outside).mrope_section.size(), 3u);
  outside["text_config"].erase("rope_scaling");
  outside["text_config"]["rope_theta"] = 1000.0;
  outside["text_config"]["partial_rotary_factor"] = 0.5;
  EXPECT_EQ(read(outside).rotary_pairs, 16);
  EXPECT_EQ(read(outside).rope_theta, 1000.0);
}

TEST(ModelConfig, NamesFileFieldAndValue) {
  const auto with = [](const char* field, const Json& value) {
    Json json = weir_tiny();
    json["text_config"][field] = value;
    return refusal(json);
  };
  EXPECT_NE(with("hidden_size", -1).find("\"hidden_size\" must be an integer in [1, "), std::string::npos);
  EXPECT_NE(with("hidden_size", "128").find("got \"128\""), std::string::npos);
  EXPECT_NE(with("num_hidden_layers", 2000000).find("num_hidden_layers"), std::string::npos);
  EXPECT_NE(with("num_hidden_layers", 9).find("layer_types"), std::string::npos);
  EXPECT_NE(with("num_key_value_heads", 3).find("multiple"), std::string::npos);
  EXPECT_NE(with("num_experts_per_tok", 99).find("num_experts_per_tok"), std::string::npos);
  EXPECT_NE(with("rms_norm_eps", "x").find("rms_norm_eps"), std::string::npos);
  EXPECT_NE(with("vocab_size", 1e300).find("vocab_size"), std::string::npos);
  Json other = weir_tiny();
  other["model_type"] = "llama";
  EXPECT_NE(refusal(other).find("got \"llama\""), std::string::npos);
  EXPECT_NE(refusal(other).find("config.json"), std::string::npos);
}

TEST(ModelConfig, RefusesWhatIsNotAnObject) {
  for (const char* text : {"", "[]", "3", "{", "null", "{\"model_type\": 3}"}) EXPECT_THROW(read(std::string(text)), Error) << text;
}

}  // namespace
}  // namespace weir
