// tokenizer.json as it should be, spelled otherwise, not supported and hostile.
#include "weir/text/tokenizer_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "weir/base/error.h"
#include "weir/base/json.h"
#include "weir/text/tokenizer.h"
#include "weir/text/unicode.h"

namespace weir {
namespace {

using testing::HasSubstr;

constexpr const char* kPattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
    "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

Json added_token(int32_t id, const std::string& content) {
  return Json{{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
              {"rstrip", false}, {"normalized", false}, {"special", true}};
}

// The bytes, "ab", "abc" and " a"; one added token.
Json valid_file() {
  Json vocab = Json::object();
  int32_t id = 0, extra = 0x100;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    std::string letter;
    unicode::append_utf8(letter, static_cast<char32_t>(printable ? b : extra++));
    vocab[letter] = id++;
  }
  vocab["ab"] = 256;
  vocab["abc"] = 257;
  vocab["\u0120a"] = 258;
  return Json{{"version", "1.0"},
              {"truncation", nullptr},
              {"padding", nullptr},
              {"added_tokens", Json::array({added_token(259, "<|end|>")})},
              {"normalizer", {{"type", "NFC"}}},
              {"pre_tokenizer",
               {{"type", "Sequence"},
                {"pretokenizers",
                 {{{"type", "Split"}, {"pattern", {{"Regex", kPattern}}}, {"behavior", "Isolated"}, {"invert", false}},
                  {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}}}}}},
              {"post_processor", nullptr},
              {"decoder", {{"type", "ByteLevel"}}},
              {"model",
               {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", nullptr},
                {"continuing_subword_prefix", ""},
                {"end_of_word_suffix", ""},
                {"fuse_unk", false},
                {"byte_fallback", false},
                {"ignore_merges", false},
                {"vocab", vocab},
                {"merges", Json::array({Json::array({"a", "b"}), Json::array({"ab", "c"}), Json::array({"\u0120", "a"})})}}}};
}

std::string error_of(const std::string& text) {
  try {
    Tokenizer::parse(text, "dir/tokenizer.json");
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

std::string error_after(const std::string& pointer, const Json& value) {
  Json file = valid_file();
  file[Json::json_pointer(pointer)] = value;
  return error_of(file.dump());
}

std::vector<int32_t> encode_after(const std::string& pointer, const Json& value, std::string_view text) {
  Json file = valid_file();
  file[Json::json_pointer(pointer)] = value;
  return Tokenizer::parse(file.dump())->encode(text);
}

using Ids = std::vector<int32_t>;

TEST(TokenizerFile, ReadsTheSmallestUsefulFile) {
  const auto tokenizer = Tokenizer::parse(valid_file().dump());
  EXPECT_EQ(tokenizer->encode("abc a<|end|>"), (Ids{257, 258, 259}));
  EXPECT_EQ(tokenizer->size(), 260);
}

TEST(TokenizerFile, ReadsMergesWrittenAsStrings) {
  EXPECT_EQ(encode_after("/model/merges", {"a b", "ab c", "\u0120 a"}, "abc a"), (Ids{257, 258}));
}

TEST(TokenizerFile, WithoutItsMergeATokenIsUsedOnlyWhenMergesAreIgnored) {
  Json file = valid_file();
  file["model"]["merges"].erase(1);
  EXPECT_EQ(Tokenizer::parse(file.dump())->encode("abc"), (Ids{256, Tokenizer::parse(file.dump())->find("c").value()}));
  file["model"]["ignore_merges"] = true;
  EXPECT_EQ(Tokenizer::parse(file.dump())->encode("abc"), (Ids{257}));
}

TEST(TokenizerFile, NormalizerMayBeNullOrNested) {
  const std::string text = "e\u0301";
  const auto composed = Tokenizer::parse(valid_file().dump())->encode("\u00E9");
  EXPECT_EQ(encode_after("/normalizer", {{"type", "NFC"}}, text), composed);
  EXPECT_EQ(encode_after("/normalizer", {{"type", "Sequence"}, {"normalizers", Json::array({Json{{"type", "NFC"}}})}}, text), composed);
  EXPECT_NE(encode_after("/normalizer", nullptr, text), composed);
}

TEST(TokenizerFile, StrippingTokensSwallowWhiteSpace) {
  Json token = added_token(259, "<|end|>");
  token["lstrip"] = token["rstrip"] = true;
  EXPECT_EQ(encode_after("/added_tokens/0", token, "ab \n <|end|>\t<|end|> ab"), (Ids{256, 259, 259, 256}));
}

TEST(TokenizerFile, TheLongestOfAddedTokensWins) {
  const Json tokens = Json::array({added_token(259, "<a"), added_token(260, "<a>"), added_token(261, "<a><a>!"), added_token(262, "a>")});
  EXPECT_EQ(encode_after("/added_tokens", tokens, "<a><a><a"), (Ids{260, 260, 259}));
  EXPECT_EQ(encode_after("/added_tokens", tokens, "<a><a>!a>"), (Ids{261, 262}));
}

TEST(TokenizerFile, MissingFileIsNamed) {
  try {
    Tokenizer::load("/no/such/dir");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code, ErrorCode::kNotFound);
    EXPECT_THAT(e.what(), HasSubstr("/no/such/dir/tokenizer.json"));
  }
}

TEST(TokenizerFile, ErrorsNameTheFileTheFieldAndTheValue) {
  EXPECT_THAT(error_of(""), HasSubstr("dir/tokenizer.json: not valid JSON"));
  EXPECT_THAT(error_of("{"), HasSubstr("dir/tokenizer.json: not valid JSON"));
  EXPECT_THAT(error_of("[]"), HasSubstr("dir/tokenizer.json: the top level: must be an object, is an array"));
  EXPECT_THAT(error_of("{}"), HasSubstr("pre_tokenizer: is missing"));
  EXPECT_THAT(error_of(std::string(100000, '[')), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_after("/version", "2.0"), HasSubstr("version: must be \"1.0\", is \"2.0\""));
  EXPECT_THAT(error_after("/version", 1), HasSubstr("version: must be a string, is a number"));
  EXPECT_THAT(error_after("/truncation", {{"max_length", 5}}), HasSubstr("truncation: not built"));
  EXPECT_THAT(error_after("/padding", {{"strategy", "BatchLongest"}}), HasSubstr("padding: not built"));
  EXPECT_THAT(error_after("/normalizer/type", "Lowercase"), HasSubstr("normalizer.type: not built: \"Lowercase\""));
  EXPECT_THAT(error_after("/normalizer", {{"type", "Sequence"}, {"normalizers", Json::array({Json{{"type", "Nmt"}}})}}),
              HasSubstr("normalizer.normalizers[0].type: not built: \"Nmt\""));
  EXPECT_THAT(error_after("/pre_tokenizer/pretokenizers/0/pattern/Regex", "\\d+"), HasSubstr("pattern.Regex: not built: \"\\\\d+\""));
  EXPECT_THAT(error_after("/pre_tokenizer/pretokenizers/0/pattern", {{"String", " "}}),
              HasSubstr("pretokenizers[0].pattern.Regex: is missing"));
  EXPECT_THAT(error_after("/pre_tokenizer/pretokenizers/0/behavior", "Removed"), HasSubstr("behavior: not built"));
  EXPECT_THAT(error_after("/pre_tokenizer/pretokenizers/0/invert", true), HasSubstr("invert: not built"));
  EXPECT_THAT(error_after("/pre_tokenizer/pretokenizers/1/add_prefix_space", true), HasSubstr("add_prefix_space: not built"));
  EXPECT_THAT(error_after("/pre_tokenizer/pretokenizers/1/use_regex", true), HasSubstr("use_regex: not built"));
  EXPECT_THAT(error_after("/pre_tokenizer/pretokenizers", Json::array()), HasSubstr("pretokenizers: not built: 0 parts"));
  EXPECT_THAT(error_after("/post_processor", {{"type", "TemplateProcessing"}}),
              HasSubstr("post_processor.type: not built: \"TemplateProcessing\""));
  EXPECT_THAT(error_after("/decoder/type", "Metaspace"), HasSubstr("decoder.type: not built: \"Metaspace\""));
  EXPECT_THAT(error_after("/decoder", nullptr), HasSubstr("the top level.decoder: is missing"));
  EXPECT_THAT(error_after("/model/type", "Unigram"), HasSubstr("model.type: not built: \"Unigram\""));
  EXPECT_THAT(error_after("/model/dropout", 0.1), HasSubstr("model.dropout: not built"));
  EXPECT_THAT(error_after("/model/byte_fallback", true), HasSubstr("model.byte_fallback: not built"));
  EXPECT_THAT(error_after("/model/ignore_merges", "yes"), HasSubstr("model.ignore_merges: must be true or false, is a string"));
}

TEST(TokenizerFile, HostileVocabulariesAreErrors) {
  EXPECT_THAT(error_after("/model/vocab", Json::array()), HasSubstr("model.vocab: must be an object, is an array"));
  EXPECT_THAT(error_after("/model/vocab", Json::object()), HasSubstr("model.vocab: not byte-level: there is no token for byte 0"));
  EXPECT_THAT(error_after("/model/vocab/ab", 257), HasSubstr("model.vocab: id 257 is given to two tokens"));
  EXPECT_THAT(error_after("/model/vocab/ab", -1), HasSubstr("the id of \"ab\" must be an integer in [0, 2097151], is \"-1\""));
  EXPECT_THAT(error_after("/model/vocab/ab", 4000000000u), HasSubstr("is \"4000000000\""));
  EXPECT_THAT(error_after("/model/vocab/ab", 1.5), HasSubstr("is \"1.5\""));
  EXPECT_THAT(error_after("/model/vocab/ab", {{"a", 1}}), HasSubstr("must be an integer"));
  std::string twice = valid_file().dump();
  twice.replace(twice.find("\"abc\":257"), 5, "\"ab\"");
  EXPECT_THAT(error_of(twice), HasSubstr("model.vocab: the token \"ab\" appears twice"));
}

TEST(TokenizerFile, HostileMergesAreErrors) {
  EXPECT_THAT(error_after("/model/merges", nullptr), HasSubstr("model.merges: is missing"));
  EXPECT_THAT(error_after("/model/merges/1", {"ab", "zz"}), HasSubstr("model.merges[1]: the token \"zz\" is not in model.vocab"));
  EXPECT_THAT(error_after("/model/merges/1", {"c", "ab"}), HasSubstr("model.merges[1]: the result \"cab\" is not in model.vocab"));
  EXPECT_THAT(error_after("/model/merges/1", {"ab", "c", "d"}), HasSubstr("model.merges[1]: must be \"a b\""));
  EXPECT_THAT(error_after("/model/merges/1", Json::array({"ab", 7})), HasSubstr("model.merges[1]: must be \"a b\""));
  EXPECT_THAT(error_after("/model/merges/1", "ab"), HasSubstr("model.merges[1]: must be two tokens"));
  EXPECT_THAT(error_after("/model/merges/1", "a b c"), HasSubstr("model.merges[1]: must be two tokens"));
  EXPECT_THAT(error_after("/model/merges/1", " a"), HasSubstr("model.merges[1]: the token \"\" is not in model.vocab"));
  EXPECT_THAT(error_after("/model/merges/1", 5), HasSubstr("model.merges[1]: must be"));
  Json file = valid_file();
  file["model"]["vocab"][""] = 300;
  file["model"]["merges"][1] = {"", "ab"};
  EXPECT_THAT(error_of(file.dump()), HasSubstr("model.merges[1]: a part of a merge must not be empty"));
}

TEST(TokenizerFile, HostileAddedTokensAreErrors) {
  const auto error = [](const std::string& key, const Json& value) { return error_after("/added_tokens/0/" + key, value); };
  EXPECT_THAT(error_after("/added_tokens", {{"a", 1}}), HasSubstr("added_tokens: must be an array, is an object"));
  EXPECT_THAT(error_after("/added_tokens/0", "x"), HasSubstr("added_tokens[0]: must be an object, is a string"));
  EXPECT_THAT(error("id", 5), HasSubstr("added_tokens[0].id: 5 belongs to another token than \"<|end|>\""));
  EXPECT_THAT(error("id", 1 << 30), HasSubstr("added_tokens[0].id: token id must be in [0, 2097151], is 1073741824"));
  EXPECT_THAT(error("id", -3), HasSubstr("is -3"));
  EXPECT_THAT(error("id", nullptr), HasSubstr("added_tokens[0].id: is missing"));
  EXPECT_THAT(error("content", ""), HasSubstr("added_tokens[0].content: must have 1 to 1024 bytes, has 0"));
  EXPECT_THAT(error("content", std::string(2000, 'x')), HasSubstr("has 2000"));
  EXPECT_THAT(error("content", "ab"), HasSubstr("added_tokens[0].id: the token \"ab\" has id 256 in model.vocab, here 259"));
  EXPECT_THAT(error("single_word", true), HasSubstr("added_tokens[0].single_word: not built"));
  EXPECT_THAT(error("special", "yes"), HasSubstr("added_tokens[0].special: must be true or false, is a string"));
  EXPECT_THAT(error_after("/added_tokens/1", added_token(260, "<|end|>")), HasSubstr("added_tokens[1].content: \"<|end|>\" is the same"));
  EXPECT_THAT(error_after("/added_tokens/1", added_token(259, "<|other|>")), HasSubstr("added_tokens[1].id: 259 belongs to another token"));
  Json token = added_token(259, "e\u0301");
  token["normalized"] = true;
  EXPECT_THAT(error_after("/added_tokens/0", token), HasSubstr("added_tokens[0].content: not built"));
}

TEST(TokenizerFile, EveryCutOfAFileIsAnErrorAndNoCrash) {
  const std::string text = valid_file().dump();
  for (size_t size = 0; size < text.size(); size += 7) ASSERT_THAT(error_of(text.substr(0, size)), HasSubstr("dir/tokenizer.json"));
}

TEST(TokenizerFile, LongValuesAreShortenedInErrors) {
  EXPECT_LT(error_after("/pre_tokenizer/pretokenizers/0/pattern/Regex", std::string(1 << 20, 'x')).size(), 1000u);
}

}  // namespace
}  // namespace weir
