#include "weir/apps/quantize_recipe.h"

#include <yaml.h>

#include <algorithm>
#include <initializer_list>
#include <map>
#include <memory>

#include "weir/base/error.h"
#include "weir/base/json.h"
#include "weir/weights/names.h"

namespace weir {
namespace {

constexpr int64_t kMaxFileBytes = 1 << 20;
constexpr size_t kMaxRules = 10'000;

bool ends_with_any(std::string_view module, std::initializer_list<std::string_view> endings) {
  return std::any_of(endings.begin(), endings.end(), [&](std::string_view ending) { return module.ends_with(ending); });
}

bool in_trunk(std::string_view module) { return module.starts_with("model.language_model.layers."); }
bool in_mtp(std::string_view module) { return module.starts_with("mtp.layers."); }
bool is_routed(std::string_view module) { return module.find(".mlp.experts.") != std::string_view::npos; }

// What may be int8 at all. Routers and the small gates decide where a token goes and how fast a state fades, and weigh next to nothing;
// a tied head is the embedding table, which is read by rows.
bool can_be_int8(const ModelConfig& config, std::string_view module) {
  if (module == "lm_head") return !config.tied_embeddings;
  if (module == "mtp.fc") return true;
  return (in_trunk(module) || in_mtp(module)) &&
         ends_with_any(module, {".q_proj", ".k_proj", ".v_proj", ".o_proj", ".gate_proj", ".up_proj", ".down_proj",
                                ".linear_attn.in_proj_qkv", ".linear_attn.in_proj_z", ".linear_attn.out_proj"});
}

// Matrices that are computed as one have one name here: weir and vllm-ascend want them of one type.
std::string computed_with(std::string_view module) {
  const auto cut = [&](std::initializer_list<std::string_view> endings, std::string_view instead) -> std::string {
    for (const std::string_view ending : endings)
      if (module.ends_with(ending)) return concat(module.substr(0, module.size() - ending.size()), instead);
    return "";
  };
  if (is_routed(module)) return concat(module.substr(0, module.find(".mlp.experts.")), ".mlp.experts");
  if (std::string name = cut({".q_proj", ".k_proj", ".v_proj"}, ".qkv_proj"); !name.empty()) return name;
  if (std::string name = cut({".gate_proj", ".up_proj"}, ".gate_up_proj"); !name.empty()) return name;
  if (std::string name = cut({".in_proj_qkv", ".in_proj_z"}, ".in_proj_qkvz"); !name.empty()) return name;
  return std::string(module);
}

// libyaml's events one by one, each with its line.
class YamlEvents {
 public:
  YamlEvents(const std::string& file, const std::string& text) : file_(file) {
    if (yaml_parser_initialize(&parser_) == 0) fail(ErrorCode::kResourceExhausted, file, ": no memory");
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()), text.size());
  }
  ~YamlEvents() {
    yaml_event_delete(&event_);
    yaml_parser_delete(&parser_);
  }
  YamlEvents(const YamlEvents&) = delete;
  YamlEvents& operator=(const YamlEvents&) = delete;

  yaml_event_type_t next() {
    yaml_event_delete(&event_);
    if (yaml_parser_parse(&parser_, &event_) == 0) {
      const char* problem = parser_.problem != nullptr ? parser_.problem : "cannot be read";
      fail(ErrorCode::kInvalidArgument, file_, ":", parser_.problem_mark.line + 1, ": not YAML: ", problem);
    }
    return event_.type;
  }
  size_t line() const { return event_.start_mark.line + 1; }

  // The text of the scalar that is next; `what` it should be.
  std::string scalar(const char* what) {
    if (next() != YAML_SCALAR_EVENT || event_.data.scalar.anchor != nullptr || event_.data.scalar.tag != nullptr)
      bad("expected ", what, ", as plain text");
    return {reinterpret_cast<const char*>(event_.data.scalar.value), event_.data.scalar.length};
  }
  void expect(yaml_event_type_t wanted) {
    if (next() != wanted) bad_list();
  }
  [[noreturn]] void bad_list() const { bad("expected a list of lines like: - \"*.mlp.experts.*\": int8"); }
  template <class... Parts>
  [[noreturn]] void bad(const Parts&... parts) const {
    fail(ErrorCode::kInvalidArgument, file_, ":", line(), ": ", parts...);
  }

 private:
  const std::string& file_;
  yaml_parser_t parser_{};
  yaml_event_t event_{};
};

}  // namespace

bool QuantizeRecipe::Rule::matches(std::string_view module) const {
  return pattern.matches(module) || pattern.matches(concat(module, ".weight"));
}

QuantizeRecipe QuantizeRecipe::read(const std::string& file) {
  QuantizeRecipe out;
  out.file_ = file;
  const std::string text = read_file(file, kMaxFileBytes);
  YamlEvents events(file, text);
  events.expect(YAML_STREAM_START_EVENT);
  events.expect(YAML_DOCUMENT_START_EVENT);
  events.expect(YAML_SEQUENCE_START_EVENT);
  for (yaml_event_type_t entry = events.next(); entry != YAML_SEQUENCE_END_EVENT; entry = events.next()) {
    if (entry != YAML_MAPPING_START_EVENT) events.bad_list();
    const size_t line = events.line();
    const std::string pattern = events.scalar("a pattern"), type = events.scalar("int8 or float");
    if (type != "int8" && type != "float") events.bad(shown(pattern), " must be int8 or float, got ", shown(type));
    if (out.rules_.size() == kMaxRules) events.bad("more than ", kMaxRules, " patterns");
    try {
      out.rules_.push_back({NamePattern::glob(pattern), type == "int8", line});
    } catch (const Error& error) {
      events.bad(error.what());
    }
    if (events.next() != YAML_MAPPING_END_EVENT)
      events.bad("one pattern to a line: begin the next one with \"- \", so that their order counts");
  }
  events.expect(YAML_DOCUMENT_END_EVENT);
  if (events.next() != YAML_STREAM_END_EVENT) events.bad("a second document; one list is a recipe");
  if (out.rules_.empty()) fail(ErrorCode::kInvalidArgument, file, ": the list is empty; every matrix would stay float");
  return out;
}

bool QuantizeRecipe::is_int8(const ModelConfig& config, std::string_view module) const {
  if (!can_be_int8(config, module)) return false;
  if (!file_.empty()) {
    const auto rule = std::find_if(rules_.begin(), rules_.end(), [&](const Rule& r) { return r.matches(module); });
    return rule != rules_.end() && rule->int8;
  }
  const bool routed = is_routed(module);
  switch (named_) {
    case Named::kExperts: return in_trunk(module) && routed;
    case Named::kAll: return module != "mtp.fc";
    case Named::kDefault: break;
  }
  if (config.moe()) return in_trunk(module) && (routed || ends_with_any(module, {".q_proj", ".k_proj", ".v_proj"}));
  return module.find(".self_attn.") != std::string_view::npos || module.find(".mlp.") != std::string_view::npos;
}

void QuantizeRecipe::check_rules(const ModelConfig& config, const std::vector<std::string>& modules) const {
  for (const Rule& rule : rules_) {
    const auto matched = [&](const std::string& module) { return rule.matches(module); };
    const auto first = std::find_if(modules.begin(), modules.end(), matched);
    if (first == modules.end())
      fail(ErrorCode::kInvalidArgument, file_, ":", rule.line, ": ", shown(rule.pattern.text()), " matches no matrix of this model");
    const bool useful = std::any_of(first, modules.end(), [&](const std::string& m) { return matched(m) && can_be_int8(config, m); });
    if (rule.int8 && !useful)
      fail(ErrorCode::kInvalidArgument, file_, ":", rule.line, ": ", shown(rule.pattern.text()), " asks int8 of ", shown(*first),
           ", which stays float: projections of the layers, mtp.fc and an untied lm_head can be int8");
  }
}

std::vector<bool> QuantizeRecipe::choose(const ModelConfig& config, const std::vector<std::string>& modules) const {
  check_rules(config, modules);
  std::vector<bool> out;
  std::map<std::string, size_t> first_of;  // of what is computed together
  bool any = false;
  for (size_t i = 0; i < modules.size(); ++i) {
    out.push_back(is_int8(config, modules[i]));
    any |= out.back();
    const auto [it, inserted] = first_of.emplace(computed_with(modules[i]), i);
    if (!inserted && out[it->second] != out[i])
      fail(ErrorCode::kInvalidArgument, file_, ": ", shown(modules[it->second]), " would be ", out[it->second] ? "int8" : "float", " and ",
           shown(modules[i]), " ", out[i] ? "int8" : "float", "; they are computed together and must be of one type");
  }
  if (!any) fail(ErrorCode::kInvalidArgument, "the recipe names no matrix of this model (", config.model_type, ")");
  return out;
}

}  // namespace weir
