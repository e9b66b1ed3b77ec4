// `weir quantize`: the same bytes as the reference exporter, a model that answers like the float one, and what is refused.
#include "weir/apps/quantizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/runtime/golden_model.h"
#include "tests/weights/safetensors_files.h"
#include "weir/apps/inspection.h"
#include "weir/base/error.h"
#include "weir/base/json.h"
#include "weir/text/tokenizer.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::HasSubstr;
namespace fs = std::filesystem;

const std::string kRoot = WEIR_SOURCE_DIR;
const std::string kTiny = kRoot + "/models/weir-tiny";

QuantizeReport quantize(QuantizeOptions options) {
  options.threads = 1;
  return quantize_checkpoint(options, {}, {});
}
std::string error_of(const QuantizeOptions& options) {
  try {
    quantize(options);
  } catch (const Error& error) {
    return error.what();
  }
  return "(no error)";
}

// The reference export quantises the vision blocks as well; weir keeps them in float.
bool is_vision(const std::string& name) { return name.starts_with("model.visual."); }

TEST(Quantizer, WritesTheBytesOfTheReferenceExport) {
  for (const auto& [source, reference] : {std::pair{"moe", "w8a8"}, std::pair{"dense", "w8a8_dense"}}) {
    const TempDir dir;
    const std::string out = dir.file("int8");
    const QuantizeReport report = quantize({.source = golden_dir(source), .destination = out, .max_shard_bytes = 200'000});
    EXPECT_GT(report.shards, 2);
    const Checkpoint got = Checkpoint::open(out), want = Checkpoint::open(golden_dir(reference));
    int compared = 0;
    for (const Checkpoint::Entry& entry : want.entries()) {
      if (is_vision(entry.name)) continue;
      const Checkpoint::Entry* mine = got.find(entry.name);
      ASSERT_NE(mine, nullptr) << entry.name;
      ASSERT_EQ(mine->file_name, entry.file_name);
      ASSERT_EQ(mine->tensor.dtype(), entry.tensor.dtype()) << entry.name;
      ASSERT_EQ(mine->tensor.shape(), entry.tensor.shape()) << entry.name;
      ASSERT_EQ(std::memcmp(mine->tensor.raw(), entry.tensor.raw(), static_cast<size_t>(entry.tensor.nbytes())), 0) << entry.name;
      ++compared;
    }
    EXPECT_GT(compared, 50);
    for (const Checkpoint::Entry& entry : got.entries()) EXPECT_NE(want.find(entry.name), nullptr) << entry.name;
    Json mine = read_json_file(out + "/quant_model_description.json");
    const Json theirs = read_json_file(golden_dir(reference) + "/quant_model_description.json");
    for (const auto& [key, value] : theirs.items()) EXPECT_TRUE(is_vision(key) || mine[key] == value) << key;
    EXPECT_EQ(inspect_model(out).obstacle, "");
  }
}

TEST(Quantizer, SplitsEveryLayoutOfExperts) {
  for (const char* source : {"moe", "moe_fused", "moe_per_expert"}) {
    const TempDir dir;
    const QuantizeReport report =
        quantize({.source = golden_dir(source), .destination = dir.file("int8"), .recipe = QuantizeRecipe::Named::kAll});
    const Inspection model = inspect_model(dir.file("int8"));
    EXPECT_EQ(model.obstacle, "");
    EXPECT_EQ(model.trunk_experts, "per expert");
    EXPECT_EQ(model.mtp_experts, "per expert");
    for (const QuantizeReport::Matrix& m : report.matrices) EXPECT_LT(m.error, 0.01) << m.name;
    GoldenModel(dir.file("int8"), DType::kBF16);  // takes every tensor with its shape
  }
}

std::vector<Token> greedy(GoldenModel& model, const std::vector<Token>& prompt, size_t count) {
  std::vector<Token> out = {GoldenModel::argmax(model.prefill(0, prompt, 0).back())};
  for (auto at = static_cast<int32_t>(prompt.size()); out.size() < count; ++at)
    out.push_back(GoldenModel::argmax(model.step({GoldenModel::row(0, at, {out.back()})}).back()));
  return out;
}

TEST(Quantizer, TheModelAnswersLikeTheFloatOne) {
  const TempDir dir;
  quantize({.source = kTiny, .destination = dir.file("default")});
  quantize({.source = kTiny,
            .destination = dir.file("all"),
            .format = QuantizedFormat::kCompressedTensors,
            .recipe = QuantizeRecipe::Named::kAll});
  GoldenModel plain(kTiny, DType::kBF16, 1), by_default(dir.file("default"), DType::kBF16, 1), all(dir.file("all"), DType::kBF16, 1);
  const auto tokenizer = Tokenizer::load(kTiny);
  int same = 0, same_all = 0, total = 0;
  for (const char* question :
       {"What is 45 plus 27?", "What is 301 minus 12?", "One egg costs 3 dollars. Rosa buys 4 eggs. How many dollars does Rosa pay?",
        "What is 12 times 3?", "Noah has 34 shells and loses 8 of them. How many shells does Noah have now?"}) {
    const std::string text = concat("<|im_start|>user\n", question, "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
    const std::vector<Token> prompt = tokenizer->encode(text), want = greedy(plain, prompt, 20);
    const std::vector<Token> got = greedy(by_default, prompt, 20), got_all = greedy(all, prompt, 20);
    for (size_t i = 0; i < want.size(); ++i) same += got[i] == want[i], same_all += got_all[i] == want[i], ++total;
  }
  EXPECT_GE(same, total * 9 / 10);
  EXPECT_GE(same_all, total * 8 / 10);
}

TEST(Quantizer, GoesOnWhereAnInterruptedRunStopped) {
  const TempDir dir;
  QuantizeOptions options{.source = golden_dir("moe"), .destination = dir.file("int8"), .max_shard_bytes = 200'000};
  const QuantizeReport whole = quantize(options);
  ASSERT_GT(whole.shards, 3);
  const Json index = read_json_file(options.destination + "/quant_model_weights.safetensors.index.json");
  // As if it had been stopped while the second shard was written.
  const std::string second = concat(options.destination, "/quant_model_weights-00002-of-0000", whole.shards, ".safetensors");
  const std::string bytes = read_file(second);
  std::ofstream(second, std::ios::binary) << bytes.substr(0, bytes.size() / 2);
  fs::remove(options.destination + "/config.json");
  EXPECT_THROW(inspect_model(options.destination), Error) << "a directory that is not complete must not be a model";
  EXPECT_THAT(error_of(options), AllOf(HasSubstr("not empty"), HasSubstr("--resume")));
  options.resume = true;
  EXPECT_EQ(quantize(options).kept_shards, whole.shards - 1);
  EXPECT_EQ(read_file(second), bytes);
  EXPECT_EQ(read_json_file(options.destination + "/quant_model_weights.safetensors.index.json"), index);
}

TEST(Quantizer, RefusesWhatItCannotDo) {
  const TempDir dir;
  EXPECT_THAT(error_of({.source = golden_dir("w8a8"), .destination = dir.file("a")}),
              AllOf(HasSubstr("quantised already"), HasSubstr("ascend")));
  EXPECT_THAT(error_of({.source = golden_dir("moe"), .destination = golden_dir("dense")}), HasSubstr("already holds a model"));
  EXPECT_THAT(error_of({.source = golden_dir("dense"), .destination = dir.file("b"), .recipe = QuantizeRecipe::Named::kExperts}),
              HasSubstr("recipe"));
  EXPECT_THAT(error_of({.source = dir.file("nothing"), .destination = dir.file("c")}), HasSubstr("config.json"));
}

TEST(Quantizer, NanInAMatrixIsNamed) {
  const TempDir dir;
  fs::copy(golden_dir("float32"), dir.file("nan"));
  const Checkpoint checkpoint = Checkpoint::open(dir.file("nan"));
  const auto* entry = checkpoint.find("model.language_model.layers.2.self_attn.k_proj.weight");
  ASSERT_NE(entry, nullptr);
  // The second row's first element, found by its bytes: the mapping begins where the file does.
  const std::string path = dir.file("nan") + "/model.safetensors";
  const std::string bytes = read_file(path), row(static_cast<const char*>(entry->tensor.raw()), 64);
  const size_t at = bytes.find(row) + static_cast<size_t>(entry->tensor.dim(1)) * 4;
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(at));
  file.write("\x00\x00\xc0\x7f", 4);
  file.close();
  const std::string error = error_of({.source = dir.file("nan"), .destination = dir.file("out")});
  EXPECT_THAT(error, AllOf(HasSubstr("layers.2.self_attn.k_proj.weight"), HasSubstr("row 1"), HasSubstr("NaN")));
}

}  // namespace
}  // namespace weir
