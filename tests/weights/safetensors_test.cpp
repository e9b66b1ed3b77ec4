#include "weir/weights/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "safetensors_files.h"
#include "weir/base/error.h"

namespace weir {
namespace {

using testing::HasSubstr;

std::vector<TensorHeader> parse(const std::string& file) { return parse_safetensors(std::as_bytes(std::span(file)), "x.safetensors"); }

std::string error_of(const std::string& file) {
  try {
    parse(file);
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("x.safetensors")) << "an error must name the file";
    return e.what();
  }
  return "(no error)";
}

std::string error_of_header(const std::string& header, size_t data_bytes = 64) {
  return error_of(safetensors(header, std::string(data_bytes, 'd')));
}

TEST(Safetensors, ReadsNamesTypesShapesAndPlaces) {
  const std::string header = R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},
    "b":{"data_offsets":[24,28],"dtype":"BF16","shape":[2]},"c":{"dtype":"F8_E4M3","shape":[],"data_offsets":[28,29]},
    "d":{"dtype":"I8","shape":[0,7],"data_offsets":[29,29]}}   )";
  const auto tensors = parse(safetensors(header, std::string(29, 'd')));
  ASSERT_EQ(tensors.size(), 4u);
  EXPECT_EQ(tensors[0].name, "a");
  EXPECT_EQ(tensors[0].dtype, DType::kF32);
  EXPECT_EQ(tensors[0].shape, (Shape{2, 3}));
  EXPECT_EQ(tensors[0].begin, 8 + header.size());
  EXPECT_EQ(tensors[1].end - tensors[1].begin, 4u);
  EXPECT_EQ(tensors[2].shape.rank(), 0);
  EXPECT_EQ(tensors[3].shape, (Shape{0, 7}));
  EXPECT_EQ(tensors[3].end, 8 + header.size() + 29);
}

TEST(Safetensors, ToleratesGapsBetweenTensors) {
  EXPECT_EQ(parse(safetensors(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[8,12]}})", std::string(64, 'd'))).size(), 1u);
}

TEST(Safetensors, RefusesFilesThatAreTooShortForTheirHeader) {
  EXPECT_THAT(error_of(""), HasSubstr("too few"));
  EXPECT_THAT(error_of("1234567"), HasSubstr("too few"));
  EXPECT_THAT(error_of(le64(3) + "{}"), HasSubstr("truncated"));
  EXPECT_THAT(error_of(le64(100'000'001) + "{}"), HasSubstr("above 100000000"));
  EXPECT_THAT(error_of(le64(UINT64_MAX) + "{}"), HasSubstr("above 100000000"));
  EXPECT_THAT(error_of(le64(UINT64_MAX - 7) + "{}"), HasSubstr("above 100000000"));
}

TEST(Safetensors, RefusesHeadersThatAreNoJsonObject) {
  for (const char* header :
       {"", "{", "null", "[]", "{}x", "\"a\"", "{\"a\":}", "{\"\xff\":1}", "[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]"})
    EXPECT_THAT(error_of_header(header), HasSubstr("header")) << header;
}

TEST(Safetensors, RefusesEntriesThatLie) {
  const auto entry = [](const std::string& fields) { return error_of_header("{\"w\":" + fields + "}"); };
  EXPECT_THAT(entry("3"), HasSubstr("must be an object"));
  EXPECT_THAT(entry("{}"), HasSubstr("\"dtype\" is missing"));
  EXPECT_THAT(entry(R"({"dtype":"F32","shape":[2]})"), HasSubstr("\"data_offsets\" is missing"));
  EXPECT_THAT(entry(R"({"dtype":"F32","data_offsets":[0,4]})"), HasSubstr("\"shape\" is missing"));
  EXPECT_THAT(entry(R"({"dtype":"F31","shape":[2],"data_offsets":[0,8]})"), HasSubstr("dtype 'F31' is not supported"));
  EXPECT_THAT(entry(R"({"dtype":1,"shape":[2],"data_offsets":[0,8]})"), HasSubstr("\"dtype\" must be a string"));
  EXPECT_THAT(entry(R"({"dtype":"F32","shape":2,"data_offsets":[0,8]})"), HasSubstr("\"shape\" must be an array"));
  EXPECT_THAT(entry(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), HasSubstr("\"shape\" must hold integers"));
  EXPECT_THAT(entry(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"), HasSubstr("\"shape\" must hold integers"));
  EXPECT_THAT(entry(R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]})"), HasSubstr("\"shape\" must hold integers"));
  EXPECT_THAT(entry(R"({"dtype":"F32","shape":[1,1,1,1,1,1],"data_offsets":[0,4]})"), HasSubstr("6 dimensions, at most 5"));
  EXPECT_THAT(entry(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), HasSubstr("end before they begin"));
  EXPECT_THAT(entry(R"({"dtype":"F32","shape":[2],"data_offsets":[60,68]})"), HasSubstr("leave the file, which holds 64 bytes"));
  EXPECT_THAT(entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]})"), HasSubstr("leave the file"));
  EXPECT_THAT(entry(R"({"dtype":"F32","shape":[2],"data_offsets":[-8,0]})"), HasSubstr("two integers"));
  EXPECT_THAT(entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4,8]})"), HasSubstr("two integers"));
  EXPECT_THAT(entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,7]})"), HasSubstr("needs 8 bytes, \"data_offsets\" give 7"));
  EXPECT_THAT(entry(R"({"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]})"), HasSubstr("\"shape\" occurs twice"));
  EXPECT_THAT(entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1})"), HasSubstr("unknown field 'x'"));
}

TEST(Safetensors, RefusesShapesWhoseProductOverflows) {
  const auto shape = [](const std::string& dims) {
    return error_of_header(R"({"w":{"dtype":"F32","shape":[)" + dims + R"(],"data_offsets":[0,0]}})");
  };
  EXPECT_THAT(shape("4294967296,4294967296"), HasSubstr("2^60"));
  EXPECT_THAT(shape("2305843009213693952"), HasSubstr("2^60")) << "2^61 * 4 bytes overflows";
  EXPECT_THAT(shape("9223372036854775807,9223372036854775807,9223372036854775807,9223372036854775807"), HasSubstr("2^60"));
  EXPECT_THAT(shape("0,4294967296,4294967296"), HasSubstr("2^60")) << "the stride of a row would overflow although nothing is stored";
}

TEST(Safetensors, RefusesNamesThatOccurTwiceOrCannotBePrinted) {
  const std::string entry = R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})",
                    other = R"({"dtype":"U8","shape":[1],"data_offsets":[1,2]})";
  EXPECT_THAT(error_of_header("{\"a\":" + entry + ",\"b\":" + other + ",\"a\":" + other + "}"), HasSubstr("'a' occurs twice"));
  EXPECT_THAT(error_of_header("{\"\":" + entry + "}"), HasSubstr("tensor name"));
  EXPECT_THAT(error_of_header("{\"a\\u0000b\":" + entry + "}"), HasSubstr("tensor name"));
  EXPECT_THAT(error_of_header("{\"a\\nb\":" + entry + "}"), HasSubstr("tensor name"));
  EXPECT_THAT(error_of_header("{\"" + std::string(1025, 'n') + "\":" + entry + "}"), HasSubstr("tensor name"));
}

TEST(Safetensors, RefusesTensorsThatShareBytes) {
  const std::string header =
      R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[8],"data_offsets":[7,15]}})";
  EXPECT_THAT(error_of_header(header), HasSubstr("'a' and 'b' overlap"));
}

// Whatever the header says, what is returned must lie inside the file and fit its shape; the sanitizers watch the rest.
void expect_sound(const std::string& file) {
  std::vector<TensorHeader> tensors;
  try {
    tensors = parse(file);
  } catch (const Error&) {
    return;
  }
  uint64_t sum = 0;
  for (const TensorHeader& t : tensors) {
    ASSERT_LE(t.begin, t.end);
    ASSERT_LE(t.end, file.size());
    ASSERT_EQ(t.end - t.begin, static_cast<uint64_t>(t.shape.numel() * element_size(t.dtype)));
    sum += t.end - t.begin;
  }
  ASSERT_LE(sum, file.size());
}

TEST(Safetensors, SurvivesRandomDamageToTheHeader) {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"BF16","shape":[2,1,4],"data_offsets":[24,40]},"c":{"dtype":"I64","shape":[],"data_offsets":[40,48]}})";
  const std::string good = safetensors(header, std::string(48, 'd'));
  constexpr std::string_view kLikely = "{}[]\",:0123456789-eE.\\u ";
  std::mt19937 rng(5);
  for (int round = 0; round < 20'000; ++round) {
    std::string file = good;
    for (auto edits = 1 + rng() % 4; edits > 0; --edits) {
      const size_t at = rng() % (8 + header.size());
      const char byte = rng() % 2 != 0 ? kLikely[rng() % kLikely.size()] : static_cast<char>(rng());
      switch (rng() % 4) {
        case 0: file[at] = byte; break;
        case 1: file.insert(at, 1, byte); break;
        case 2: file.erase(at, 1 + rng() % 3); break;
        default: file.resize(rng() % (good.size() + 1), 'x');
      }
      if (file.size() <= 8 + header.size()) break;
    }
    if (rng() % 2 == 0 && file.size() > 8) {  // keep the length honest, so that the damage reaches the JSON
      const std::string length = le64(std::min<uint64_t>(file.size() - 8, header.size() + rng() % 3));
      std::copy(length.begin(), length.end(), file.begin());
    }
    expect_sound(file);
  }
}

}  // namespace
}  // namespace weir
