#include "weir/apps/speculation_flag.h"

#include <algorithm>
#include <array>

namespace weir {
namespace {

constexpr std::array<std::string_view, 4> kMethods = {"mtp", "qwen3_5_mtp", "qwen3_next_mtp", "deepseek_mtp"};

[[noreturn]] void refuse(const std::string& key, const std::string& allowed, const Json& seen) {
  throw UsageError(concat("--speculative-config: ", key, " must be ", allowed, ", got ", dump_json(seen)));
}

}  // namespace

FlagSpec speculation_flag() {
  return {
      .name = "speculative-config",
      .type = FlagType::kJson,
      .group = "Speculation",
      .help = concat("Draft tokens with the model's MTP head and verify several per step; answers stay the same, token for token. Keys: "
                     "method (mtp), num_speculative_tokens (1 to ",
                     kMaxDrafts,
                     ", default 1), adaptive (default true: draft only as many as pay). "
                     "E.g. '{\"method\": \"qwen3_5_mtp\", \"num_speculative_tokens\": 3}'."),
      .aliases = {"-sc"}};
}

SpeculationConfig speculation_config(const Flags& flags) {
  const auto config = flags.find_json("speculative-config");
  if (!config) return {};
  SpeculationConfig out{.num_drafts = 1};
  for (const auto& [key, value] : config->items()) {
    if (key == "method") {
      const bool known = value.is_string() && std::find(kMethods.begin(), kMethods.end(), value.get<std::string>()) != kMethods.end();
      if (!known) refuse(key, "mtp, qwen3_5_mtp, qwen3_next_mtp or deepseek_mtp, which all name the model's MTP head", value);
    } else if (key == "num_speculative_tokens") {
      const bool fits = value.is_number_integer() && value >= 1 && value <= kMaxDrafts;
      if (!fits) refuse(key, concat("an integer from 1 to ", kMaxDrafts), value);
      out.num_drafts = value.get<int32_t>();
    } else if (key == "adaptive") {
      if (!value.is_boolean()) refuse(key, "true or false", value);
      out.adaptive = value.get<bool>();
    } else if (key == "enforce_eager" || key == "disable_padded_drafter_batch") {
      if (!value.is_boolean()) refuse(key, "true or false", value);  // about graphs and batches that weir does not have
    } else if (key == "draft_tensor_parallel_size") {
      if (value != 1) refuse(key, "1, the number of ranks there are", value);
    } else if (key == "rejection_sample_method") {
      if (value != "standard") refuse(key, "\"standard\": other methods change the distribution of the answers", value);
    } else {
      throw UsageError(concat("--speculative-config: unknown key \"", key,
                              "\"; known are method, num_speculative_tokens, adaptive, enforce_eager, disable_padded_drafter_batch, "
                              "draft_tensor_parallel_size, rejection_sample_method"));
    }
  }
  return out;
}

}  // namespace weir
