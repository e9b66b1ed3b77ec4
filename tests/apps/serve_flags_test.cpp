#include "weir/apps/serve_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "weir/apps/commands.h"
#include "weir/apps/compat_flags.h"
#include "weir/apps/version.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::string kData = WEIR_SOURCE_DIR "/tests/apps/data/";
const std::string kModel = WEIR_SOURCE_DIR "/models/weir-tiny";

// The words of a shell command: single and double quotes, backslash-newline, and ${NAME} or $NAME replaced by an address.
std::vector<std::string> shell_words(const std::string& text) {
  std::vector<std::string> out;
  std::string word;
  bool in_word = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\'' || c == '"') {
      const size_t end = text.find(c, i + 1);
      word += text.substr(i + 1, end - i - 1);
      in_word = true;
      i = end;
    } else if (c == '\\' && i + 1 < text.size() && text[i + 1] == '\n') {
      ++i;
    } else if (c == '$') {
      word += "192.0.2.1";
      in_word = true;
      while (i + 1 < text.size() &&
             (std::isalnum(static_cast<unsigned char>(text[i + 1])) || std::string_view("_{}").find(text[i + 1]) != std::string_view::npos))
        ++i;
    } else if (c == ' ' || c == '\n') {
      if (in_word) out.push_back(word);
      word.clear();
      in_word = false;
    } else {
      word += c;
      in_word = true;
    }
  }
  if (in_word) out.push_back(word);
  return out;
}

// Every `vllm serve` command of the recipe that users come with, as printed there.
std::vector<std::vector<std::string>> seed_commands() {
  const std::string text = read_file(kData + "seed_serve_commands.txt");
  std::vector<std::vector<std::string>> out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find("\n\n", begin), text.size());
    std::vector<std::string> words = shell_words(text.substr(begin, end - begin));
    EXPECT_EQ(words[0] + " " + words[1], "vllm serve");
    out.emplace_back(words.begin() + 2, words.end());
    begin = end + 2;
  }
  return out;
}

Flags parse(std::vector<std::string> args) { return Flags::parse(serve_command(), args); }
ServeOptions options(std::vector<std::string> args) {
  args.insert(args.begin(), kModel);
  return serve_options(parse(args), {});
}
std::vector<std::string> remarks(const Flags& flags, CompatVerdict verdict) {
  std::vector<std::string> out;
  for (const CompatRemark& remark : review_compat_flags(flags))
    if (remark.verdict == verdict) out.push_back(remark.text);
  return out;
}

TEST(ServeFlags, HaveUniqueSpellings) {
  std::set<std::string> seen;
  for (const FlagSpec& flag : serve_command().flags) {
    EXPECT_TRUE(seen.insert(flag.name).second) << flag.name;
    for (const std::string& alias : flag.aliases) EXPECT_TRUE(seen.insert(alias).second) << alias;
    EXPECT_FALSE(flag.help.empty()) << flag.name;
    EXPECT_FALSE(flag.group.empty()) << flag.name;
  }
}

TEST(ServeFlags, FallbacksAreValuesOfTheirOwnType) {
  for (const CommandSpec& command : {serve_command(), chat_command(), generate_command(), inspect_command()})
    for (const FlagSpec& flag : command.flags) {
      if (flag.fallback.empty() || flag.type == FlagType::kBool) continue;
      EXPECT_NO_THROW(Flags::parse(command, std::vector<std::string>{"--" + flag.name, flag.fallback})) << flag.name;
    }
}

TEST(ServeFlags, EveryCommandLineOfTheSeedParses) {
  const auto commands = seed_commands();
  ASSERT_EQ(commands.size(), 6u);
  for (const auto& command : commands) {
    const Flags flags = parse(command);
    EXPECT_EQ(flags.positional(0), "Eco-Tech/Qwen3.5-397B-A17B-w8a8-mtp");
    EXPECT_THAT(flags.texts("served-model-name"), ElementsAre("qwen3.5"));
    EXPECT_EQ(flags.find_json("speculative-config")->at("num_speculative_tokens"), 3);
    EXPECT_EQ(flags.integer("seed"), 1024);
  }
  EXPECT_EQ(parse(commands[0]).integer("max-model-len"), 133000);
  EXPECT_EQ(parse(commands[3]).find_json("kv-transfer-config")->at("kv_connector_extra_config").at("decode").at("dp_size"), 16);
  EXPECT_TRUE(parse(commands[2]).boolean("headless"));
}

TEST(ServeFlags, WhatTheSeedNeedsAndIsNotBuiltIsRefusedByName) {
  const auto commands = seed_commands();
  EXPECT_THAT(remarks(parse(commands[0]), CompatVerdict::kRefuse), ElementsAre(HasSubstr("--tensor-parallel-size must be 1, got 16")));
  EXPECT_THAT(remarks(parse(commands[2]), CompatVerdict::kRefuse), testing::Contains(HasSubstr("--headless")));
  EXPECT_THAT(remarks(parse(commands[3]), CompatVerdict::kRefuse), testing::Contains(HasSubstr("--kv-transfer-config")));
  EXPECT_THROW(apply_compat_flags(parse(commands[0])), UsageError);
}

TEST(ServeFlags, TheSeedsFlagsForOneRankAreAcceptedWithAWordOnEach) {
  const Flags flags =
      parse({kModel, "--data-parallel-size", "1", "--tensor-parallel-size", "1", "--enable-expert-parallel", "--seed", "1024",
             "--trust-remote-code", "--enable-prefix-caching", "--speculative-config",
             R"({"method": "qwen3_5_mtp", "num_speculative_tokens": 3})", "--compilation-config",
             R"({"cudagraph_mode":"FULL_DECODE_ONLY"})", "--additional-config", R"({"enable_cpu_binding":true, "enable_fused_mc2":1})",
             "--enforce-eager", "--async-scheduling", "--no-disable-hybrid-kv-cache-manager"});
  EXPECT_THAT(remarks(flags, CompatVerdict::kRefuse), IsEmpty());
  EXPECT_THAT(remarks(flags, CompatVerdict::kWarn), IsEmpty());
  EXPECT_THAT(remarks(flags, CompatVerdict::kNote),
              testing::Contains(AllOf(HasSubstr("--additional-config"), HasSubstr("enable_fused_mc2"))));
  EXPECT_NO_THROW(apply_compat_flags(flags));
  EXPECT_EQ(serve_options(flags, {}).engine.speculation.num_drafts, 3);
}

TEST(ServeFlags, GraphModesAreNamedAndMisspeltOnesRefused) {
  EXPECT_THAT(remarks(parse({"--compilation-config.cudagraph_mode", "FULL_DECODE_ONLY"}), CompatVerdict::kNote),
              ElementsAre(HasSubstr("cudagraph_mode FULL_DECODE_ONLY")));
  EXPECT_THAT(remarks(parse({"-cc", R"({"level": 3})"}), CompatVerdict::kNote), ElementsAre(HasSubstr("--compilation-config")));
  EXPECT_THAT(remarks(parse({"-cc", R"({"cudagraph_mode": "DECODE"})"}), CompatVerdict::kRefuse),
              ElementsAre(HasSubstr("FULL_AND_PIECEWISE, got \"DECODE\"")));
}

TEST(ServeFlags, ThreadsAreBoundUnlessToldOtherwise) {
  EXPECT_TRUE(options({}).engine.bind_threads);
  EXPECT_TRUE(options({"--additional-config", R"({"enable_cpu_binding": true})"}).engine.bind_threads);
  EXPECT_FALSE(options({"--additional-config.enable_cpu_binding", "false"}).engine.bind_threads);
  EXPECT_THROW(options({"--additional-config", R"({"enable_cpu_binding": "yes"})"}), UsageError);
  EXPECT_EQ(options({}).engine.numa, NumaMode::kAuto);
  EXPECT_EQ(options({"--numa", "isolate"}).engine.numa, NumaMode::kIsolate);
  EXPECT_EQ(options({"--numa", "distribute"}).engine.numa, NumaMode::kDistribute);
  EXPECT_EQ(options({"--numa", "off"}).engine.numa, NumaMode::kOff);
  EXPECT_THROW(options({"--numa", "both"}), UsageError);
}

TEST(ServeFlags, ProfilesGoWhereFlagsOrTheEnvironmentSay) {
  EXPECT_FALSE(options({}).profiling.offered);
  EXPECT_TRUE(options({"--profile"}).profiling.from_start);
  EXPECT_EQ(options({"--profiler-config.torch_profiler_dir", "/a"}).profiling.dir, "/a");
  EXPECT_EQ(options({"--profile-dir", "/b", "--profiler-config", R"({"torch_profiler_dir": "/a"})"}).profiling.dir, "/b");
  EXPECT_THROW(options({"--profiler-config", R"({"torch_profiler_dir": 1})"}), UsageError);
  EnvironmentReview environment;
  environment.profiler_dir = "/env";
  const ProfilingOptions fallback = serve_options(parse({kModel}), environment).profiling;
  EXPECT_EQ(fallback.dir, "/env");
  EXPECT_TRUE(fallback.offered);
  EXPECT_FALSE(fallback.from_start);
}

TEST(ServeFlags, PrefixCachingIsOnAndItsSizesAreChosenUnlessGiven) {
  EngineOptions o = options({}).engine;
  EXPECT_TRUE(o.enable_prefix_caching);
  EXPECT_FALSE(o.num_state_snapshots);
  EXPECT_EQ(o.prefix_cache_retention_interval, 2048);
  o = options({"--no-enable-prefix-caching", "--num-state-snapshots", "12", "--prefix-cache-retention-interval", "0"}).engine;
  EXPECT_FALSE(o.enable_prefix_caching);
  EXPECT_EQ(o.num_state_snapshots, 12);
  EXPECT_EQ(o.prefix_cache_retention_interval, 0);
  EXPECT_FALSE(options({"--num-state-snapshots", "auto"}).engine.num_state_snapshots);
  EXPECT_THROW(options({"--num-state-snapshots", "-1"}), UsageError);
}

TEST(ServeFlags, SwitchesThatAreOffSayNothing) {
  EXPECT_THAT(review_compat_flags(parse({"--no-enable-prefix-caching", "--no-headless", "--no-enforce-eager", "--quantization", "none"})),
              IsEmpty());
}

TEST(ServeFlags, TheQuantizationFlagIsACheckThatTheLoaderMakes) {
  EXPECT_EQ(options({"--quantization", "ascend"}).engine.quantization, "ascend");
  EXPECT_EQ(options({"-q", "compressed-tensors"}).engine.quantization, "compressed-tensors");
  EXPECT_EQ(options({}).engine.quantization, std::nullopt);
  EXPECT_THROW(parse({kModel, "--quantization", "gptq"}), UsageError);
}

TEST(ServeFlags, BecomeOptionsOfEngineAndServer) {
  const ServeOptions o = options({"--port",
                                  "9000",
                                  "--served-model-name",
                                  "a",
                                  "b",
                                  "--max-model-len",
                                  "4k",
                                  "--max-num-seqs",
                                  "8",
                                  "--memory-utilization",
                                  "0.5",
                                  "--kv-cache-memory-bytes",
                                  "1G",
                                  "--dtype",
                                  "float32",
                                  "--api-key",
                                  "k1",
                                  "--api-key",
                                  "k2",
                                  "--allowed-origins",
                                  R"(["https://a.example", "https://b.example"])",
                                  "--reasoning-parser",
                                  "qwen3",
                                  "--default-chat-template-kwargs",
                                  R"({"enable_thinking": false})",
                                  "--shutdown-timeout",
                                  "1.5",
                                  "--disable-log-requests",
                                  "--max-body-bytes",
                                  "1K"});
  EXPECT_EQ(o.engine.model, kModel);
  EXPECT_EQ(o.engine.max_model_len, 4000);
  EXPECT_EQ(o.engine.max_num_seqs, 8);
  EXPECT_EQ(o.engine.memory_utilization, 0.5);
  EXPECT_EQ(o.engine.kv_cache_memory_bytes, int64_t{1} << 30);
  EXPECT_EQ(o.engine.dtype, "float32");
  EXPECT_EQ(o.server.port, 9000);
  EXPECT_THAT(o.server.api_keys, ElementsAre("k1", "k2"));
  EXPECT_THAT(o.server.allowed_origins, ElementsAre("https://a.example", "https://b.example"));
  EXPECT_EQ(o.server.shutdown_timeout.count(), 1500);
  EXPECT_FALSE(o.server.access_log);
  EXPECT_EQ(o.server.limits.max_body_bytes, 1024);
  EXPECT_THAT(o.server.api.served_names, ElementsAre("a", "b"));
  EXPECT_EQ(o.server.api.reasoning_parser, "qwen3");
  EXPECT_EQ(o.server.api.default_chat_template_kwargs.at("enable_thinking"), false);
}

TEST(ServeFlags, DefaultsAreVllmsButForTheHost) {
  const ServeOptions o = options({});
  EXPECT_EQ(o.server.host, "127.0.0.1");
  EXPECT_EQ(o.server.port, 8000);
  EXPECT_EQ(o.engine.max_num_seqs, 256);
  EXPECT_EQ(o.engine.max_model_len, 0);
  EXPECT_EQ(o.engine.generation_config, "auto");
  EXPECT_THAT(o.server.api.served_names, ElementsAre(kModel)) << "the model as written";
  EXPECT_THAT(o.server.allowed_origins, ElementsAre("*"));
}

TEST(ServeFlags, ThePositionalModelWinsOverTheFlag) {
  EXPECT_EQ(serve_options(parse({kModel, "--model", "/nowhere"}), {}).engine.model, kModel);
  EXPECT_EQ(serve_options(parse({"--model", kModel}), {}).engine.model, kModel);
}

TEST(ServeFlags, AModelThatIsNoDirectoryIsExplained) {
  try {
    serve_options(parse({"Qwen/Qwen3.5-0.8B"}), {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code, ErrorCode::kNotFound);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("Qwen/Qwen3.5-0.8B"), HasSubstr("hf download")));
  }
  EXPECT_THROW(serve_options(parse({}), {}), UsageError);
}

TEST(ServeFlags, KeysOfTheEnvironmentHoldUntilTheFlagIsGiven) {
  EnvironmentReview environment;
  environment.api_keys = {"from-env"};
  environment.log_level = LogLevel::kDebug;
  EXPECT_THAT(serve_options(parse({kModel}), environment).server.api_keys, ElementsAre("from-env"));
  EXPECT_THAT(serve_options(parse({kModel, "--api-key", "x"}), environment).server.api_keys, ElementsAre("x"));
  EXPECT_EQ(serve_log_level(parse({}), environment), LogLevel::kDebug);
  EXPECT_EQ(serve_log_level(parse({"--uvicorn-log-level", "error"}), environment), LogLevel::kError);
}

TEST(ServeFlags, TypesOfCachesAreVllmsSpellings) {
  EXPECT_EQ(options({}).engine.kv_cache_dtype, "auto");
  EXPECT_EQ(options({"--kv-cache-dtype", "int8_per_token_head"}).engine.kv_cache_dtype, "int8");
  EXPECT_EQ(options({"--mamba-ssm-cache-dtype", "bfloat16"}).engine.state_dtype, "bfloat16");
  const auto refusal = [](const std::vector<std::string>& args) -> std::string {
    try {
      options(args);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(refusal({"--kv-cache-dtype", "fp8_e4m3"}), AllOf(HasSubstr("not built: --kv-cache-dtype fp8_e4m3"), HasSubstr("int8")));
  EXPECT_THAT(refusal({"--kv-cache-dtype", "int4"}), AllOf(HasSubstr("--kv-cache-dtype int4"), HasSubstr("auto, bfloat16")));
  EXPECT_THAT(refusal({"--mamba-ssm-cache-dtype", "int8"}), HasSubstr("--mamba-ssm-cache-dtype int8"));
}

TEST(ServeFlags, AMisspeltOverrideIsAnError) {
  EXPECT_THROW(options({"--override-generation-config", R"({"temprature": 1})"}), UsageError);
  EXPECT_EQ(options({"--override-generation-config.temperature", "0.5"}).engine.override_generation_config->at("temperature"), 0.5);
}

TEST(Version, IsTheOneOfTheBuild) {
  EXPECT_THAT(read_file(WEIR_SOURCE_DIR "/CMakeLists.txt"), HasSubstr(concat("project(weir VERSION ", kVersion, " ")));
}

}  // namespace
}  // namespace weir
