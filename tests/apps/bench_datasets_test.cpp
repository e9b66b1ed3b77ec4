#include "weir/apps/bench_datasets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "weir/apps/bench.h"
#include "weir/apps/bench_dataset_flags.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

const std::shared_ptr<const Tokenizer>& tokenizer() {
  static const auto loaded = Tokenizer::load(WEIR_SOURCE_DIR "/models/weir-tiny");
  return loaded;
}

const TokenCounter& counter() {
  static const TokenCounter tokens = count_locally(tokenizer());
  return tokens;
}

// A counter without a tokenizer file: every word is a token.
TokenCounter word_counter() {
  TokenCounter out;
  out.count = [](std::string_view text) { return static_cast<int32_t>(std::count(text.begin(), text.end(), ' ')) + 1; };
  return out;
}

class DatasetFile : public testing::Test {
 protected:
  std::string write(const std::string& text) {
    std::ofstream(path_) << text;
    return path_;
  }
  std::string complaint(const std::string& text, bool sharegpt) {
    try {
      FilePrompts options;
      options.path = write(text);
      sharegpt ? sharegpt_prompts(options, 0, 1, counter()) : custom_prompts(options, 0, 1, counter(), {});
    } catch (const Error& error) {
      return error.what();
    }
    return "no complaint";
  }
  void TearDown() override { std::filesystem::remove(path_); }

  std::string path_ = testing::TempDir() + "weir_bench_dataset_" + std::to_string(::getpid()) + ".json";
};

TEST(RandomPrompts, AreAsLongAsAskedToTheToken) {
  RandomPrompts options;
  options.input_tokens = 50;
  options.output_tokens = 7;
  options.prefix_tokens = 13;
  const auto prompts = random_prompts(options, 20, 1, counter());
  ASSERT_EQ(prompts.size(), 20u);
  std::set<std::string> different;
  auto shared = tokenizer()->encode(prompts[0].text);
  shared.resize(13);
  const std::string prefix = tokenizer()->decode(shared, false);
  for (const BenchPrompt& prompt : prompts) {
    EXPECT_EQ(tokenizer()->encode(prompt.text).size(), 63u) << prompt.text;
    EXPECT_EQ(prompt.input_tokens, 63);
    EXPECT_EQ(prompt.output_tokens, 7);
    EXPECT_TRUE(prompt.text.starts_with(prefix));
    different.insert(prompt.text);
  }
  EXPECT_EQ(different.size(), 20u);
}

TEST(RandomPrompts, AreTheSameForTheSameSeed) {
  const auto texts = [](uint64_t seed) {
    std::vector<std::string> out;
    for (const BenchPrompt& prompt : random_prompts({.input_tokens = 9}, 3, seed, counter())) out.push_back(prompt.text);
    return out;
  };
  EXPECT_EQ(texts(1), texts(1));
  EXPECT_NE(texts(1), texts(2));
}

TEST(RandomPrompts, LengthsSpreadOverTheRangeAndNoFurther) {
  RandomPrompts options;
  options.input_tokens = 20;
  options.output_tokens = 4;
  options.input_range = 0.5;
  options.output_range = 0.9;
  std::set<int32_t> inputs, outputs;
  for (const BenchPrompt& prompt : random_prompts(options, 2000, 1, counter())) {
    inputs.insert(prompt.input_tokens);
    outputs.insert(prompt.output_tokens);
  }
  EXPECT_EQ(*inputs.begin(), 10);
  EXPECT_EQ(*inputs.rbegin(), 30);
  EXPECT_EQ(inputs.size(), 21u);
  EXPECT_EQ(*outputs.begin(), 1) << "no request asks for nothing";
  EXPECT_EQ(*outputs.rbegin(), 8);
}

TEST(RandomPrompts, CanBeMadeWithTheTokenizerOfAServer) {
  int calls = 0;
  const TokenCounter remote = count_remotely([&](std::string_view text) {
    ++calls;
    return static_cast<int32_t>(tokenizer()->encode(text).size());
  });
  EXPECT_GT(calls, 10);
  for (const BenchPrompt& prompt : random_prompts({.input_tokens = 40}, 5, 1, remote))
    EXPECT_EQ(tokenizer()->encode(prompt.text).size(), 40u);
  EXPECT_THROW(count_remotely([](std::string_view) { return 2; }), Error);
}

TEST(RepeatedPrefixes, EachPrefixHasAsManySuffixes) {
  RepeatedPrefixes options;
  options.prefix_tokens = 12;
  options.suffix_tokens = 5;
  options.num_prefixes = 4;
  options.output_tokens = 3;
  const auto prompts = repeated_prefix_prompts(options, 22, 1, counter());
  ASSERT_EQ(prompts.size(), 20u) << "rounded down";
  std::map<std::vector<int32_t>, int> prefixes;
  for (const BenchPrompt& prompt : prompts) {
    auto tokens = tokenizer()->encode(prompt.text);
    ASSERT_EQ(tokens.size(), 17u);
    tokens.resize(12);
    ++prefixes[tokens];
  }
  EXPECT_EQ(prefixes.size(), 4u);
  for (const auto& [prefix, count] : prefixes) EXPECT_EQ(count, 5);
  EXPECT_THROW(repeated_prefix_prompts(options, 3, 1, counter()), Error);
}

TEST_F(DatasetFile, CustomLinesAreReadInOrderWhenNotShuffled) {
  FilePrompts options;
  options.path =
      write("{\"prompt\": \"one two\", \"output_tokens\": 5}\r\n\n  \n{\"prompt\": \"three\", \"output_tokens\": 6, \"more\": []}");
  options.shuffle = false;
  const auto prompts = custom_prompts(options, 0, 1, word_counter(), {});
  ASSERT_EQ(prompts.size(), 2u);
  EXPECT_EQ(prompts[0].text, "one two");
  EXPECT_EQ(prompts[0].input_tokens, 2);
  EXPECT_EQ(prompts[0].output_tokens, 5);
  EXPECT_EQ(prompts[1].output_tokens, 6);

  options.output_tokens = 9;
  const auto wrapped = custom_prompts(options, 5, 1, {}, [](const std::string& text) { return "<" + text + ">"; });
  ASSERT_EQ(wrapped.size(), 5u) << "the file starts again";
  EXPECT_EQ(wrapped[4].text, "<one two>");
  EXPECT_EQ(wrapped[4].output_tokens, 9);
  EXPECT_EQ(wrapped[4].input_tokens, 0) << "nobody could count";

  options.oversample = false;
  EXPECT_EQ(custom_prompts(options, 5, 1, {}, {}).size(), 2u);
  EXPECT_EQ(custom_prompts(options, 1, 1, {}, {}).size(), 1u);
}

TEST_F(DatasetFile, ShareGptTakesTheFirstTwoTurnsOfFittingLength) {
  std::string many_words;
  for (int i = 0; i < 1100; ++i) many_words += " w";
  FilePrompts options;
  options.shuffle = false;
  options.path =
      write(R"([{"id": "a", "conversations": [{"from": "human", "value": "q1 q2 q3 q4"}, {"value": "a1 a2 a3 a4 a5"}, {"value": "x"}]},
                          {"conversations": [{"value": "alone alone alone alone"}]}, {"conversations": []}, {"other": 1},
                          {"conversations": [{"value": "too short"}, {"value": "a b c d"}]},
                          {"conversations": [{"value": ")" +
            many_words + R"("}, {"value": "a b c d"}]},
                          {"conversations": [{"value": "one \"two\" three four"}, {"value": "short"}]}])");
  const auto prompts = sharegpt_prompts(options, 0, 1, word_counter());
  ASSERT_EQ(prompts.size(), 1u);
  EXPECT_EQ(prompts[0].text, "q1 q2 q3 q4");
  EXPECT_EQ(prompts[0].input_tokens, 4);
  EXPECT_EQ(prompts[0].output_tokens, 5);

  options.output_tokens = 2;
  const auto fixed = sharegpt_prompts(options, 0, 1, word_counter());
  ASSERT_EQ(fixed.size(), 2u) << "a length asked for makes a short answer usable";
  EXPECT_EQ(fixed[1].text, "one \"two\" three four");
  EXPECT_EQ(fixed[1].output_tokens, 2);
  EXPECT_THROW(sharegpt_prompts(options, 0, 1, {}), Error) << "without a tokenizer";
}

TEST_F(DatasetFile, HostileCustomLinesNameFileLineAndField) {
  const std::string good = "{\"prompt\": \"x\", \"output_tokens\": 1}\n";
  EXPECT_THAT(complaint(good + "{", false), AllOf(HasSubstr(path_), HasSubstr("line 2")));
  EXPECT_THAT(complaint("[]", false), HasSubstr("line 1"));
  EXPECT_THAT(complaint("{\"prompt\": 5}", false), HasSubstr("\"prompt\""));
  EXPECT_THAT(complaint("{\"prompt\": \"\"}", false), HasSubstr("empty"));
  EXPECT_THAT(complaint("{\"prompt\": \"x\"}", false), HasSubstr("\"output_tokens\""));
  EXPECT_THAT(complaint("{\"prompt\": \"x\", \"output_tokens\": -1}", false), AllOf(HasSubstr("output_tokens"), HasSubstr("-1")));
  EXPECT_THAT(complaint("{\"prompt\": \"x\", \"output_tokens\": 99999999999999}", false), HasSubstr("output_tokens"));
  EXPECT_THAT(complaint("{\"prompt\": \"x\", \"output_tokens\": \"many\"}", false), HasSubstr("output_tokens"));
  EXPECT_THAT(complaint("{\"prompt\": \"\xff\xfe\"}", false), HasSubstr("line 1"));
  EXPECT_THAT(complaint(std::string(100'000, '['), false), HasSubstr("line 1"));
  EXPECT_THAT(complaint("", false), HasSubstr("no usable prompt"));
}

TEST_F(DatasetFile, HostileShareGptFilesNameTheFile) {
  for (const char* text :
       {"", "{", "{}", "5", "[5]", "[{\"conversations\": 5}]", "[{\"conversations\": [5, 6]}]",
        "[{\"conversations\": [{\"value\": 5}, {\"value\": \"x\"}]}]", "[{\"conversations\": [{\"valu\": \"x\"}]}]",
        "[{\"conversations\": [{\"value\": \"x\"}, {\"value\": \"y\"}]", "[{\"conversations\": [{\"value\": \"\xff\"}]}]", "[] []"})
    EXPECT_THAT(complaint(text, true), HasSubstr(path_)) << text;
  EXPECT_THAT(complaint("[]", true), HasSubstr("no usable prompt"));
  EXPECT_THAT(complaint(std::string(100'000, '['), true), HasSubstr(path_));
  FilePrompts missing;
  missing.path = "/nowhere/x.json";
  EXPECT_THROW(sharegpt_prompts(missing, 0, 1, counter()), Error);
}

TEST(DatasetFlags, LengthsOfTheCommandLineWin) {
  const auto prompts = [](std::vector<std::string> args) {
    return make_prompts(Flags::parse(bench_serve_command(), args), 1, counter(), {});
  };
  auto made = prompts({"--random-input", "9", "--random-output", "5", "--num-prompts", "2"});
  ASSERT_EQ(made.size(), 2u);
  EXPECT_EQ(made[0].input_tokens, 9);
  EXPECT_EQ(made[0].output_tokens, 5);
  made = prompts({"--random-input-len", "9", "--input-len", "4", "--output-len", "3", "--num-prompts", "1"});
  EXPECT_EQ(made[0].input_tokens, 4);
  EXPECT_EQ(made[0].output_tokens, 3);
  made = prompts({"--dataset-name", "prefix_repetition", "--prefix-repetition-prefix-len", "6", "--prefix-repetition-suffix-len", "2",
                  "--prefix-repetition-num-prefixes", "2", "--num-prompts", "4"});
  EXPECT_EQ(made.size(), 4u);
  EXPECT_EQ(made[0].input_tokens, 8);
  EXPECT_THROW(prompts({"--num-prompts", "0"}), UsageError);
  EXPECT_THROW(prompts({"--random-range-ratio", "1.0"}), UsageError);
  EXPECT_THROW(prompts({"--random-range-ratio", "x"}), UsageError);
  EXPECT_THROW(prompts({"--random-range-ratio", "{\"inptu\": 0.1}"}), UsageError);
  EXPECT_NO_THROW(prompts({"--random-range-ratio", "{\"input\": 0.1, \"output\": 0}", "--num-prompts", "1"}));
}

}  // namespace
}  // namespace weir
