// The quantization_config of compressed-tensors (llm-compressor), spec/w8a8.md section 5: which modules its groups target and its ignore
// list takes out again, both by class, by name or by "re:" pattern. Untrusted.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "weir/base/json.h"
#include "weir/weights/name_pattern.h"

namespace weir {

class CompressedTensors {
 public:
  CompressedTensors() = default;  // targets nothing
  explicit CompressedTensors(const Json& config);

  const std::string& obstacle() const { return obstacle_; }  // why weir cannot compute what is quantised like that; empty: it can

  struct Decision {
    bool quantized = false;
    bool dynamic = true;   // inputs are rounded by a scale per token; else by one of the file
    bool by_name = false;  // the target is its full name, not a pattern or a class
    std::string why;       // "config_groups.group_0 targets it by 'Linear'", "\"ignore\" lists it by 're:.*gate$'"
  };
  // What the config says of a module, whose name may be spelled in two ways. `is_linear`: it is of the class that is called Linear.
  Decision decide(std::string_view canonical, std::string_view in_file, bool is_linear) const;

 private:
  // Names and patterns of one list.
  struct Names {
    std::set<std::string, std::less<>> exact;  // canonical
    std::vector<NamePattern> patterns;
    bool linear = false;  // has the class Linear
    // The entry that names the module; empty: none.
    std::string naming(std::string_view canonical, std::string_view in_file) const;
  };
  struct Group {
    std::string name;
    bool dynamic = true;
    Names targets;
  };
  static std::string read_names(const Json& list, Names& out);  // what is wrong with it; empty: nothing

  std::vector<Group> groups_;
  Names ignored_;
  std::string obstacle_;
};

}  // namespace weir
