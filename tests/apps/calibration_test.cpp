// The report of `weir quantize` on outputs: errors of the size that int8 has, for every matrix that a token reached.
#include "weir/apps/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/runtime/golden_model.h"
#include "tests/weights/safetensors_files.h"
#include "weir/apps/quantizer.h"
#include "weir/base/error.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::string kTiny = std::string(WEIR_SOURCE_DIR) + "/models/weir-tiny";

TEST(Calibration, MeasuresEveryInt8MatrixThatATokenReaches) {
  for (const char* source : {"moe", "dense", "moe_fused"}) {
    const TempDir dir;
    quantize_checkpoint(
        {.source = golden_dir(source), .destination = dir.file("int8"), .recipe = QuantizeRecipe::Named::kAll, .threads = 1}, {}, {});
    Prompts prompts(2);
    for (Token t = 0; t < 90; ++t) prompts[static_cast<size_t>(t % 2)].push_back(t * 31 % 200);
    int64_t layers = 0, done = 0;
    const auto found =
        measure_outputs(golden_dir(source), dir.file("int8"), prompts, 1, [&](int64_t count) { layers = count; }, [&] { ++done; });
    EXPECT_EQ(done, layers);
    const Checkpoint int8 = Checkpoint::open(dir.file("int8"));
    int64_t missing = 0;
    for (const Checkpoint::Entry& entry : int8.entries()) {
      if (entry.tensor.dtype() != DType::kI8) continue;
      const std::string module = entry.name.substr(0, entry.name.size() - std::string(".weight").size());
      const auto it = found.find(module);
      if (it == found.end()) {
        EXPECT_THAT(module, HasSubstr(".experts.")) << "only an expert may have no tokens";
        ++missing;
        continue;
      }
      EXPECT_GT(it->second.relative, 0.001) << module;
      EXPECT_LT(it->second.relative, 0.05) << module;
      EXPECT_LE(it->second.tokens, 90) << module;
    }
    EXPECT_EQ(found.count("lm_head"), 1u);
    EXPECT_EQ(found.count("mtp.layers.0.self_attn.k_proj"), 1u);
    EXPECT_GT(found.size(), static_cast<size_t>(missing));
  }
}

TEST(Calibration, AMatrixThatIsWrongStandsOut) {
  const TempDir dir;
  quantize_checkpoint({.source = golden_dir("dense"), .destination = dir.file("int8"), .max_shard_bytes = int64_t{1} << 40, .threads = 1},
                      {}, {});
  const Checkpoint int8 = Checkpoint::open(dir.file("int8"));
  const std::string module = "model.language_model.layers.3.self_attn.o_proj";
  const auto* scale = int8.find(module + ".weight_scale");
  ASSERT_NE(scale, nullptr);
  // Half of the rows twice as large.
  const std::string bytes = read_file(scale->path),
                    values(static_cast<const char*>(scale->tensor.raw()), static_cast<size_t>(scale->tensor.nbytes()));
  std::string doubled = values;
  for (size_t at = 0; at < doubled.size(); at += 8) {
    float value;
    std::memcpy(&value, doubled.data() + at, sizeof(value));
    value *= 2;
    std::memcpy(doubled.data() + at, &value, sizeof(value));
  }
  std::fstream file(scale->path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(bytes.find(values)));
  file << doubled;
  file.close();
  Prompts prompts = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}};
  const auto found = measure_outputs(golden_dir("dense"), dir.file("int8"), prompts, 1, {}, {});
  EXPECT_GT(found.at(module).relative, 0.5);
  for (const auto& [name, error] : found) EXPECT_TRUE(name == module || error.relative < 0.05) << name;
}

TEST(Calibration, PromptsComeFromLinesOrFromJson) {
  const auto tokenizer = Tokenizer::load(kTiny);
  const TempDir dir;
  dir.write("a.jsonl", "{\"text\": \"What is 2 plus 3?\"}\n\n{\"id\": 7, \"prompt\": \"Blood is red.\"}\n");
  dir.write("a.txt", "What is 2 plus 3?\n\nBlood is red.\n");
  const Prompts prompts = read_calibration(dir.file("a.jsonl"), *tokenizer);
  ASSERT_EQ(prompts.size(), 2u);
  EXPECT_EQ(prompts, read_calibration(dir.file("a.txt"), *tokenizer));
  EXPECT_EQ(prompts[1], tokenizer->encode("Blood is red."));
  dir.write("long.txt", std::string(100'000, 'x') + "\n" + std::string(100'000, 'y') + "\n");
  for (const auto& prompt : read_calibration(dir.file("long.txt"), *tokenizer)) EXPECT_LE(prompt.size(), kCalibrationPrompt);
  size_t total = 0;
  for (const auto& prompt : default_calibration(*tokenizer)) total += prompt.size();
  EXPECT_GT(total, 300u);
  EXPECT_LE(total, kCalibrationTokens);
}

TEST(Calibration, FilesThatAreNoneAreNamedWithTheirLine) {
  const auto tokenizer = Tokenizer::load(kTiny);
  const TempDir dir;
  const auto error_of = [&](const std::string& name, const std::string& text) -> std::string {
    dir.write(name, text);
    try {
      read_calibration(dir.file(name), *tokenizer);
    } catch (const Error& error) {
      return error.what();
    }
    return "(no error)";
  };
  EXPECT_THAT(error_of("a.jsonl", "{\"text\": \"x\"}\n{\"text\": 7}\n"),
              AllOf(HasSubstr("a.jsonl:2"), HasSubstr("\"text\" or \"prompt\"")));
  EXPECT_THAT(error_of("b.jsonl", "{\"text\": \"x\"}\n{\n"), HasSubstr("b.jsonl:2"));
  EXPECT_THAT(error_of("c.jsonl", "[]"), HasSubstr("c.jsonl:1"));
  EXPECT_THAT(error_of("d.txt", " \n"), HasSubstr("no text"));
  EXPECT_THROW(read_calibration(dir.file("nothing.txt"), *tokenizer), Error);
}

}  // namespace
}  // namespace weir
