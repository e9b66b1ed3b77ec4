#include "weir/apps/inspection.h"

#include <simdjson.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>

#include "weir/base/thread_pool.h"
#include "weir/models/qwen3_5.h"
#include "weir/weights/checkpoint.h"

namespace weir {
namespace {

constexpr int64_t kStepTokens = 2048, kStepSequences = 256;  // the defaults of `weir serve`

bool is_scale(std::string_view name) {
  static constexpr std::array<std::string_view, 14> kEndings = {
      ".weight_scale", ".weight_offset", ".weight_scale_inv", ".input_scale", ".input_offset",      ".quant_bias",  ".deq_scale", ".scales",
      ".qzeros",       ".g_idx",         ".k_scale",          ".v_scale",     ".weight_zero_point", ".weight_shape"};
  return std::any_of(kEndings.begin(), kEndings.end(), [name](std::string_view ending) { return name.ends_with(ending); });
}

// "layers.3.mlp.experts.17.gate_proj" -> "layers.*.mlp.experts.*.gate_proj"
std::string with_stars(std::string_view name) {
  std::string out;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    const bool number = !part.empty() && std::all_of(part.begin(), part.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
    out += (begin == 0 ? "" : ".") + (number ? std::string("*") : std::string(part));
    begin = end + 1;
  }
  return out;
}

std::string expert_layout(std::string_view name) {
  const size_t at = name.find(".mlp.experts.");
  if (at == std::string_view::npos) return "";
  const std::string_view rest = name.substr(at + std::string_view(".mlp.experts.").size());
  if (rest.empty() || std::isdigit(static_cast<unsigned char>(rest.front())) == 0) return "fused";
  return rest.find("gate_up_proj") != std::string_view::npos ? "per expert, gate and up joined" : "per expert";
}

// A line per tensor, hundreds of thousands for the large models: read with simdjson, see base/json.h.
void read_description(const std::string& file, Inspection& out) {
  out.quantization = "quant_model_description.json";
  simdjson::dom::parser parser;
  simdjson::dom::object description;
  if (const auto error = parser.parse(simdjson::padded_string(read_file(file))).get(description); error)
    fail(ErrorCode::kInvalidArgument, file, ": not a JSON object: ", simdjson::error_message(error));
  for (const auto& [name, value] : description) {
    std::string_view type;
    if (value.get(type)) continue;
    // Keys of tensors have a dot; the file's own fields have none.
    if (name == "model_quant_type")
      out.quant_method = type;
    else if (type != "FLOAT" && name.find('.') != std::string_view::npos && name.ends_with(".weight"))
      ++out.quantized[std::string(type)][with_stars(name.substr(0, name.size() - std::string_view(".weight").size()))];
  }
}

void read_quantization(const std::string& dir, const Checkpoint& checkpoint, Inspection& out) {
  out.quantization = "none";
  if (const std::string file = dir + "/quant_model_description.json"; std::filesystem::exists(file)) return read_description(file, out);
  const Json config = read_json_file(dir + "/config.json");
  for (const char* name : {"quantization_config", "compression_config"})
    if (const auto found = config.find(name); found != config.end() && found->is_object()) {
      out.quantization = name;
      if (const auto method = found->find("quant_method"); method != found->end() && method->is_string())
        out.quant_method = method->get<std::string>();
    }
  // Without a list, the narrow types in the files tell which matrices are quantised.
  for (const Checkpoint::Entry& entry : checkpoint.entries())
    if (entry.tensor.rank() >= 2 && element_size(entry.tensor.dtype()) == 1 && !is_scale(entry.name))
      ++out.quantized[name(entry.tensor.dtype())][with_stars(entry.name)];
}

Inspection::Memory memory(const ModelConfig& config, DType type) {
  Inspection::Memory out;
  out.weights = packed_weight_bytes(config, type);
  out.kv_per_token = kv_bytes_per_token(config, element_size(type));
  out.state_per_sequence = state_bytes_per_slot(config);
  const int64_t channels = 2 * config.k_heads * config.k_dim + config.v_heads * config.v_dim;
  out.conv_per_sequence = config.count(LayerKind::kDeltaNet) * (config.conv_kernel - 1) * channels * int64_t{sizeof(float)};
  out.activations = activation_bytes(config, kStepTokens, kStepSequences, num_physical_cores());
  out.one_full_context = out.weights + out.activations + config.max_position * out.kv_per_token + out.state_per_sequence;
  return out;
}

}  // namespace

Inspection inspect_model(const std::string& dir) {
  Inspection out;
  out.path = dir;
  out.config = read_model_config(dir);
  const Checkpoint checkpoint = Checkpoint::open(dir);

  std::set<std::string> files;
  for (const Checkpoint::Entry& entry : checkpoint.entries()) {
    const bool in_mtp = entry.name.starts_with("mtp.");
    const bool in_text = entry.name.starts_with("model.language_model.") || entry.name.starts_with("lm_head.");
    TensorTally& part = is_scale(entry.name)                      ? out.scales
                        : in_mtp                                  ? out.mtp
                        : in_text                                 ? out.text
                        : entry.name.starts_with("model.visual.") ? out.vision
                                                                  : out.other;
    part.add(entry.tensor.numel(), entry.tensor.nbytes());
    out.dtypes[name(entry.tensor.dtype())].add(entry.tensor.numel(), entry.tensor.nbytes());
    files.insert(entry.path);
    if (const std::string layout = expert_layout(entry.name); !layout.empty() && !is_scale(entry.name))
      (in_mtp ? out.mtp_experts : out.trunk_experts) = layout;
    const DType type = entry.tensor.dtype();
    if (in_text && out.obstacle.empty() && type != DType::kBF16 && type != DType::kF16 && type != DType::kF32)
      out.obstacle = concat("quantised weights are not built yet (issue 6): ", entry.name, " is ", name(type));
  }
  out.num_files = static_cast<int64_t>(files.size());
  out.bytes_on_disk = checkpoint.total_bytes();
  read_quantization(dir, checkpoint, out);
  out.bf16 = memory(out.config, DType::kBF16);
  out.f32 = memory(out.config, DType::kF32);
  return out;
}

}  // namespace weir
