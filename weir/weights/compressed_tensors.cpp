#include "weir/weights/compressed_tensors.h"

#include "weir/base/error.h"
#include "weir/weights/names.h"

namespace weir {
namespace {

constexpr std::string_view kRegex = "re:", kWeight = ".weight";

// "language_model.lm_head" -> "lm_head": the rules of names want the dot behind a module.
std::string canonical_module(const std::string& module) {
  std::string name = canonical_name(module + std::string(kWeight));
  return name.substr(0, name.size() - kWeight.size());
}

std::string text_of(const Json& object, const char* field) {
  const auto it = object.find(field);
  return it == object.end() ? "absent" : dump_json(*it);
}

// Fields of one side of a group that must have a value: "weights: num_bits is 4, not 8"; empty when all do.
std::string difference(const Json& group, const char* side, const std::vector<std::pair<const char*, Json>>& wanted) {
  const auto it = group.find(side);
  if (it == group.end() || !it->is_object()) return concat(side, " is ", it == group.end() ? "absent" : dump_json(*it));
  for (const auto& [field, value] : wanted) {
    const auto found = it->find(field);
    if (found == it->end() || *found != value) return concat(side, ": ", field, " is ", text_of(*it, field), ", not ", dump_json(value));
  }
  return "";
}

// Why a group is not W8A8 as weir computes it; empty: it is, with inputs that are `dynamic` or not.
std::string group_obstacle(const Json& group, bool& dynamic) {
  if (!group.is_object()) return "it must be an object";
  if (const std::string d = difference(group, "weights", {{"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", "channel"}});
      !d.empty())
    return d;
  const std::string not_dynamic = difference(
      group, "input_activations", {{"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", "token"}, {"dynamic", true}});
  const std::string not_static =
      difference(group, "input_activations", {{"num_bits", 8}, {"type", "int"}, {"strategy", "tensor"}, {"dynamic", false}});
  dynamic = not_dynamic.empty();
  return dynamic || not_static.empty() ? "" : not_dynamic;
}

bool is_usable(const Json& object) {
  const Json format = object.value("format", Json(nullptr));
  return format.is_null() || format == "int-quantized" || format == "naive-quantized" || format == "mixed-precision";
}

}  // namespace

std::string CompressedTensors::read_names(const Json& list, Names& out) {
  if (list.is_null()) return "";
  if (!list.is_array()) return concat("must be a list of names, got ", dump_json(list));
  for (const Json& entry : list) {
    if (!entry.is_string()) return concat("must hold names, got ", dump_json(entry));
    const auto& name = entry.get_ref<const std::string&>();
    try {
      if (name.starts_with(kRegex))
        out.patterns.push_back(NamePattern::regex(std::string_view(name).substr(kRegex.size())));
      else if (name == "Linear")
        out.linear = true;
      else
        out.exact.insert(canonical_module(name));
    } catch (const Error& error) {
      return error.what();
    }
  }
  return "";
}

CompressedTensors::CompressedTensors(const Json& config) {
  if (!is_usable(config)) {
    obstacle_ = concat("format ", text_of(config, "format"));
    return;
  }
  const auto groups = config.find("config_groups");
  if (groups == config.end() || !groups->is_object()) {
    obstacle_ = "config_groups must be an object";
    return;
  }
  for (const auto& [name, group] : groups->items()) {
    Group read{.name = name};
    std::string wrong = group_obstacle(group, read.dynamic);
    if (wrong.empty() && !is_usable(group)) wrong = concat("format ", text_of(group, "format"));
    if (wrong.empty() && !group.contains("targets")) wrong = "targets is absent";
    if (wrong.empty())
      if (const std::string targets = read_names(group["targets"], read.targets); !targets.empty()) wrong = concat("targets ", targets);
    if (!wrong.empty()) {
      obstacle_ = concat("config_groups.", name, ": ", wrong);
      return;
    }
    groups_.push_back(std::move(read));
  }
  if (const auto ignore = config.find("ignore"); ignore != config.end())
    if (const std::string wrong = read_names(*ignore, ignored_); !wrong.empty()) obstacle_ = concat("ignore ", wrong);
}

std::string CompressedTensors::Names::naming(std::string_view canonical, std::string_view in_file) const {
  if (exact.contains(canonical)) return std::string(canonical);
  for (const NamePattern& pattern : patterns)
    if (pattern.matches(in_file) || pattern.matches(canonical)) return concat(kRegex, pattern.text());
  return "";
}

CompressedTensors::Decision CompressedTensors::decide(std::string_view canonical, std::string_view in_file, bool is_linear) const {
  std::string by = ignored_.naming(canonical, in_file);
  if (by.empty() && ignored_.linear && is_linear) by = "Linear";
  if (!by.empty()) return {.why = concat("\"ignore\" lists it by ", shown(by), ", as not quantised")};
  // A name or pattern goes before a class, whichever group it stands in.
  for (const Group& group : groups_)
    if (by = group.targets.naming(canonical, in_file); !by.empty())
      return {.quantized = true,
              .dynamic = group.dynamic,
              .by_name = !by.starts_with(kRegex),
              .why = concat("config_groups.", group.name, " targets it by ", shown(by), " and \"ignore\" does not name it")};
  for (const Group& group : groups_)
    if (group.targets.linear && is_linear)
      return {.quantized = true,
              .dynamic = group.dynamic,
              .why = concat("config_groups.", group.name, " targets it by 'Linear' and \"ignore\" does not name it")};
  return {.why = "no target of config_groups names it"};
}

}  // namespace weir
