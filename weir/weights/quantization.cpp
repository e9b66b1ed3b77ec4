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

std::string text_of(const Json& object, const char* field) {
  const auto it = object.find(field);
  return it == object.end() ? "absent" : dump_json(*it);
}

// Modules that are of the class Linear in the reference, so that "Linear" means them. Not: routers, which are parameters, convolutions,
// experts in one tensor, embeddings.
bool is_linear(std::string_view module) {
  if (module == "lm_head" || module == "mtp.fc") return true;
  const std::string_view last = module.substr(module.rfind('.') + 1);
  return last.find("_proj") != std::string_view::npos || last == "shared_expert_gate";
}

// Those that cannot be anything but a matrix of a layer: a config that targets them means them.
bool is_projection(std::string_view module) {
  return module.starts_with("model.language_model.layers.") && module.substr(module.rfind('.') + 1).find("_proj") != std::string_view::npos;
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
    compressed_ = CompressedTensors(*config);
    if (const std::string& why = compressed_.obstacle(); !why.empty())
      obstacle_ = concat("not built: compressed-tensors with ", why, " (", file, "); int8 rows with int8 inputs are");
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

LinearFormat Quantization::format(const StoredAs& tensor) const {
  const auto& [name, file_name, dtype, has_input_scale] = tensor;
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
  if (method_ == Method::kCompressedTensors && obstacle_.empty()) return compressed_format(tensor);
  if (is_float(dtype)) return LinearFormat::kFloat;
  if (!obstacle_.empty()) fail(ErrorCode::kInvalidArgument, obstacle_);
  if (method_ == Method::kNone)
    bad("nothing says how it is quantised: there is no ", kDescription, " and config.json has no quantization_config");
  if (dtype != DType::kF8E4M3) bad("fp8 stores weights as F8_E4M3 (", source_, ")");
  return LinearFormat::kFp8Block;
}

LinearFormat Quantization::compressed_format(const StoredAs& tensor) const {
  const auto& [name, file_name, dtype, has_input_scale] = tensor;
  const auto bad = [&](const auto&... parts) {
    fail(ErrorCode::kInvalidArgument, "tensor ", shown(name), " is ", weir::name(dtype), ", but ", parts..., " (", source_, ")");
  };
  if (!name.ends_with(kWeight) && is_float(dtype)) return LinearFormat::kFloat;
  const auto module_of = [](std::string_view n) { return n.ends_with(kWeight) ? n.substr(0, n.size() - kWeight.size()) : n; };
  const std::string_view module = module_of(name);
  const CompressedTensors::Decision said = compressed_.decide(module, module_of(file_name), is_linear(module));
  if (is_float(dtype)) {
    // A class or pattern may mean more than the exporter saw (the draft head); the projections of layers and what is named it did see.
    if (said.quantized && (is_projection(module) || (said.by_name && is_linear(module)))) bad(said.why, ", so that it should be I8");
    return LinearFormat::kFloat;
  }
  if (dtype != DType::kI8) bad("compressed-tensors stores int8 weights as I8");
  if (!said.quantized) bad(said.why);
  if (said.dynamic && has_input_scale) bad("has an input_scale: ", said.why, ", with a scale per token");
  return said.dynamic ? LinearFormat::kInt8Dynamic : LinearFormat::kInt8Static;
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
