#include "weir/weights/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>

#include "safetensors_files.h"
#include "weir/base/error.h"
#include "weir/weights/names.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// One U8 tensor of two bytes for each name, in order; tensor i holds {i, i}.
std::string file_with(const std::vector<std::string>& names) {
  std::string header = "{", data;
  for (size_t i = 0; i < names.size(); ++i) {
    header += (i > 0 ? ",\"" : "\"") + names[i] + R"(":{"dtype":"U8","shape":[2],"data_offsets":[)" + std::to_string(2 * i) + "," +
              std::to_string(2 * i + 2) + "]}";
    data += std::string(2, static_cast<char>(i));
  }
  return safetensors(header + "}", data);
}

std::string index_of(const std::vector<std::pair<std::string, std::string>>& map) {
  std::string text = R"({"metadata":{"total_size":1},"weight_map":{)";
  for (size_t i = 0; i < map.size(); ++i) text += (i > 0 ? ",\"" : "\"") + map[i].first + "\":\"" + map[i].second + "\"";
  return text + "}}";
}

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "(no error)";
}
std::string open_error(const TempDir& dir) {
  return error_of([&] { Checkpoint::open(dir.path()); });
}

std::vector<std::string> names_of(const Checkpoint& c) {
  std::vector<std::string> names;
  for (const auto& e : c.entries()) names.push_back(e.name);
  return names;
}

TEST(CanonicalName, IsTheSameForEveryPrefixInUse) {
  for (const char* prefix : {"model.language_model.", "language_model.model.", "model."}) {
    EXPECT_EQ(canonical_name(std::string(prefix) + "embed_tokens.weight"), "model.language_model.embed_tokens.weight");
    EXPECT_EQ(canonical_name(std::string(prefix) + "layers.3.mlp.gate.weight_scale"),
              "model.language_model.layers.3.mlp.gate.weight_scale");
    EXPECT_EQ(canonical_name(std::string(prefix) + "norm.weight"), "model.language_model.norm.weight");
  }
  EXPECT_EQ(canonical_name("language_model.lm_head.weight"), "lm_head.weight");
  EXPECT_EQ(canonical_name("lm_head.weight"), "lm_head.weight");
  EXPECT_EQ(canonical_name("visual.blocks.0.norm1.bias"), "model.visual.blocks.0.norm1.bias");
  EXPECT_EQ(canonical_name("model.visual.blocks.0.norm1.bias"), "model.visual.blocks.0.norm1.bias");
  EXPECT_EQ(canonical_name("mtp.fc.weight"), "mtp.fc.weight");
  EXPECT_EQ(canonical_name("model.mtp.fc.weight"), "mtp.fc.weight");
  EXPECT_EQ(canonical_name("something.else"), "something.else");
}

TEST(Checkpoint, ReadsOneFileAndKeepsItsBytesAlive) {
  const TempDir dir;
  dir.write("model.safetensors", file_with({"model.layers.0.a", "lm_head.weight"}));
  Tensor tensor;
  {
    const Checkpoint c = Checkpoint::open(dir.path());
    ASSERT_EQ(names_of(c), (std::vector<std::string>{"lm_head.weight", "model.language_model.layers.0.a"}));
    EXPECT_EQ(c.total_bytes(), 4);
    ASSERT_NE(c.find("lm_head.weight"), nullptr);
    EXPECT_EQ(c.find("lm_head.weight")->path, dir.file("model.safetensors"));
    EXPECT_EQ(c.find("model.language_model.layers.0.a")->file_name, "model.layers.0.a");
    EXPECT_EQ(c.find("model.layers.0.a"), nullptr) << "only canonical names are looked up";
    tensor = c.find("lm_head.weight")->tensor;
  }
  EXPECT_EQ(tensor.data<uint8_t>()[1], 1) << "the view must outlive the checkpoint";
}

TEST(Checkpoint, JoinsShardsByTheIndexAndReadsOnlyWhatItNames) {
  const TempDir dir;
  dir.write("model-00001-of-00002.safetensors", file_with({"a", "b"}));
  dir.write("model-00002-of-00002.safetensors", file_with({"c", "mtp.x"}));
  dir.write("consolidated.safetensors", file_with({"a", "b", "c"}));
  dir.write("model.safetensors.index.json", index_of({{"a", "model-00001-of-00002.safetensors"},
                                                      {"b", "model-00001-of-00002.safetensors"},
                                                      {"c", "model-00002-of-00002.safetensors"},
                                                      {"mtp.x", "model-00002-of-00002.safetensors"}}));
  EXPECT_EQ(names_of(Checkpoint::open(dir.path())), (std::vector<std::string>{"a", "b", "c", "mtp.x"}));
}

TEST(Checkpoint, FindsTheIndexOfAnAscendExport) {
  const TempDir dir;
  dir.write("quant_model_weights-00001-of-00001.safetensors", file_with({"a.weight", "a.weight_scale"}));
  dir.write("quant_model_weights.safetensors.index.json", index_of({{"a.weight", "quant_model_weights-00001-of-00001.safetensors"},
                                                                    {"a.weight_scale", "quant_model_weights-00001-of-00001.safetensors"}}));
  EXPECT_EQ(names_of(Checkpoint::open(dir.path())), (std::vector<std::string>{"a.weight", "a.weight_scale"}));
}

TEST(Checkpoint, FindsAnMtpFileThatTheIndexForgot) {
  const TempDir dir;
  dir.write("model-1.safetensors", file_with({"a"}));
  dir.write("mtp.safetensors", file_with({"mtp.fc.weight"}));
  dir.write("model.safetensors.index.json", index_of({{"a", "model-1.safetensors"}}));
  EXPECT_EQ(names_of(Checkpoint::open(dir.path())), (std::vector<std::string>{"a", "mtp.fc.weight"}));
}

TEST(Checkpoint, TakesTheCopyThatTheIndexNames) {
  const TempDir dir;
  dir.write("m1.safetensors", file_with({"pad", "a"}));
  dir.write("m2.safetensors", file_with({"a", "b"}));
  dir.write("model.safetensors.index.json", index_of({{"pad", "m1.safetensors"}, {"a", "m1.safetensors"}, {"b", "m2.safetensors"}}));
  const Checkpoint c = Checkpoint::open(dir.path());
  ASSERT_NE(c.find("a"), nullptr);
  EXPECT_EQ(c.find("a")->path, dir.file("m1.safetensors"));
}

TEST(Checkpoint, RefusesAnIndexThatLies) {
  const auto with_index = [](const std::string& index) {
    const TempDir dir;
    dir.write("m1.safetensors", file_with({"a"}));
    dir.write("model.safetensors.index.json", index);
    return open_error(dir);
  };
  EXPECT_THAT(with_index("{"), AllOf(HasSubstr("index.json"), HasSubstr("not valid JSON")));
  EXPECT_THAT(with_index("{}"), HasSubstr("\"weight_map\" must be an object"));
  EXPECT_THAT(with_index("[]"), HasSubstr("\"weight_map\" must be an object"));
  EXPECT_THAT(with_index(R"({"weight_map":{}})"), HasSubstr("\"weight_map\" is empty"));
  EXPECT_THAT(with_index(R"({"weight_map":{"a":1}})"), HasSubstr("weight_map['a'] must be a file name"));
  EXPECT_THAT(with_index(index_of({{"a", "m1.safetensors"}, {"b", "m1.safetensors"}})),
              HasSubstr("m1.safetensors holds 'b', but it does not"));
  EXPECT_THAT(with_index(index_of({{"a", "m1.safetensors"}, {"b", "m2.safetensors"}})),
              HasSubstr("names m2.safetensors, which is missing"));
  EXPECT_THAT(with_index(index_of({{"a", "m1.safetensors"}, {"a", "m1.safetensors"}})), HasSubstr("'a' twice"));
  for (const char* name : {"../m1.safetensors", "/etc/passwd", "sub/m1.safetensors", "m1.bin", "", ".safetensors", "m1\\u0000.safetensors"})
    EXPECT_THAT(with_index(index_of({{"a", name}})), HasSubstr("is not a plain *.safetensors name")) << name;
}

TEST(Checkpoint, RefusesTwoTensorsOfOneCanonicalName) {
  const TempDir dir;
  dir.write("a.safetensors", file_with({"model.layers.0.w"}));
  dir.write("b.safetensors", file_with({"language_model.model.layers.0.w"}));
  EXPECT_THAT(open_error(dir),
              AllOf(HasSubstr("'model.language_model.layers.0.w' occurs twice"), HasSubstr("a.safetensors"), HasSubstr("b.safetensors")));
}

TEST(Checkpoint, NamesWhatCannotBeOpened) {
  const TempDir dir;
  EXPECT_THAT(open_error(dir), HasSubstr("no tensors in " + dir.path()));
  EXPECT_THAT(error_of([&] { Checkpoint::open(dir.file("absent")); }), HasSubstr("absent"));
  dir.write("model.safetensors", "");
  EXPECT_THAT(open_error(dir), HasSubstr("the file is empty"));
  std::filesystem::remove(dir.file("model.safetensors"));
  ASSERT_EQ(::mkfifo(dir.file("model.safetensors").c_str(), 0600), 0);
  EXPECT_THAT(open_error(dir), HasSubstr("not a regular file"));
}

TEST(Checkpoint, NamesATruncatedFile) {
  const TempDir dir;
  const std::string whole = file_with({"a", "b"});
  dir.write("model.safetensors", whole.substr(0, whole.size() - 1));
  EXPECT_THAT(open_error(dir), AllOf(HasSubstr("model.safetensors"), HasSubstr("'b'"), HasSubstr("truncated?")));
}

TEST(Checkpoint, OpensTheBundledModelAndTheGoldenShards) {
  const std::string root = WEIR_SOURCE_DIR;
  const Checkpoint tiny = Checkpoint::open(root + "/models/weir-tiny");
  EXPECT_NE(tiny.find("model.language_model.embed_tokens.weight"), nullptr);
  const Checkpoint shards = Checkpoint::open(root + "/tests/golden/moe_per_expert");
  EXPECT_NE(shards.find("model.language_model.norm.weight"), nullptr);
  EXPECT_NE(shards.find("mtp.fc.weight"), nullptr);
}

class WeightReaderTest : public testing::Test {
 protected:
  WeightReaderTest() {
    dir_.write("model.safetensors",
               file_with({"model.layers.0.q_proj.weight", "model.layers.0.k_proj.weight", "visual.a", "lm_head.weight"}));
  }
  TempDir dir_;
};

TEST_F(WeightReaderTest, EndsWithNothingLeftOver) {
  const Checkpoint c = Checkpoint::open(dir_.path());
  WeightReader reader(c);
  EXPECT_TRUE(reader.has("lm_head.weight"));
  EXPECT_FALSE(reader.has("lm_head.bias"));
  EXPECT_EQ(reader.take("lm_head.weight", Shape{2}).data<uint8_t>()[0], 3);
  EXPECT_THAT(error_of([&] { reader.expect_all_taken(); }),
              AllOf(HasSubstr("3 tensors of the checkpoint do not belong"), HasSubstr("'visual.a' [2]")));
  reader.ignore("model.visual.");
  reader.take("model.language_model.layers.0.q_proj.weight", Shape{2});
  EXPECT_THAT(error_of([&] { reader.expect_all_taken(); }), HasSubstr("1 tensor of the checkpoint does not belong"));
  reader.take("model.language_model.layers.0.k_proj.weight", Shape{2});
  EXPECT_NO_THROW(reader.expect_all_taken());
}

TEST_F(WeightReaderTest, NamesTheShapeSeenAndWanted) {
  const Checkpoint c = Checkpoint::open(dir_.path());
  WeightReader reader(c);
  EXPECT_THAT(error_of([&] { reader.take("lm_head.weight", Shape{2, 7}); }),
              AllOf(HasSubstr("'lm_head.weight'"), HasSubstr("model.safetensors has shape [2]"), HasSubstr("asks for [2, 7]")));
}

TEST_F(WeightReaderTest, ProposesCloseNames) {
  const Checkpoint c = Checkpoint::open(dir_.path());
  WeightReader reader(c);
  const std::string error = error_of([&] { reader.take("model.language_model.layers.0.v_proj.weight", Shape{2}); });
  EXPECT_THAT(error, AllOf(HasSubstr("'model.language_model.layers.0.v_proj.weight' [2] is missing"), HasSubstr("layers.0.q_proj.weight'"),
                           HasSubstr("layers.0.k_proj.weight'")));
  EXPECT_THAT(error, testing::Not(HasSubstr("lm_head")));
}

TEST_F(WeightReaderTest, ListsAtMostTenLeftOvers) {
  const TempDir dir;
  std::vector<std::string> names;
  for (int i = 0; i < 25; ++i) names.push_back("extra." + std::to_string(100 + i));
  dir.write("model.safetensors", file_with(names));
  const Checkpoint c = Checkpoint::open(dir.path());
  const std::string error = error_of([&] { WeightReader(c).expect_all_taken(); });
  EXPECT_THAT(error, AllOf(HasSubstr("25 tensors"), HasSubstr("extra.109"), HasSubstr(", …")));
  EXPECT_THAT(error, testing::Not(HasSubstr("extra.110")));
}

}  // namespace
}  // namespace weir
