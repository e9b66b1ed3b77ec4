// FP8 checkpoints of the official layout: the model is that of the dequantised BF16 weights, or of their int8 rows, bit for bit.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/runtime/golden_model.h"
#include "tests/weights/safetensors_files.h"
#include "weir/base/json.h"
#include "weir/weights/safetensors_writer.h"

namespace weir {
namespace {

constexpr int64_t kBlock = 32;

float e4m3(int bits) {
  const int exponent = bits >> 3 & 15, fraction = bits & 7;
  const float size = exponent == 0 ? std::ldexp(float(fraction), -9) : std::ldexp(float(8 + fraction), exponent - 10);
  return bits >= 128 ? -size : size;
}
uint8_t nearest_e4m3(float value) {
  int best = 0;
  for (int bits = 0; bits < 256; ++bits)
    if ((bits & 127) != 127 && std::abs(e4m3(bits) - value) < std::abs(e4m3(best) - value)) best = bits;
  return static_cast<uint8_t>(best);
}

struct Files {
  std::vector<TensorPlan> tensors;
  std::vector<std::string> bytes;
  template <class T>
  void add(const std::string& name, DType type, Shape shape, const std::vector<T>& values) {
    tensors.push_back({name, type, shape});
    bytes.emplace_back(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
  void write(const std::string& dir, const Json& config) const {
    std::filesystem::create_directories(dir);
    SafetensorsWriter out(dir + "/model.safetensors", tensors);
    for (const std::string& b : bytes) out.write(std::as_bytes(std::span(b)));
    out.finish();
    std::ofstream(dir + "/config.json") << config.dump();
  }
};

// What the releases quantise: attention, the large projections of the delta net, routed and shared experts.
bool is_fp8(const std::string& name) {
  for (const char* part :
       {"q_proj", "k_proj", "v_proj", "o_proj", "in_proj_qkv", "in_proj_z", "out_proj", "gate_proj", "up_proj", "down_proj"})
    if (name.ends_with(std::string(".") + part + ".weight")) return true;
  return false;
}

// A plain evaluation of the rounding: scale = max|w| / 127 per row.
void add_int8_rows(Files& files, const std::string& name, const std::vector<float>& values, int64_t rows, int64_t columns) {
  std::vector<int8_t> q(values.size());
  std::vector<float> scales;
  for (int64_t r = 0; r < rows; ++r) {
    const float* w = values.data() + r * columns;
    float most = 0;
    for (int64_t c = 0; c < columns; ++c) most = std::max(most, std::abs(w[c]));
    scales.push_back(most / 127);
    for (int64_t c = 0; c < columns; ++c)
      q[static_cast<size_t>(r * columns + c)] = static_cast<int8_t>(std::nearbyint(w[c] / scales.back()));
  }
  files.add(name, DType::kI8, Shape{rows, columns}, q);
  files.add(name + "_scale", DType::kF32, Shape{rows, 1}, scales);
}

TEST(Fp8, BlocksGiveTheModelOfTheDequantisedWeightsOrOfTheirInt8Rows) {
  const Checkpoint source = Checkpoint::open(golden_dir("moe_per_expert"));
  Files fp8, plain, int8;
  int quantised = 0;
  for (const Checkpoint::Entry& entry : source.entries()) {
    const Tensor& t = entry.tensor;
    std::vector<uint8_t> raw(static_cast<size_t>(t.nbytes()));
    std::memcpy(raw.data(), t.raw(), raw.size());
    if (!is_fp8(entry.name) || entry.name.starts_with("mtp.") || t.dtype() != DType::kBF16) {
      fp8.add(entry.file_name, t.dtype(), t.shape(), raw);
      plain.add(entry.file_name, t.dtype(), t.shape(), raw);
      int8.add(entry.file_name, t.dtype(), t.shape(), raw);
      continue;
    }
    ++quantised;
    const int64_t rows = t.dim(0), columns = t.dim(1), wide = (columns + kBlock - 1) / kBlock;
    std::vector<uint16_t> values(raw.size() / 2), scales(static_cast<size_t>((rows + kBlock - 1) / kBlock * wide));
    std::memcpy(values.data(), raw.data(), raw.size());
    for (size_t b = 0; b < scales.size(); ++b) scales[b] = f32_to_bf16(0.001f * float(1 + b % 3));
    std::vector<uint8_t> bits(values.size());
    std::vector<float> exact(values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      const auto row = static_cast<int64_t>(i) / columns, column = static_cast<int64_t>(i) % columns;
      const float scale = bf16_to_f32(scales[static_cast<size_t>(row / kBlock * wide + column / kBlock)]);
      bits[i] = nearest_e4m3(bf16_to_f32(values[i]) / scale);
      exact[i] = e4m3(bits[i]) * scale;
      values[i] = f32_to_bf16(exact[i]);
    }
    add_int8_rows(int8, entry.file_name, exact, rows, columns);
    fp8.add(entry.file_name, DType::kF8E4M3, t.shape(), bits);
    fp8.add(entry.file_name + "_scale_inv", DType::kBF16, Shape{static_cast<int64_t>(scales.size()) / wide, wide}, scales);
    plain.add(entry.file_name, DType::kBF16, t.shape(), values);
  }
  ASSERT_GT(quantised, 30);
  const TempDir dir;
  Json config = read_json_file(golden_dir("moe_per_expert") + "/config.json");
  plain.write(dir.file("plain"), config);
  Json int8_config = config;
  const Json weights = {{"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", "channel"}};
  const Json inputs = {{"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", "token"}, {"dynamic", true}};
  int8_config["quantization_config"] = {
      {"quant_method", "compressed-tensors"},
      {"config_groups", {{"group_0", {{"targets", {"Linear"}}, {"weights", weights}, {"input_activations", inputs}}}}},
      {"ignore", {"re:.*in_proj_[ab]$", "lm_head"}}};
  int8.write(dir.file("int8"), int8_config);
  config["quantization_config"] = {
      {"quant_method", "fp8"}, {"fmt", "e4m3"}, {"activation_scheme", "dynamic"}, {"weight_block_size", {kBlock, kBlock}}};
  fp8.write(dir.file("fp8"), config);

  for (const Fp8As as : {Fp8As::kFloat, Fp8As::kInt8}) {
    GoldenModel got(dir.file("fp8"), DType::kBF16, 1, as), want(dir.file(as == Fp8As::kInt8 ? "int8" : "plain"), DType::kBF16, 1);
    std::vector<Token> ids;
    for (int i = 0; i < 40; ++i) ids.push_back(static_cast<Token>(i * 37 % got.config().vocab_size));
    const auto a = got.prefill(0, ids, 0), b = want.prefill(0, ids, 0);
    for (size_t t = 0; t < ids.size(); ++t)
      ASSERT_EQ(std::memcmp(a[t].data(), b[t].data(), a[t].size() * sizeof(float)), 0) << "token " << t;
  }
  const EightBitBytes bytes = eight_bit_bytes(Checkpoint::open(dir.file("fp8")), DType::kBF16, /*with_mtp=*/false);
  const EightBitBytes same = eight_bit_bytes(Checkpoint::open(dir.file("int8")), DType::kBF16, /*with_mtp=*/false);
  EXPECT_EQ(bytes.saved(Fp8As::kInt8), same.saved(Fp8As::kFloat));
  EXPECT_EQ(bytes.saved(Fp8As::kFloat), 0);
}

}  // namespace
}  // namespace weir
