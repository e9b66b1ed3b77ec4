// An Inspection as JSON for programs and as text for people.
#include <iomanip>
#include <sstream>

#include "weir/apps/inspection.h"
#include "weir/base/error.h"

namespace weir {
namespace {

std::string human_bytes(int64_t bytes) {
  static constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  std::ostringstream out;
  out << std::fixed << std::setprecision(unit == 0 ? 0 : 2) << value << ' ' << kUnits[unit];
  return out.str();
}

std::string human_count(int64_t count) {
  static constexpr std::array<const char*, 4> kUnits = {"", " K", " M", " B"};
  double value = static_cast<double>(count);
  size_t unit = 0;
  for (; value >= 1000 && unit + 1 < kUnits.size(); ++unit) value /= 1000;
  std::ostringstream out;
  out << std::fixed << std::setprecision(unit == 0 ? 0 : 3) << value << kUnits[unit];
  return out.str();
}

char letter(LayerKind kind) { return kind == LayerKind::kAttention ? 'A' : 'D'; }

// "(3D A) x 15": the shortest repeated pattern, runs counted.
std::string layer_list(const std::vector<LayerKind>& layers) {
  const size_t n = layers.size();
  size_t period = 1;
  for (; period < n; ++period) {
    bool repeats = n % period == 0;
    for (size_t i = period; repeats && i < n; ++i) repeats = layers[i] == layers[i - period];
    if (repeats) break;
  }
  std::string pattern;
  for (size_t begin = 0; begin < period;) {
    size_t end = begin;
    while (end < period && layers[end] == layers[begin]) ++end;
    pattern += concat(pattern.empty() ? "" : " ", end - begin > 1 ? std::to_string(end - begin) : "", letter(layers[begin]));
    begin = end;
  }
  return period == n ? pattern : concat("(", pattern, ") x ", n / period);
}

Json tally_json(const TensorTally& tally) {
  return Json{{"tensors", tally.tensors}, {"parameters", tally.elements}, {"bytes", tally.bytes}};
}

Json memory_json(const Inspection::Memory& memory) {
  return Json{{"weights_bytes", memory.weights},
              {"int8_saving_bytes", memory.int8_saving},
              {"coding_saving_bytes", memory.coding_saving},
              {"kv_bytes_per_token", memory.kv_per_token},
              {"state_bytes_per_sequence", memory.state_per_sequence},
              {"conv_bytes_per_sequence", memory.conv_per_sequence},
              {"activation_bytes", memory.activations},
              {"one_full_context_bytes", memory.one_full_context}};
}

class Lines {
 public:
  void heading(const std::string& text) { out_ << (out_.tellp() > 0 ? "\n" : "") << text << '\n'; }
  void row(const std::string& what, const std::string& value) { out_ << "  " << std::left << std::setw(22) << what << value << '\n'; }
  void columns(const std::string& what, const std::string& a, const std::string& b, const std::string& c) {
    out_ << "  " << std::left << std::setw(22) << what << std::right << std::setw(14) << a << std::setw(16) << b << std::setw(14) << c
         << '\n';
  }
  void tally(const std::string& what, const TensorTally& tally) {
    if (tally.tensors > 0) columns(what, std::to_string(tally.tensors), human_count(tally.elements), human_bytes(tally.bytes));
  }
  std::string str() const { return out_.str(); }

 private:
  std::ostringstream out_;
};

void describe_model(const Inspection& model, Lines& out) {
  const ModelConfig& c = model.config;
  out.heading(model.path);
  out.row("type", concat(c.model_type, ", hidden ", c.hidden, ", vocabulary ", c.vocab_size,
                         c.tied_embeddings ? ", tied head" : ", head of its own"));
  out.row("context", concat(c.max_position, " tokens"));
  out.row("layers", concat(c.layers.size(), " = ", c.count(LayerKind::kDeltaNet), " delta net (D) + ", c.count(LayerKind::kAttention),
                           " attention (A): ", layer_list(c.layers)));
  out.row("delta net",
          concat(c.k_heads, " key heads of ", c.k_dim, ", ", c.v_heads, " value heads of ", c.v_dim, ", convolution over ", c.conv_kernel));
  out.row("attention",
          concat(c.heads, " query heads, ", c.kv_heads, " key/value heads of ", c.head_dim, ", rotary on ", 2 * c.rotary_pairs));
  if (c.moe()) {
    out.row("experts", concat(c.num_experts, ", ", c.top_k, " per token, width ", c.expert_intermediate, "; shared expert of width ",
                              c.shared_intermediate));
    out.row("expert tensors", concat(model.trunk_experts, model.mtp_experts.empty() ? "" : "; MTP: " + model.mtp_experts));
  } else {
    out.row("feed-forward", concat("dense, width ", c.dense_intermediate));
  }
  out.row("MTP head", model.mtp.tensors == 0 ? "none" : concat(c.mtp_layers, c.mtp_layers == 1 ? " layer" : " layers"));
  out.row("vision", model.vision.tensors == 0 ? "none" : "tower present");
}

// "  (layers 3, 7, 11-13)"
std::string layers_of(const std::set<int64_t>& layers, size_t all) {
  if (layers.empty()) return "";
  if (layers.size() == all) return "  (all layers)";
  std::string text;
  for (auto it = layers.begin(); it != layers.end();) {
    const int64_t first = *it;
    int64_t last = first;
    for (++it; it != layers.end() && *it == last + 1; ++it) ++last;
    text += concat(text.empty() ? "" : ", ", first, last > first ? concat("-", last) : "");
  }
  return concat(layers.size() == 1 ? "  (layer " : "  (layers ", text, ")");
}

void describe_quantization(const Inspection& model, Lines& out) {
  out.heading("Quantisation");
  out.row("described by", model.quant_method.empty() ? model.quantization : model.quantization + ": " + model.quant_method);
  for (const auto& [type, modules] : model.quantized)
    for (const auto& [module, found] : modules)
      out.row(type,
              concat(module, found.count > 1 ? concat("  x ", found.count) : "", layers_of(found.layers, model.config.layers.size())));
}

}  // namespace

Json to_json(const Inspection& model) {
  const ModelConfig& c = model.config;
  Json layers = Json::array();
  for (const LayerKind kind : c.layers) layers.push_back(kind == LayerKind::kAttention ? "full_attention" : "linear_attention");
  Json out = {{"path", model.path},
              {"model_type", c.model_type},
              {"hidden_size", c.hidden},
              {"vocab_size", c.vocab_size},
              {"max_position_embeddings", c.max_position},
              {"tie_word_embeddings", c.tied_embeddings},
              {"layers",
               {{"count", c.layers.size()},
                {"linear_attention", c.count(LayerKind::kDeltaNet)},
                {"full_attention", c.count(LayerKind::kAttention)},
                {"types", layers}}},
              {"attention",
               {{"query_heads", c.heads}, {"key_value_heads", c.kv_heads}, {"head_dim", c.head_dim}, {"rotary_dim", 2 * c.rotary_pairs}}},
              {"delta_net",
               {{"key_heads", c.k_heads},
                {"value_heads", c.v_heads},
                {"key_dim", c.k_dim},
                {"value_dim", c.v_dim},
                {"conv_kernel", c.conv_kernel}}},
              {"num_experts", c.num_experts},
              {"experts_per_token", c.top_k},
              {"expert_layout", {{"trunk", model.trunk_experts}, {"mtp", model.mtp_experts}}},
              {"mtp_layers", c.mtp_layers}};
  out["parameters"] = {{"text", tally_json(model.text)},
                       {"mtp", tally_json(model.mtp)},
                       {"vision", tally_json(model.vision)},
                       {"quantization_scales", tally_json(model.scales)},
                       {"other", tally_json(model.other)}};
  out["dtypes"] = Json::object();
  for (const auto& [type, tally] : model.dtypes) out["dtypes"][type] = tally_json(tally);
  out["files"] = model.num_files;
  out["bytes"] = model.bytes_on_disk;
  out["quantization"] = {{"described_by", model.quantization}, {"method", model.quant_method}, {"quantized", Json::object()}};
  for (const auto& [type, modules] : model.quantized)
    for (const auto& [module, found] : modules)
      out["quantization"]["quantized"][type][module] = {{"count", found.count}, {"layers", found.layers}};
  out["memory"] = {{"bfloat16", memory_json(model.bf16)}, {"float32", memory_json(model.f32)}};
  out["servable"] = model.obstacle.empty();
  if (!model.obstacle.empty()) out["obstacle"] = model.obstacle;
  return out;
}

std::string to_text(const Inspection& model) {
  Lines out;
  describe_model(model, out);

  out.heading("Stored");
  out.columns("", "tensors", "parameters", "bytes");
  out.tally("text", model.text);
  out.tally("MTP head", model.mtp);
  out.tally("vision", model.vision);
  out.tally("quantisation scales", model.scales);
  out.tally("other", model.other);
  TensorTally total;
  for (const auto& [type, tally] : model.dtypes)
    total.tensors += tally.tensors, total.elements += tally.elements, total.bytes += tally.bytes;
  out.tally(concat("total in ", model.num_files, model.num_files == 1 ? " file" : " files"), total);

  out.heading("Types");
  for (const auto& [type, tally] : model.dtypes) out.tally(type, tally);

  describe_quantization(model, out);

  out.heading("Memory to serve");
  out.columns("", "--dtype auto", "float32", "");
  const auto row = [&](const char* what, int64_t Inspection::Memory::* field) {
    out.columns(what, human_bytes(model.bf16.*field), human_bytes(model.f32.*field), "");
  };
  row("weights, packed", &Inspection::Memory::weights);
  if (model.bf16.int8_saving > 0) row("  saved by int8", &Inspection::Memory::int8_saving);
  row("  saved in 12 bits", &Inspection::Memory::coding_saving);
  row("activations", &Inspection::Memory::activations);
  row("KV per token", &Inspection::Memory::kv_per_token);
  row("state per sequence", &Inspection::Memory::state_per_sequence);
  row("  convolution of it", &Inspection::Memory::conv_per_sequence);
  row("one full context", &Inspection::Memory::one_full_context);
  out.row("servable", model.obstacle.empty() ? "yes" : "no: " + model.obstacle);
  return out.str();
}

}  // namespace weir
