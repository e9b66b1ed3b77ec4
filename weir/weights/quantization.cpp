#include "weir/weights/quantization.h"

#include <simdjson.h>

#include <filesystem>

#include "weir/base/error.h"
#include "weir/base/json.h"
#include "weir/weights/names.h"

namespace weir {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr const char* kDescription = "quant_model_description.json";
constexpr int64_t kMaxDescriptionBytes = 200'000'000;

bool is_float(DType type) { return type == DType::kF32 || type == DType::kBF16 || type == DType::kF16; }

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

// Why a group of compressed-tensors is not W8A8 as weir computes it; empty: it is.
std::string group_obstacle(const Json& group) {
  if (!group.is_object()) return "it must be an object";
  if (const std::string d = difference(group, "weights", {{"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", "channel"}});
      !d.empty())
    return d;
  const std::string dynamic = difference(group, "input_activations",
                                         {{"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", "token"}, {"dynamic", true}});
  const std::string fixed =
      difference(group, "input_activations", {{"num_bits", 8}, {"type", "int"}, {"strategy", "tensor"}, {"dynamic", false}});
  return dynamic.empty() || fixed.empty() ? "" : dynamic;
}

std::string compressed_tensors_obstacle(const Json& config) {
  const auto usable = [](const Json& format) {
    return format.is_null() || format == "int-quantized" || format == "naive-quantized" || format == "mixed-precision";
  };
  const auto of = [](const Json& object) { return object.value("format", Json(nullptr)); };
  if (!usable(of(config))) return concat("format ", dump_json(of(config)));
  const auto groups = config.find("config_groups");
  if (groups == config.end() || !groups->is_object()) return "config_groups must be an object";
  for (const auto& [name, group] : groups->items()) {
    std::string obstacle = group_obstacle(group);
    if (obstacle.empty() && !usable(of(group))) obstacle = concat("format ", dump_json(of(group)));
    if (!obstacle.empty()) return concat("config_groups.", name, ": ", obstacle);
  }
  return "";
}

}  // namespace

Quantization Quantization::read(const std::string& dir) {
  Quantization out;
  std::error_code error;
  const std::string description = dir + "/" + kDescription, config = dir + "/config.json";
  if (std::filesystem::exists(description, error))
    out.read_description(description);
  else if (std::filesystem::exists(config, error))
    out.read_config(config);
  return out;
}

// A line per tensor, hundreds of thousands for the large models: read with simdjson, see base/json.h.
void Quantization::read_description(const std::string& file) {
  method_ = Method::kAscend;
  method_name_ = "ascend";
  source_ = file;
  simdjson::dom::parser parser;
  simdjson::dom::object description;
  if (const auto error = parser.parse(simdjson::padded_string(read_file(file, kMaxDescriptionBytes))).get(description); error)
    fail(ErrorCode::kInvalidArgument, file, ": not a JSON object: ", simdjson::error_message(error));
  for (const auto& [name, value] : description) {
    std::string_view type;
    // Keys of tensors have a dot; the file's own fields have none.
    if (name.find('.') == std::string_view::npos) continue;
    if (value.get(type) != simdjson::SUCCESS) fail(ErrorCode::kInvalidArgument, file, ": ", shown(name), " must have a type as text");
    if (type == "FLOAT") continue;
    // Parts of a linear are found by its weight; a tensor that is none of them has no meaning but FLOAT.
    const auto [it, inserted] = types_.emplace(canonical_name(name), type);
    if (!inserted && it->second != type)
      fail(ErrorCode::kInvalidArgument, file, ": ", shown(name), " is ", shown(type), " and, under another prefix, ", shown(it->second));
  }
}

void Quantization::read_config(const std::string& file) {
  const Json root = read_json_file(file);
  const Json* config = nullptr;
  for (const Json* at : {&root, root.contains("text_config") ? &root["text_config"] : nullptr}) {
    if (at == nullptr || !at->is_object()) continue;
    for (const char* field : {"quantization_config", "compression_config"})
      if (const auto it = at->find(field); config == nullptr && it != at->end() && it->is_object()) config = &*it;
  }
  if (config == nullptr) return;
  source_ = file;
  const auto method = config->find("quant_method");
  if (method == config->end() || !method->is_string())
    fail(ErrorCode::kInvalidArgument, file, ": quantization_config: quant_method must be a string");
  method_name_ = method->get<std::string>();
  if (method_name_ == "compressed-tensors") {
    method_ = Method::kCompressedTensors;
    if (const std::string why = compressed_tensors_obstacle(*config); !why.empty())
      obstacle_ = concat("not built: compressed-tensors with ", why, " (", file, "); int8 rows with int8 inputs are");
    if (const auto ignore = config->find("ignore"); ignore != config->end() && ignore->is_array())
      for (const Json& module : *ignore)
        if (module.is_string() && !module.get_ref<const std::string&>().starts_with("re:"))
          ignored_[canonical_module(module.get_ref<const std::string&>())] = true;
  } else if (method_name_ == "fp8") {
    method_ = Method::kFp8;
    const auto size = config->find("weight_block_size");
    const auto side = [](const Json& n) { return n.is_number_integer() && n.get<int64_t>() > 0 && n.get<int64_t>() <= 65'536; };
    if (size == config->end() || !size->is_array() || size->size() != 2 || !side((*size)[0]) || !side((*size)[1])) {
      obstacle_ = concat("not built: fp8 with weight_block_size ", text_of(*config, "weight_block_size"), " (", file,
                         "); two positive integers are, e.g. [128, 128]");
      return;
    }
    block_rows_ = (*size)[0].get<int64_t>();
    block_columns_ = (*size)[1].get<int64_t>();
  } else {
    method_ = Method::kUnknown;
    obstacle_ = concat("not built: quantization_config.quant_method ", shown(method_name_), " (", file,
                       "); weir reads ascend, compressed-tensors (int8) and fp8 (blocks)");
  }
}

LinearFormat Quantization::format(std::string_view name, DType dtype, bool has_input_scale) const {
  const auto bad = [&](const auto&... parts) {
    fail(ErrorCode::kInvalidArgument, "tensor ", shown(name), " is ", weir::name(dtype), ", but ", parts...);
  };
  if (method_ == Method::kAscend) {
    const auto it = types_.find(name);
    if (it == types_.end()) {
      if (!is_float(dtype)) bad(source_, " calls it FLOAT or does not name it");
      return LinearFormat::kFloat;
    }
    const std::string& type = it->second;
    // W8A8_MIX has both sets of scales and asks for the static one in decoding only. weir has no such modes, and a token's bits must not
    // depend on what else is in the step: it always computes the dynamic, more exact one.
    const bool is_dynamic = type == "W8A8_DYNAMIC" || type == "W8A8_MIX";
    if (!is_dynamic && type != "W8A8")
      fail(ErrorCode::kInvalidArgument, "not built: tensor ", shown(name), " has type ", shown(type), " in ", source_,
           "; weir computes FLOAT, W8A8, W8A8_DYNAMIC and W8A8_MIX");
    if (dtype != DType::kI8) bad(source_, " calls it ", type, ", which is I8");
    return is_dynamic ? LinearFormat::kInt8Dynamic : LinearFormat::kInt8Static;
  }
  if (is_float(dtype)) return LinearFormat::kFloat;
  if (!obstacle_.empty()) fail(ErrorCode::kInvalidArgument, obstacle_);
  if (method_ == Method::kNone)
    bad("nothing says how it is quantised: there is no ", kDescription, " and config.json has no quantization_config");
  if (method_ == Method::kCompressedTensors) {
    if (dtype != DType::kI8) bad("compressed-tensors stores int8 weights as I8 (", source_, ")");
    const std::string_view module = name.ends_with(kWeight) ? name.substr(0, name.size() - kWeight.size()) : name;
    if (ignored_.contains(module)) bad(source_, " lists it under \"ignore\", as not quantised");
    return has_input_scale ? LinearFormat::kInt8Static : LinearFormat::kInt8Dynamic;
  }
  if (dtype != DType::kF8E4M3) bad("fp8 stores weights as F8_E4M3 (", source_, ")");
  return LinearFormat::kFp8Block;
}

void Quantization::expect(std::string_view wanted) const {
  if (wanted.empty()) return;
  if (wanted == method_name_ || (wanted == "None" && method_ == Method::kNone)) return;
  const std::string found = method_ == Method::kNone
                                ? concat("not quantised: there is no ", kDescription, ", and config.json has no quantization_config")
                                : concat(shown(method_name_), ", as ", source_, " says");
  fail(ErrorCode::kInvalidArgument, "--quantization ", wanted, ", but the checkpoint is ", found,
       "; without the flag the format is detected");
}

}  // namespace weir
