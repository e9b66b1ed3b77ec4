// Which matrices of a float checkpoint `weir quantize` makes int8 of: a recipe by name, or a file of the user's.
//
// The file is YAML, a list of patterns and what becomes of the tensors whose names match; the first pattern that matches a name decides,
// and what none matches stays float:
//   - "*.mlp.experts.*": int8
//   - "*.self_attn.[qkv]_proj": int8
//   - "lm_head": int8
// Patterns are globs (weights/name_pattern.h) on whole canonical names, with or without their ".weight". It is untrusted: everything else
// that YAML can express is an error with the line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "weir/models/config.h"
#include "weir/weights/name_pattern.h"

namespace weir {

class QuantizeRecipe {
 public:
  enum class Named : uint8_t {
    kDefault,  // MoE: q, k, v and routed experts of the main layers. Dense: all of attention and feed-forward, the MTP layer's too
    kAll,      // every projection of every layer but the routers, the gates of shared experts, in_proj_a and in_proj_b; and the head
    kExperts,  // routed experts of the main layers
  };
  QuantizeRecipe(Named named = Named::kDefault) : named_(named) {}  // NOLINT(google-explicit-constructor): a name is a recipe
  // Throws Error naming file and line: not readable, not YAML, not such a list, a bad pattern.
  static QuantizeRecipe read(const std::string& file);

  // For each of `modules`, the canonical names of a checkpoint's matrices without ".weight": does it become int8? Throws Error: none does;
  // a pattern matches nothing, or asks int8 of what must stay float; matrices that are computed together would be of two types.
  std::vector<bool> choose(const ModelConfig& config, const std::vector<std::string>& modules) const;

 private:
  struct Rule {
    NamePattern pattern;
    bool int8 = false;
    size_t line = 0;
    bool matches(std::string_view module) const;
  };
  bool is_int8(const ModelConfig& config, std::string_view module) const;
  void check_rules(const ModelConfig& config, const std::vector<std::string>& modules) const;

  Named named_;
  std::string file_;  // empty: by name
  std::vector<Rule> rules_;
};

}  // namespace weir
