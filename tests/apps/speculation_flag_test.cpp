#include "weir/apps/speculation_flag.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weir {
namespace {

SpeculationConfig parse(const std::vector<std::string>& args) {
  static const CommandSpec command = {.name = "serve", .summary = "", .positionals = {}, .flags = {speculation_flag()}};
  return speculation_config(Flags::parse(command, args));
}

std::string refusal(const std::string& json) {
  try {
    parse({"--speculative-config", json});
  } catch (const UsageError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(SpeculationFlag, IsOffWhenNotGiven) { EXPECT_EQ(parse({}).num_drafts, 0); }

TEST(SpeculationFlag, ReadsTheConfigOfVllm) {
  const SpeculationConfig seed =
      parse({"--speculative-config", R"({"method":"qwen3_5_mtp","num_speculative_tokens":3,"enforce_eager":true})"});
  EXPECT_EQ(seed.num_drafts, 3);
  EXPECT_TRUE(seed.adaptive);
  for (const char* method : {"mtp", "qwen3_5_mtp", "qwen3_next_mtp", "deepseek_mtp"})
    EXPECT_EQ(parse({"-sc", concat(R"({"method":")", method, R"("})")}).num_drafts, 1);
  const SpeculationConfig parts = parse({"-sc.num_speculative_tokens", "8", "-sc.adaptive", "false"});
  EXPECT_EQ(parts.num_drafts, 8);
  EXPECT_FALSE(parts.adaptive);
  EXPECT_EQ(refusal(R"({"draft_tensor_parallel_size":1,"rejection_sample_method":"standard","disable_padded_drafter_batch":false})"),
            "accepted");
}

TEST(SpeculationFlag, NamesWhatItRefuses) {
  using testing::HasSubstr;
  EXPECT_THAT(refusal(R"({"num_speculative_tokens":9})"), HasSubstr("num_speculative_tokens must be an integer from 1 to 8, got 9"));
  EXPECT_THAT(refusal(R"({"num_speculative_tokens":0})"), HasSubstr("got 0"));
  EXPECT_THAT(refusal(R"({"num_speculative_tokens":"three"})"), HasSubstr("got \"three\""));
  EXPECT_THAT(refusal(R"({"num_speculative_tokens":18446744073709551615})"), HasSubstr("got 18446744073709551615"));
  EXPECT_THAT(refusal(R"({"num_speculative_tokens":2.5})"), HasSubstr("got 2.5"));
  EXPECT_THAT(refusal(R"({"method":"eagle3"})"), HasSubstr("method must be mtp"));
  EXPECT_THAT(refusal(R"({"adaptive":1})"), HasSubstr("adaptive must be true or false, got 1"));
  EXPECT_THAT(refusal(R"({"draft_tensor_parallel_size":2})"), HasSubstr("draft_tensor_parallel_size must be 1"));
  EXPECT_THAT(refusal(R"({"rejection_sample_method":"synthetic"})"), HasSubstr("change the distribution"));
  EXPECT_THAT(refusal(R"({"num_speculative_token":3})"), HasSubstr("unknown key \"num_speculative_token\""));
}

}  // namespace
}  // namespace weir
