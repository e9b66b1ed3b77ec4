#include "weir/apps/inspection.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <set>

#include "weir/base/error.h"
#include "weir/base/thread_pool.h"
#include "weir/models/qwen3_5.h"
#include "weir/nn/stored_linear.h"
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

void read_quantization(const Checkpoint& checkpoint, Inspection& out) {
  const Quantization& quantization = checkpoint.quantization();
  using Method = Quantization::Method;
  out.quant_method = quantization.method() == Method::kNone ? "" : quantization.method_name();
  out.quantization = quantization.method() == Method::kNone     ? "none"
                     : quantization.method() == Method::kAscend ? "quant_model_description.json"
                                                                : "quantization_config";
  constexpr std::string_view kWeight = ".weight";
  const auto add = [&](const std::string& type, std::string_view name) {
    if (name.ends_with(kWeight)) name.remove_suffix(kWeight.size());
    Inspection::Quantized& found = out.quantized[type][with_stars(name)];
    ++found.count;
    constexpr std::string_view kLayers = "model.language_model.layers.";
    int64_t layer = 0;
    if (name.starts_with(kLayers) && std::from_chars(name.data() + kLayers.size(), name.data() + name.size(), layer).ec == std::errc())
      found.layers.insert(layer);
  };
  if (quantization.method() == Method::kAscend) {
    for (const auto& [name, type] : quantization.types())
      if (name.ends_with(kWeight)) add(type, name);
    return;
  }
  // Without a list, the narrow types in the files tell which matrices are quantised.
  for (const Checkpoint::Entry& entry : checkpoint.entries())
    if (entry.tensor.rank() >= 2 && element_size(entry.tensor.dtype()) == 1 && !is_scale(entry.name))
      add(name(entry.tensor.dtype()), entry.name);
}

// Why weir cannot serve what is stored like this; empty: it can.
std::string obstacle_of(const Checkpoint& checkpoint) {
  if (!checkpoint.quantization().obstacle().empty()) return checkpoint.quantization().obstacle();
  try {
    for (const Checkpoint::Entry& entry : checkpoint.entries())
      if (!is_scale(entry.name) && (entry.name.starts_with("model.language_model.") || entry.name.starts_with("lm_head.")))
        (void)checkpoint.format(entry.name);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

Inspection::Memory memory(const Inspection& model, const Checkpoint& checkpoint, DType type) {
  const ModelConfig& config = model.config;
  Inspection::Memory out;
  const auto int8_saving = [&](ops::WeightCoding coding) {
    return model.obstacle.empty() ? eight_bit_bytes(checkpoint, type, /*with_mtp=*/false, coding).saved(Fp8As::kFloat) : 0;
  };
  const auto weights = [&](ops::WeightCoding coding) {
    return packed_weight_bytes(config, type, /*with_mtp=*/false, coding) - int8_saving(coding);
  };
  const ops::WeightCoding coding = type == DType::kBF16 ? ops::WeightCoding::kTwelveBits : ops::WeightCoding::kPlain;  // as served
  out.int8_saving = int8_saving(coding);
  out.weights = weights(coding);
  out.coding_saving = weights(ops::WeightCoding::kPlain) - out.weights;
  out.kv_per_token = kv_bytes_per_token(config, type);
  out.state_per_sequence = state_bytes_per_slot(config, DType::kF32);
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
  }
  out.num_files = static_cast<int64_t>(files.size());
  out.bytes_on_disk = checkpoint.total_bytes();
  read_quantization(checkpoint, out);
  out.obstacle = obstacle_of(checkpoint);
  out.bf16 = memory(out, checkpoint, DType::kBF16);
  out.f32 = memory(out, checkpoint, DType::kF32);
  return out;
}

}  // namespace weir
