// Matrices as eight-bit checkpoints store them: what each format means, and what is refused by name.
#include "weir/nn/stored_linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "checkpoint_maker.h"
#include "weir/base/error.h"
#include "weir/nn/loader.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::string kModule = "model.language_model.layers.0.self_attn.q_proj";
const std::string kWeight = kModule + ".weight";
constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

std::string described_as(const std::string& type) {
  return R"({"version": "1.0.0", "model_quant_type": "W8A8", "optional": {}, ")" + kWeight + "\": \"" + type + "\"}";
}
std::string config_with(const std::string& quantization) { return R"({"quantization_config": )" + quantization + "}"; }

const std::string kChannel = R"("weights": {"num_bits": 8, "type": "int", "symmetric": true, "strategy": "channel", "dynamic": false})";
const std::string kToken =
    R"("input_activations": {"num_bits": 8, "type": "int", "symmetric": true, "strategy": "token", "dynamic": true})";
std::string compressed(const std::string& weights, const std::string& inputs, const std::string& ignore = "[]") {
  return config_with(
      R"({"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {"group_0": {"targets": ["Linear"], )" +
      weights + ", " + inputs + "}}, \"ignore\": " + ignore + "}");
}
const std::string kFp8 = config_with(R"({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [2, 3]})");

// [2, 3] of W8A8_DYNAMIC.
CheckpointMaker dynamic_linear() {
  CheckpointMaker out;
  out.add<int8_t>(kWeight, DType::kI8, {2, 3}, {1, -2, 3, 127, -128, 0});
  out.add<float>(kModule + ".weight_scale", DType::kF32, {2, 1}, {0.5f, 0.25f});
  out.add<float>(kModule + ".weight_offset", DType::kF32, {2, 1}, {0.0f, 0.0f});
  return out;
}
CheckpointMaker static_linear() {
  CheckpointMaker out;
  out.add<int8_t>(kWeight, DType::kI8, {2, 3}, {1, -2, 3, 127, -128, 0});
  out.add<float>(kModule + ".input_scale", DType::kF32, {1}, {0.125f});
  out.add<float>(kModule + ".input_offset", DType::kF32, {1}, {-3.0f});
  out.add<int32_t>(kModule + ".quant_bias", DType::kI32, {2}, {7, -9});
  out.add<float>(kModule + ".deq_scale", DType::kF32, {2}, {0.5f, 0.25f});
  return out;
}

StoredLinear take(const Checkpoint& checkpoint, int64_t rows = 2, int64_t columns = 3) {
  WeightReader reader(checkpoint);
  StoredLinear out = StoredLinear::take(reader, kWeight, rows, columns);
  reader.expect_all_taken();
  return out;
}
std::string error_of(const CheckpointMaker& maker, const std::string& file, const std::string& text) {
  try {
    take(maker.open(file, text));
  } catch (const Error& error) {
    return error.what();
  }
  return "(no error)";
}
std::string error_of(const CheckpointMaker& maker, const std::string& type) {
  return error_of(maker, "quant_model_description.json", described_as(type));
}

TEST(StoredLinear, DynamicRowsHaveAScaleEach) {
  const StoredLinear linear = take(dynamic_linear().open("quant_model_description.json", described_as("W8A8_DYNAMIC")));
  EXPECT_EQ(linear.format, LinearFormat::kInt8Dynamic);
  EXPECT_EQ(linear.scale, (std::vector<float>{0.5f, 0.25f}));
  EXPECT_TRUE(linear.bias.empty());
  EXPECT_EQ(linear.input.scale, 0.0f);
}

TEST(StoredLinear, StaticOnesHaveAnInputScaleAndABiasInIntegers) {
  CheckpointMaker maker = static_linear();
  for (const bool as_int64 : {false, true}) {
    if (as_int64)  // the FP32 pattern in the low half; the upper one means nothing
      maker.add<uint64_t>(kModule + ".deq_scale", DType::kI64, {2}, {0x3f000000u | (uint64_t{5} << 32), 0x3e800000u});
    const StoredLinear linear = take(maker.open("quant_model_description.json", described_as("W8A8")));
    EXPECT_EQ(linear.format, LinearFormat::kInt8Static);
    EXPECT_EQ(linear.scale, (std::vector<float>{0.5f, 0.25f}));
    EXPECT_EQ(linear.bias, (std::vector<int32_t>{7, -9}));
    EXPECT_EQ(linear.input.scale, 0.125f);
    EXPECT_EQ(linear.input.offset, -3.0f);
  }
}

TEST(StoredLinear, MixedOnesAreComputedDynamically) {
  CheckpointMaker maker = static_linear();
  maker.add<float>(kModule + ".weight_scale", DType::kF32, {2, 1}, {0.75f, 0.25f});
  maker.add<float>(kModule + ".weight_offset", DType::kF32, {2, 1}, {0.0f, 0.0f});
  const StoredLinear linear = take(maker.open("quant_model_description.json", described_as("W8A8_MIX")));
  EXPECT_EQ(linear.format, LinearFormat::kInt8Dynamic);
  EXPECT_EQ(linear.scale[0], 0.75f);
}

TEST(StoredLinear, CompressedTensorsAreRecognisedByTheirTypes) {
  CheckpointMaker maker = dynamic_linear();
  maker.remove(kModule + ".weight_offset").add<uint16_t>(kModule + ".weight_scale", DType::kBF16, {2, 1}, {0x3f00, 0x3e80});
  const StoredLinear linear = take(maker.open("config.json", compressed(kChannel, kToken, R"(["lm_head", "re:.*k_proj.*"])")));
  EXPECT_EQ(linear.format, LinearFormat::kInt8Dynamic);
  EXPECT_EQ(linear.scale, (std::vector<float>{0.5f, 0.25f}));

  maker.add<float>(kModule + ".input_scale", DType::kF32, {1}, {2.0f}).add<int8_t>(kModule + ".input_zero_point", DType::kI8, {1}, {-4});
  const StoredLinear fixed = take(
      maker.open("config.json",
                 compressed(kChannel, R"("input_activations": {"num_bits": 8, "type": "int", "strategy": "tensor", "dynamic": false})")));
  EXPECT_EQ(fixed.format, LinearFormat::kInt8Static);
  EXPECT_EQ(fixed.scale, (std::vector<float>{1.0f, 0.5f}));      // weight and input together
  EXPECT_EQ(fixed.bias, (std::vector<int32_t>{4 * 2, 4 * -1}));  // - zero point · Σ row
}

TEST(StoredLinear, BlocksOfFp8BecomeFloats) {
  CheckpointMaker maker;
  // 1, 1.125, -448, 2^-9, 0, 0.5 | 2 …
  maker.add<uint8_t>(kWeight, DType::kF8E4M3, {3, 4}, {0x38, 0x39, 0xfe, 0x01, 0x00, 0x30, 0x40, 0x38, 0x38, 0x38, 0x38, 0x38});
  maker.add<uint16_t>(kWeight + "_scale_inv", DType::kBF16, {2, 2}, {0x3f80, 0x4000, 0x4040, 0x3f00});  // 1 2 | 3 0.5
  const Checkpoint checkpoint = maker.open("config.json", kFp8);
  const StoredLinear linear = take(checkpoint, 3, 4);
  ThreadPool pool(1, /*pin=*/false);
  ops::PackedMatrix packed(3, 4, DType::kF32);
  linear.pack(pool, packed, 0);
  const std::vector<float> want = {1, 1.125f, -448, 2 * std::ldexp(1.0f, -9), 0, 0.5f, 2, 2, 3, 3, 3, 0.5f};
  for (int64_t r = 0; r < 3; ++r)
    for (int64_t c = 0; c < 4; ++c) EXPECT_EQ(packed.storage().data<float>()[c * 16 + r], want[static_cast<size_t>(4 * r + c)]) << r << c;
}

TEST(StoredLinear, BlocksOfFp8BecomeInt8RowsWhenAsked) {
  CheckpointMaker maker;
  maker.add<uint8_t>(kWeight, DType::kF8E4M3, {2, 4}, {0x38, 0xb8, 0x00, 0x30, 0x00, 0x00, 0x00, 0x00});  // 1 -1 0 0.5 | zeros
  maker.add<float>(kWeight + "_scale_inv", DType::kF32, {1, 2}, {1.0f, 4.0f});
  const Checkpoint checkpoint = maker.open("config.json", kFp8);
  WeightReader reader(checkpoint);
  const StoredLinear linear = StoredLinear::take(reader, kWeight, 2, 4, Fp8As::kInt8);
  EXPECT_TRUE(linear.is_int8());
  ThreadPool pool(2, /*pin=*/false);
  ops::PackedMatrix packed(2, 4, linear.packed_type(DType::kBF16));
  linear.pack(pool, packed, 0);
  const auto* steps = static_cast<const uint32_t*>(packed.storage().raw());
  EXPECT_EQ(steps[0], 0x7f00c040u) << "64 -64 0 127: 0.5 counts four times";
  EXPECT_EQ(steps[1], 0u);
  const float scale = std::bit_cast<float>(steps[2 * 16]), empty = std::bit_cast<float>(steps[2 * 16 + 1]);
  EXPECT_EQ(scale, 2.0f / 127);
  EXPECT_GT(empty, 0.0f);
}

TEST(StoredLinear, AScaleThatIsNoPositiveNumberIsNamed) {
  for (const float bad : {0.0f, -1.0f, kNan, kInf}) {
    CheckpointMaker maker = dynamic_linear();
    maker.add<float>(kModule + ".weight_scale", DType::kF32, {2, 1}, {0.5f, bad});
    EXPECT_THAT(error_of(maker, "W8A8_DYNAMIC"), AllOf(HasSubstr(kModule + ".weight_scale"), HasSubstr("row 1"), HasSubstr("above zero")));
    maker = static_linear();
    maker.add<float>(kModule + ".input_scale", DType::kF32, {1}, {bad});
    EXPECT_THAT(error_of(maker, "W8A8"), HasSubstr(".input_scale"));
    maker = static_linear();
    maker.add<float>(kModule + ".deq_scale", DType::kF32, {2}, {bad, 1});
    EXPECT_THAT(error_of(maker, "W8A8"), HasSubstr(".deq_scale"));
  }
}

TEST(StoredLinear, ScalesOfOtherShapesAndTypesAreNamed) {
  CheckpointMaker maker = dynamic_linear();
  maker.add<float>(kModule + ".weight_scale", DType::kF32, {3, 1}, {1, 1, 1});
  EXPECT_THAT(error_of(maker, "W8A8_DYNAMIC"), AllOf(HasSubstr(".weight_scale"), HasSubstr("[3, 1]"), HasSubstr("[2]")));
  maker.add<int32_t>(kModule + ".weight_scale", DType::kI32, {2, 1}, {1, 1});
  EXPECT_THAT(error_of(maker, "W8A8_DYNAMIC"), AllOf(HasSubstr(".weight_scale"), HasSubstr("I32")));
  maker.remove(kModule + ".weight_scale");
  EXPECT_THAT(error_of(maker, "W8A8_DYNAMIC"), AllOf(HasSubstr(".weight_scale"), HasSubstr("missing")));
  maker = static_linear();
  maker.add<float>(kModule + ".input_offset", DType::kF32, {1}, {0.5f});
  EXPECT_THAT(error_of(maker, "W8A8"), AllOf(HasSubstr(".input_offset"), HasSubstr("0.5"), HasSubstr("integer")));
  maker = static_linear();
  maker.add<float>(kModule + ".quant_bias", DType::kF32, {2}, {1, 1});
  EXPECT_THAT(error_of(maker, "W8A8"), AllOf(HasSubstr(".quant_bias"), HasSubstr("F32")));
  maker = CheckpointMaker();
  maker.add<uint8_t>(kWeight, DType::kF8E4M3, {2, 3}, {0, 0, 0, 0, 0, 0});
  maker.add<float>(kWeight + "_scale_inv", DType::kF32, {2, 1}, {1, 1});
  EXPECT_THAT(error_of(maker, "config.json", kFp8), AllOf(HasSubstr("_scale_inv"), HasSubstr("[2, 1]"), HasSubstr("[1, 1]")));
  maker.add<float>(kWeight + "_scale_inv", DType::kF32, {1, 1}, {kNan});
  EXPECT_THAT(error_of(maker, "config.json", kFp8), AllOf(HasSubstr("_scale_inv"), HasSubstr("nan")));
  maker.add<float>(kWeight + "_scale_inv", DType::kF32, {1, 1}, {1e36f});
  EXPECT_THAT(error_of(maker, "config.json", kFp8), AllOf(HasSubstr("_scale_inv"), HasSubstr("1e+36")));
  maker.add<float>(kWeight + "_scale_inv", DType::kF32, {1, 1}, {1}).add<uint8_t>(kWeight, DType::kF8E4M3, {2, 3}, {0, 0, 0, 0, 0xff, 0});
  EXPECT_THAT(error_of(maker, "config.json", kFp8), AllOf(HasSubstr(kWeight), HasSubstr("NaN")));
}

TEST(StoredLinear, AsymmetricWeightsAreRefused) {
  CheckpointMaker maker = dynamic_linear();
  maker.add<float>(kModule + ".weight_offset", DType::kF32, {2, 1}, {0, 3});
  EXPECT_THAT(error_of(maker, "W8A8_DYNAMIC"), AllOf(HasSubstr(".weight_offset"), HasSubstr("row 1"), HasSubstr("symmetric")));
}

TEST(StoredLinear, ADescriptionThatContradictsTheTypeIsNamed) {
  EXPECT_THAT(error_of(dynamic_linear(), "FLOAT"), AllOf(HasSubstr(kWeight), HasSubstr("I8"), HasSubstr("FLOAT")));
  CheckpointMaker maker;
  maker.add<uint16_t>(kWeight, DType::kBF16, {2, 3}, {0, 0, 0, 0, 0, 0});
  EXPECT_THAT(error_of(maker, "W8A8_DYNAMIC"), AllOf(HasSubstr(kWeight), HasSubstr("BF16"), HasSubstr("W8A8_DYNAMIC")));
  EXPECT_THAT(error_of(dynamic_linear(), "config.json", "{}"), AllOf(HasSubstr(kWeight), HasSubstr("nothing says")));
  EXPECT_THAT(error_of(dynamic_linear(), "config.json", compressed(kChannel, kToken, "[\"" + kModule + "\"]")),
              AllOf(HasSubstr(kWeight), HasSubstr("ignore")));
  EXPECT_THAT(error_of(dynamic_linear(), "config.json", kFp8), AllOf(HasSubstr(kWeight), HasSubstr("F8_E4M3")));
}

std::string grouped(const std::string& groups, const std::string& ignore = "[]") {
  return config_with(R"({"quant_method": "compressed-tensors", "config_groups": {)" + groups + "}, \"ignore\": " + ignore + "}");
}
std::string group(const std::string& name, const std::string& targets, const std::string& inputs = kToken) {
  return "\"" + name + R"(": {"targets": )" + targets + ", " + kChannel + ", " + inputs + "}";
}
const std::string kFixed = R"("input_activations": {"num_bits": 8, "type": "int", "strategy": "tensor", "dynamic": false})";

TEST(CompressedTensors, IgnoreAndTargetsMeanClassesNamesAndPatterns) {
  CheckpointMaker maker = dynamic_linear();
  maker.remove(kModule + ".weight_offset");
  const auto format = [&](const std::string& config) { return take(maker.open("config.json", config)).format; };
  for (const char* targets : {R"(["Linear"])", R"(["re:.*self_attn.*"])", R"(["model.language_model.layers.0.self_attn.q_proj"])",
                              R"(["model.layers.0.self_attn.q_proj"])", R"(["lm_head", "re:^(?!.*mlp).*_proj$"])"})
    EXPECT_EQ(format(grouped(group("group_0", targets))), LinearFormat::kInt8Dynamic) << targets;
  for (const char* ignore : {R"(["re:.*q_proj"])", R"(["re:model\\.language_model\\.layers\\.0\\..*"])", R"(["Linear"])"})
    EXPECT_THAT(error_of(maker, "config.json", grouped(group("group_0", R"(["Linear"])"), ignore)),
                AllOf(HasSubstr(kWeight), HasSubstr("I8"), HasSubstr("\"ignore\" lists it")))
        << ignore;
  EXPECT_EQ(format(grouped(group("group_0", R"(["Linear"])"), R"(["re:q_proj", "re:lm_head"])")), LinearFormat::kInt8Dynamic)
      << "patterns match from the start of a name";
  EXPECT_THAT(error_of(maker, "config.json", grouped(group("group_0", R"(["re:.*mlp.*"])"))),
              AllOf(HasSubstr(kWeight), HasSubstr("no target of config_groups")));
  // A name goes before a class, and the group says how inputs are rounded.
  maker.add<float>(kModule + ".input_scale", DType::kF32, {1}, {2.0f});
  EXPECT_EQ(format(grouped(group("a", R"(["Linear"])") + ", " + group("b", R"(["re:.*q_proj$"])", kFixed))), LinearFormat::kInt8Static);
  EXPECT_THAT(error_of(maker, "config.json", grouped(group("a", R"(["Linear"])"))),
              AllOf(HasSubstr("input_scale"), HasSubstr("scale per token")));
  maker.remove(kModule + ".input_scale");
  EXPECT_THAT(error_of(maker, "config.json", grouped(group("a", R"(["Linear"])", kFixed))),
              AllOf(HasSubstr(".input_scale"), HasSubstr("missing")));
}

TEST(CompressedTensors, AFloatWhereInt8IsPromisedIsNamed) {
  CheckpointMaker maker;
  maker.add<uint16_t>(kWeight, DType::kBF16, {2, 3}, {0, 0, 0, 0, 0, 0});
  EXPECT_THAT(error_of(maker, "config.json", grouped(group("group_0", R"(["Linear"])"))),
              AllOf(HasSubstr(kWeight), HasSubstr("BF16"), HasSubstr("config_groups.group_0 targets it"), HasSubstr("should be I8")));
  EXPECT_EQ(take(maker.open("config.json", grouped(group("group_0", R"(["Linear"])"), R"(["re:.*self_attn.*"])"))).format,
            LinearFormat::kFloat);
  EXPECT_EQ(take(maker.open("config.json", grouped(group("group_0", R"(["re:.*mlp.*"])")))).format, LinearFormat::kFloat);
}

TEST(CompressedTensors, ListsThatCannotBeReadAreNamed) {
  const CheckpointMaker maker = dynamic_linear();
  EXPECT_THAT(error_of(maker, "config.json", grouped(group("group_0", R"(["re:.*("])"))),
              AllOf(HasSubstr("config_groups.group_0: targets"), HasSubstr("'(' without ')'")));
  EXPECT_THAT(error_of(maker, "config.json", grouped(group("group_0", "7"))), HasSubstr("targets must be a list"));
  EXPECT_THAT(error_of(maker, "config.json", grouped(group("group_0", R"(["Linear"])"), "[7]")),
              HasSubstr("ignore must hold names, got 7"));
  EXPECT_THAT(error_of(maker, "config.json", grouped(group("group_0", R"(["Linear"])"), R"(["re:(.|..)*%"])")), HasSubstr("too expensive"));
}

TEST(StoredLinear, TypesThatAreNotBuiltAreNamedWithTheirTensor) {
  for (const char* type : {"W4A8_DYNAMIC", "W8A16", "W8A8_MXFP8"})
    EXPECT_THAT(error_of(dynamic_linear(), type), AllOf(HasSubstr("not built"), HasSubstr(kWeight), HasSubstr(type)));
  EXPECT_THAT(error_of(dynamic_linear(), "config.json", config_with(R"({"quant_method": "gptq"})")),
              AllOf(HasSubstr("not built"), HasSubstr("gptq")));
  const std::string narrow = R"("weights": {"num_bits": 4, "type": "int", "symmetric": true, "strategy": "channel"})";
  EXPECT_THAT(error_of(dynamic_linear(), "config.json", compressed(narrow, kToken)),
              AllOf(HasSubstr("not built"), HasSubstr("group_0"), HasSubstr("num_bits is 4")));
  EXPECT_THAT(error_of(dynamic_linear(), "config.json", compressed(kChannel, R"("input_activations": null)")),
              HasSubstr("input_activations is null"));
  EXPECT_THAT(error_of(dynamic_linear(), "config.json", config_with(R"({"quant_method": "fp8", "weight_block_size": [0, 128]})")),
              HasSubstr("weight_block_size [0,128]"));
}

TEST(Quantization, TheFlagIsCheckedAgainstWhatIsThere) {
  const auto refusal = [](const Checkpoint& checkpoint, const char* wanted) -> std::string {
    try {
      checkpoint.quantization().expect(wanted);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const Checkpoint ascend = dynamic_linear().open("quant_model_description.json", described_as("W8A8_DYNAMIC"));
  EXPECT_EQ(refusal(ascend, "ascend"), "");
  EXPECT_EQ(refusal(ascend, ""), "");
  EXPECT_THAT(refusal(ascend, "none"),
              AllOf(HasSubstr("--quantization none"), HasSubstr("ascend"), HasSubstr("quant_model_description.json")));
  const Checkpoint plain = dynamic_linear().open("config.json", "{}");
  EXPECT_EQ(refusal(plain, "None"), "");
  EXPECT_THAT(refusal(plain, "ascend"), HasSubstr("not quantised"));
}

// Layers ------------------------------------------------------------------------------------------------------------------------

const std::string kExperts = "model.language_model.layers.0.mlp.experts.";

std::string describe(const std::vector<std::string>& modules) {
  std::string text = "{\"version\": \"1.0.0\"";
  for (const std::string& module : modules) text += ", \"" + module + ".weight\": \"W8A8_DYNAMIC\"";
  return text + "}";
}

void add_int8(CheckpointMaker& maker, const std::string& module, int64_t rows, int64_t columns) {
  maker.add<int8_t>(module + ".weight", DType::kI8, {rows, columns}, std::vector<int8_t>(static_cast<size_t>(rows * columns), 3));
  maker.add<float>(module + ".weight_scale", DType::kF32, {rows, 1}, std::vector<float>(static_cast<size_t>(rows), 0.5f));
}

TEST(Loader, AMissingExpertAndOneOfAnotherTypeAreNamed) {
  std::vector<std::string> modules;
  CheckpointMaker maker;
  for (const char* expert : {"0", "1"})
    for (const char* part : {".gate_proj", ".up_proj", ".down_proj"}) {
      modules.push_back(kExperts + expert + part);
      add_int8(maker, modules.back(), 4, 4);
    }
  const auto error = [&](const CheckpointMaker& with, int64_t count, const std::vector<std::string>& described) -> std::string {
    const Checkpoint checkpoint = with.open("quant_model_description.json", describe(described));
    WeightReader reader(checkpoint);
    ThreadPool pool(2, /*pin=*/false);
    Loader loader(reader, DType::kBF16, pool, {});
    ops::ExpertWeights out;
    try {
      loader.experts(kExperts, count, 4, 4, out);
    } catch (const Error& e) {
      return e.what();
    }
    EXPECT_EQ(out.gate_up[1].dtype(), DType::kI8);
    return "";
  };
  EXPECT_EQ(error(maker, 2, modules), "");
  EXPECT_THAT(error(maker, 3, modules), AllOf(HasSubstr("experts.2.gate_proj.weight"), HasSubstr("missing")));
  CheckpointMaker mixed = maker;
  const std::string odd = kExperts + "1.down_proj";
  mixed.remove(odd + ".weight_scale").add<uint16_t>(odd + ".weight", DType::kBF16, {4, 4}, std::vector<uint16_t>(16, 0));
  std::vector<std::string> others = modules;
  others.pop_back();
  EXPECT_THAT(error(mixed, 2, others), AllOf(HasSubstr(odd), HasSubstr("int8"), HasSubstr("float"), HasSubstr("one type")));
}

TEST(Loader, PartsOfDifferentTypesBecomeSeveralMatrices) {
  CheckpointMaker maker;
  add_int8(maker, "a", 4, 8);
  add_int8(maker, "b", 20, 8);
  maker.add<uint16_t>("c.weight", DType::kBF16, {3, 8}, std::vector<uint16_t>(24, 0x3f80));
  const Checkpoint checkpoint = maker.open("quant_model_description.json", describe({"a", "b"}));
  WeightReader reader(checkpoint);
  ThreadPool pool(2, /*pin=*/false);
  Loader loader(reader, DType::kBF16, pool, {});
  const auto stacked = loader.matrices({{"a.weight", 4}, {"b.weight", 20}, {"c.weight", 3}}, 8);
  ASSERT_EQ(stacked.size(), 2u);
  EXPECT_EQ(stacked[0].dtype(), DType::kI8);
  EXPECT_EQ(stacked[0].n(), 24);
  EXPECT_EQ(stacked[1].dtype(), DType::kBF16);
  EXPECT_EQ(stacked[1].n(), 3);
  EXPECT_THROW(loader.matrix({{"b.weight", 20}, {"c.weight", 3}}, 8), Error);
}

}  // namespace
}  // namespace weir
