#include "weir/apps/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weir {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const CommandSpec& example() {
  static const CommandSpec command = {
      .name = "example",
      .summary = "A table with one flag of every type.",
      .positionals = {"MODEL"},
      .flags =
          {
              {.name = "verbose", .type = FlagType::kBool, .group = "Talk", .help = "Says more.", .fallback = "false"},
              {.name = "thinking", .type = FlagType::kBool, .group = "Talk", .help = "Has no default."},
              {.name = "port",
               .type = FlagType::kInt,
               .group = "Net",
               .help = "Where to listen.",
               .fallback = "8000",
               .min = 0,
               .max = 65535},
              {.name = "max-model-len",
               .type = FlagType::kCount,
               .group = "Sizes",
               .help = "Length.",
               .fallback = "auto",
               .choices = {"auto"},
               .min = -1},
              {.name = "max-num-seqs", .type = FlagType::kCount, .group = "Sizes", .help = "Requests.", .fallback = "256", .min = 1},
              {.name = "share",
               .type = FlagType::kNumber,
               .group = "Sizes",
               .help = "Of memory.",
               .fallback = "0.9",
               .aliases = {"gpu-share"},
               .min = 0.01,
               .max = 1},
              {.name = "kind", .group = "Talk", .help = "One of two.", .choices = {"red", "blue"}},
              {.name = "name", .type = FlagType::kTexts, .group = "Talk", .help = "Names."},
              {.name = "api-key", .type = FlagType::kTexts, .group = "Net", .help = "Secret."},
              {.name = "tensor-parallel-size",
               .type = FlagType::kInt,
               .group = "Net",
               .help = "Ranks.",
               .fallback = "1",
               .aliases = {"-tp"},
               .min = 1},
              {.name = "config", .type = FlagType::kJson, .group = "Talk", .help = "An object."},
          },
  };
  return command;
}

Flags parse(std::vector<std::string> args) { return Flags::parse(example(), args); }

std::string complaint(std::vector<std::string> args) {
  try {
    parse(std::move(args));
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no complaint";
}

TEST(Flags, ReadValuesBehindSpaceAndEqualsSign) {
  EXPECT_EQ(parse({"--port", "9000"}).integer("port"), 9000);
  EXPECT_EQ(parse({"--port=9001"}).integer("port"), 9001);
  EXPECT_EQ(parse({"--share=0.5"}).number("share"), 0.5);
  EXPECT_EQ(parse({"--kind", "blue"}).text("kind"), "blue");
}

TEST(Flags, FallBackToTheTable) {
  const Flags flags = parse({});
  EXPECT_EQ(flags.integer("port"), 8000);
  EXPECT_EQ(flags.number("share"), 0.9);
  EXPECT_FALSE(flags.boolean("verbose"));
  EXPECT_EQ(flags.find_boolean("thinking"), std::nullopt);
  EXPECT_EQ(flags.find_text("kind"), std::nullopt);
  EXPECT_FALSE(flags.given("port"));
  EXPECT_FALSE(flags.positional(0));
}

TEST(Flags, SwitchesCanBeTurnedOnAndOff) {
  EXPECT_TRUE(parse({"--verbose"}).boolean("verbose"));
  EXPECT_FALSE(parse({"--no-verbose"}).boolean("verbose"));
  EXPECT_FALSE(parse({"--verbose=false"}).boolean("verbose"));
  EXPECT_FALSE(parse({"--verbose", "--no-verbose"}).boolean("verbose")) << "the last one counts";
  EXPECT_EQ(parse({"--no-thinking"}).find_boolean("thinking"), false);
  EXPECT_THAT(complaint({"--verbose=perhaps"}), AllOf(HasSubstr("--verbose"), HasSubstr("true or false"), HasSubstr("perhaps")));
  EXPECT_THAT(complaint({"--no-verbose=true"}), HasSubstr("takes no value"));
}

TEST(Flags, ASwitchDoesNotEatThePositionalBehindIt) {
  const Flags flags = parse({"--verbose", "models/x"});
  EXPECT_EQ(flags.positional(0), "models/x");
}

TEST(Flags, UnderscoresAreDashes) {
  EXPECT_EQ(parse({"--max_num_seqs", "3"}).integer("max-num-seqs"), 3);
  EXPECT_EQ(parse({"--max-num_seqs=4"}).integer("max-num-seqs"), 4);
  EXPECT_FALSE(parse({"--no_verbose"}).boolean("verbose"));
}

TEST(Flags, UnambiguousBeginningsAreEnough) {
  EXPECT_EQ(parse({"--por", "1"}).integer("port"), 1);
  EXPECT_EQ(parse({"--max_num", "7"}).integer("max-num-seqs"), 7);
  EXPECT_FALSE(parse({"--no-verb"}).boolean("verbose"));
  EXPECT_EQ(parse({"--gpu", "0.25"}).number("share"), 0.25) << "a beginning of an alias";
}

TEST(Flags, AnAmbiguousBeginningListsWhatItCouldBe) {
  EXPECT_THAT(complaint({"--max", "7"}),
              AllOf(HasSubstr("ambiguous flag --max"), HasSubstr("--max-model-len"), HasSubstr("--max-num-seqs")));
}

TEST(Flags, AnUnknownFlagNamesTheNearestOnes) {
  EXPECT_THAT(complaint({"--prot", "1"}), AllOf(HasSubstr("unknown flag --prot"), HasSubstr("--port")));
  EXPECT_THAT(complaint({"--max-num-seq-s", "1"}), HasSubstr("--max-num-seqs"));
  EXPECT_THAT(complaint({"--num-seqs", "1"}), HasSubstr("--max-num-seqs"));
  EXPECT_THAT(complaint({"--zzzzzzzzzz"}), AllOf(HasSubstr("unknown flag"), Not(HasSubstr("did you mean"))));
  EXPECT_THAT(complaint({"-x"}), HasSubstr("unknown flag -x"));
}

TEST(Flags, BadValuesNameTheFlagWhatIsAllowedAndWhatWasSeen) {
  EXPECT_THAT(complaint({"--port", "70000"}), AllOf(HasSubstr("--port"), HasSubstr("from 0 to 65535"), HasSubstr("70000")));
  EXPECT_THAT(complaint({"--port", "80x"}), AllOf(HasSubstr("an integer"), HasSubstr("80x")));
  EXPECT_THAT(complaint({"--share", "nan"}), AllOf(HasSubstr("a number"), HasSubstr("nan")));
  EXPECT_THAT(complaint({"--kind", "green"}), AllOf(HasSubstr("red, blue"), HasSubstr("green")));
  EXPECT_THAT(complaint({"--max-model-len", "many"}), AllOf(HasSubstr("auto"), HasSubstr("many")));
  EXPECT_THAT(complaint({"--port"}), HasSubstr("needs a value"));
  EXPECT_THAT(complaint({"--port", "--verbose"}), HasSubstr("--port=--verbose"));
  EXPECT_THAT(complaint({"a", "b"}), AllOf(HasSubstr("unexpected argument \"b\""), HasSubstr("MODEL")));
}

TEST(Flags, NegativeNumbersAreValues) {
  EXPECT_EQ(parse({"--max-model-len", "-1"}).find_integer("max-model-len"), -1);
  EXPECT_EQ(parse({"--max-model-len", "auto"}).find_integer("max-model-len"), std::nullopt);
  EXPECT_EQ(parse({"--max-model-len", "auto"}).find_text("max-model-len"), "auto");
  EXPECT_EQ(parse({"--max-model-len", "32k"}).find_text("max-model-len"), std::nullopt);
}

TEST(Flags, ListsGatherOverValuesAndRepeats) {
  const Flags flags = parse({"--name", "a", "b", "--verbose", "--name=c"});
  EXPECT_THAT(flags.texts("name"), ElementsAre("a", "b", "c"));
  EXPECT_THAT(parse({}).texts("name"), ElementsAre());
}

TEST(Flags, BehindTwoDashesEverythingIsPositional) { EXPECT_EQ(parse({"--", "--verbose"}).positional(0), "--verbose"); }

TEST(Flags, ShortAliases) { EXPECT_EQ(parse({"-tp", "4"}).integer("tensor-parallel-size"), 4); }

TEST(Flags, JsonIsStrictAndAnObject) {
  EXPECT_EQ(parse({"--config", R"({"method": "mtp", "k": 3})"}).find_json("config")->at("k"), 3);
  EXPECT_THAT(complaint({"--config", "{'method': 'mtp'}"}), AllOf(HasSubstr("--config"), HasSubstr("JSON"), HasSubstr("'method'")));
  EXPECT_THAT(complaint({"--config", R"({"a": 1} x)"}), HasSubstr("--config"));
  EXPECT_THAT(complaint({"--config", "[1]"}), HasSubstr("a JSON object"));
}

TEST(Flags, JsonPartsAreSetByPath) {
  const Flags flags = parse({"--config.cudagraph_mode", "NONE", "--config.a.b=2", "--config", R"({"c": true})"});
  EXPECT_EQ(*flags.find_json("config"), (Json{{"cudagraph_mode", "NONE"}, {"a", {{"b", 2}}}, {"c", true}}));
  EXPECT_THAT(complaint({"--port.x", "1"}), HasSubstr("has no parts"));
}

TEST(Flags, WhatWasGivenIsToldWithoutSecrets) {
  const Flags flags = parse({"m", "--api-key", "hush", "--port", "1", "--no-verbose", "--config.a", "1"});
  EXPECT_THAT(flags.given_text(),
              AllOf(HasSubstr("--port 1"), HasSubstr("--no-verbose"), HasSubstr(R"(--config '{"a":1}')"), Not(HasSubstr("hush"))));
}

TEST(Flags, HelpIsCompleteAndGrouped) {
  const std::string text = help_text(example(), "", 80);
  size_t at = 0;
  for (const char* group : {"\nTalk\n", "\nNet\n", "\nSizes\n"}) {
    EXPECT_GT(text.find(group), at) << group;
    at = text.find(group);
  }
  for (const FlagSpec& flag : example().flags) EXPECT_THAT(text, HasSubstr(flag.name));
  EXPECT_THAT(text, HasSubstr("(default 8000)"));
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    EXPECT_LE(end - begin, text.substr(begin, 5) == "Flags" ? 130u : 80u) << text.substr(begin, end - begin);
    begin = end + 1;
  }
}

TEST(Flags, HelpOfAPart) {
  EXPECT_EQ(*parse({"--help"}).help_topic(), "");
  EXPECT_EQ(*parse({"--help=Net"}).help_topic(), "Net");
  EXPECT_THAT(help_text(example(), "net", 80), AllOf(HasSubstr("--port"), Not(HasSubstr("--verbose"))));
  EXPECT_THAT(help_text(example(), "--max-num-seqs", 80), AllOf(HasSubstr("--max-num-seqs"), Not(HasSubstr("--port"))));
  EXPECT_THAT(help_text(example(), "max_num", 80), HasSubstr("--max-num-seqs"));
  EXPECT_THROW(help_text(example(), "colour", 80), UsageError);
}

TEST(ParseCount, UnderstandsWhatPeopleWrite) {
  const std::vector<std::pair<const char*, std::optional<int64_t>>> cases = {{"0", 0},
                                                                             {"32768", 32768},
                                                                             {"-1", -1},
                                                                             {"1k", 1000},
                                                                             {"1K", 1024},
                                                                             {"1Ki", 1024},
                                                                             {"32k", 32000},
                                                                             {"25.6k", 25600},
                                                                             {"1.5G", 1610612736},
                                                                             {"2m", 2000000},
                                                                             {"1T", 1099511627776},
                                                                             {"", std::nullopt},
                                                                             {"k", std::nullopt},
                                                                             {"1kk", std::nullopt},
                                                                             {"1ki", std::nullopt},
                                                                             {"0.0001k", std::nullopt},
                                                                             {"1e400k", std::nullopt},
                                                                             {"99999999999999999999", std::nullopt},
                                                                             {"9999999T", std::nullopt},
                                                                             {"1 k", std::nullopt},
                                                                             {"nank", std::nullopt},
                                                                             {"0x10", std::nullopt}};
  for (const auto& [text, want] : cases) EXPECT_EQ(parse_count(text), want) << text;
}

TEST(NearestNames, AreFewCloseAndOrdered) {
  const std::vector<std::string> names = {"serve", "chat", "generate", "inspect"};
  EXPECT_THAT(nearest_names("serv", names), ElementsAre("serve"));
  EXPECT_THAT(nearest_names("cht", names), ElementsAre("chat"));
  EXPECT_THAT(nearest_names("xyzzy", names), ElementsAre());
  EXPECT_THAT(nearest_names(std::string(1 << 20, 'x'), names), ElementsAre());
}

}  // namespace
}  // namespace weir
