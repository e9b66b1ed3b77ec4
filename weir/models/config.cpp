#include "weir/models/config.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <numeric>

#include "weir/base/error.h"
#include "weir/base/json.h"
#include "weir/ops/attention.h"
#include "weir/ops/delta_net.h"

namespace weir {
namespace {

constexpr int64_t kMaxDim = int64_t{1} << 24;

// Fields are looked up in the text object first, then in the outer one: text-only exports keep them at top level.
class Reader {
 public:
  Reader(std::string file, const Json& root) : file_(std::move(file)) {
    if (!root.is_object()) fail(ErrorCode::kInvalidArgument, file_, ": must be a JSON object");
    if (const auto text = root.find("text_config"); text != root.end() && text->is_object()) places_.push_back(&*text);
    places_.push_back(&root);
    // Rotary fields may sit in their own object, under an older name, or beside the others.
    for (const char* name : {"rope_parameters", "rope_scaling"})
      if (const Json* object = find(name); object != nullptr && object->is_object()) rope_places_.push_back(object);
    rope_places_.insert(rope_places_.end(), places_.begin(), places_.end());
  }

  const Json* find(const char* name) const { return find_in(places_, name); }
  const Json* find_rope(const char* name) const { return find_in(rope_places_, name); }

  int64_t size(const char* name) const {
    const Json* value = find(name);
    if (value == nullptr) fail(ErrorCode::kInvalidArgument, file_, ": field \"", name, "\" is missing");
    return to_size(name, *value);
  }
  int64_t size_or(const char* name, int64_t fallback, int64_t min = 1) const {
    const Json* value = find(name);
    return value == nullptr || value->is_null() ? fallback : to_size(name, *value, min);
  }
  double number(const char* name, const Json* value, double fallback, double low, double high) const {
    if (value == nullptr || value->is_null()) return fallback;
    const double seen = value->is_number() ? value->get<double>() : NAN;
    if (!(seen >= low && seen <= high))
      fail(ErrorCode::kInvalidArgument, file_, ": \"", name, "\" must be a number in [", low, ", ", high, "], got ", dump_json(*value));
    return seen;
  }
  bool flag(const char* name, bool fallback) const {
    const Json* value = find(name);
    if (value == nullptr || value->is_null()) return fallback;
    if (!value->is_boolean()) fail(ErrorCode::kInvalidArgument, file_, ": \"", name, "\" must be true or false, got ", dump_json(*value));
    return value->get<bool>();
  }
  int64_t to_size(const char* name, const Json& value, int64_t min = 1) const {
    const double seen = value.is_number_integer() ? value.get<double>() : NAN;
    if (!(seen >= static_cast<double>(min) && seen <= static_cast<double>(kMaxDim)))
      fail(ErrorCode::kInvalidArgument, file_, ": \"", name, "\" must be an integer in [", min, ", ", kMaxDim, "], got ", dump_json(value));
    return value.get<int64_t>();
  }
  const std::string& file() const { return file_; }

 private:
  static const Json* find_in(const std::vector<const Json*>& places, const char* name) {
    for (const Json* place : places)
      if (const auto it = place->find(name); it != place->end()) return &*it;
    return nullptr;
  }

  std::string file_;
  std::vector<const Json*> places_, rope_places_;
};

std::vector<LayerKind> read_layers(const Reader& r) {
  const int64_t count = r.size("num_hidden_layers");
  if (count > 1024) fail(ErrorCode::kInvalidArgument, r.file(), ": \"num_hidden_layers\" must be at most 1024, got ", count);
  std::vector<LayerKind> layers(static_cast<size_t>(count));
  const Json* types = r.find("layer_types");
  if (types == nullptr || types->is_null()) {
    const int64_t interval = r.size_or("full_attention_interval", 4);
    for (int64_t i = 0; i < count; ++i)
      layers[static_cast<size_t>(i)] = (i + 1) % interval == 0 ? LayerKind::kAttention : LayerKind::kDeltaNet;
    return layers;
  }
  if (!types->is_array() || static_cast<int64_t>(types->size()) != count)
    fail(ErrorCode::kInvalidArgument, r.file(), ": \"layer_types\" must list num_hidden_layers = ", count, " entries");
  for (size_t i = 0; i < layers.size(); ++i) {
    const Json& type = (*types)[i];
    if (type == "full_attention")
      layers[i] = LayerKind::kAttention;
    else if (type == "linear_attention")
      layers[i] = LayerKind::kDeltaNet;
    else
      fail(ErrorCode::kInvalidArgument, r.file(), ": layer_types[", i, "] must be \"full_attention\" or \"linear_attention\", got ",
           dump_json(type));
  }
  return layers;
}

void read_rope(const Reader& r, ModelConfig& c) {
  c.rope_theta = r.number("rope_theta", r.find_rope("rope_theta"), 1e7, 1, 1e12);
  const double factor = r.number("partial_rotary_factor", r.find_rope("partial_rotary_factor"), 0.25, 0, 1);
  c.rotary_pairs = static_cast<int64_t>(static_cast<double>(c.head_dim) * factor) / 2;
  if (c.rotary_pairs < 1)
    fail(ErrorCode::kInvalidArgument, r.file(), ": partial_rotary_factor ", factor, " rotates nothing of head_dim ", c.head_dim);
  if (const Json* type = r.find_rope("rope_type"); type != nullptr && !type->is_null() && *type != "default")
    fail(ErrorCode::kInvalidArgument, r.file(), ": not built: rope_type ", dump_json(*type), "; \"default\" is");
  const Json* section = r.find_rope("mrope_section");
  if (section == nullptr || section->is_null()) {
    c.mrope_section = {c.rotary_pairs, 0, 0};  // text only: all three axes are equal anyway
    return;
  }
  if (!section->is_array() || section->size() != 3)
    fail(ErrorCode::kInvalidArgument, r.file(), ": \"mrope_section\" must list 3 sizes, got ", dump_json(*section));
  for (const Json& part : *section) c.mrope_section.push_back(r.to_size("mrope_section", part, 0));
  if (std::accumulate(c.mrope_section.begin(), c.mrope_section.end(), int64_t{0}) != c.rotary_pairs)
    fail(ErrorCode::kInvalidArgument, r.file(), ": \"mrope_section\" ", dump_json(*section), " must sum to half the rotated elements, ",
         c.rotary_pairs);
}

}  // namespace

int64_t ModelConfig::count(LayerKind kind) const { return std::count(layers.begin(), layers.end(), kind); }

ModelConfig read_model_config(const std::string& dir) {
  const std::string file = dir + "/config.json";
  const Json root = read_json_file(file);
  const Reader r(file, root);
  ModelConfig c;

  const auto type_field = root.find("model_type");
  const std::string type = type_field != root.end() && type_field->is_string() ? type_field->get<std::string>() : "";
  if (type == "qwen3_5_moe" || type == "qwen3_5_moe_text")
    c.model_type = "qwen3_5_moe";
  else if (type == "qwen3_5" || type == "qwen3_5_text")
    c.model_type = "qwen3_5";
  else
    fail(ErrorCode::kInvalidArgument, file, ": \"model_type\" must be qwen3_5_moe or qwen3_5 (or their _text forms), got \"", type, "\"");

  c.vocab_size = r.size("vocab_size");
  c.hidden = r.size("hidden_size");
  c.layers = read_layers(r);
  c.rms_eps = static_cast<float>(r.number("rms_norm_eps", r.find("rms_norm_eps"), 1e-6, 0, 1));
  c.max_position = r.size_or("max_position_embeddings", 262144);
  c.tied_embeddings = r.flag("tie_word_embeddings", false);
  if (!r.flag("attn_output_gate", true)) fail(ErrorCode::kInvalidArgument, file, ": not built: attn_output_gate false");
  if (r.flag("attention_bias", false)) fail(ErrorCode::kInvalidArgument, file, ": not built: attention_bias true");
  if (const Json* act = r.find("hidden_act"); act != nullptr && *act != "silu")
    fail(ErrorCode::kInvalidArgument, file, ": not built: hidden_act ", dump_json(*act));

  c.heads = r.size("num_attention_heads");
  c.kv_heads = r.size_or("num_key_value_heads", c.heads);
  c.head_dim = r.size_or("head_dim", c.hidden / c.heads);
  if (c.heads % c.kv_heads != 0)
    fail(ErrorCode::kInvalidArgument, file, ": num_attention_heads ", c.heads, " must be a multiple of num_key_value_heads ", c.kv_heads);
  read_rope(r, c);

  c.k_heads = r.size("linear_num_key_heads");
  c.v_heads = r.size("linear_num_value_heads");
  c.k_dim = r.size("linear_key_head_dim");
  c.v_dim = r.size("linear_value_head_dim");
  c.conv_kernel = r.size_or("linear_conv_kernel_dim", 4, 2);
  if (c.v_heads % c.k_heads != 0)
    fail(ErrorCode::kInvalidArgument, file, ": linear_num_value_heads ", c.v_heads, " must be a multiple of linear_num_key_heads ",
         c.k_heads);

  if (c.model_type == "qwen3_5_moe") {
    c.num_experts = r.size("num_experts");
    c.top_k = r.size("num_experts_per_tok");
    c.expert_intermediate = r.size("moe_intermediate_size");
    c.shared_intermediate = r.size("shared_expert_intermediate_size");
    if (c.top_k > c.num_experts)
      fail(ErrorCode::kInvalidArgument, file, ": num_experts_per_tok ", c.top_k, " exceeds num_experts ", c.num_experts);
    if (const Json* only = r.find("mlp_only_layers"); only != nullptr && only->is_array() && !only->empty())
      fail(ErrorCode::kInvalidArgument, file, ": not built: mlp_only_layers ", dump_json(*only));
  } else {
    c.dense_intermediate = r.size("intermediate_size");
  }
  c.mtp_layers = r.size_or("mtp_num_hidden_layers", 0, 0);
  c.has_vision = root.contains("vision_config") && root["vision_config"].is_object();

  if (const Json* eos = r.find("eos_token_id"); eos != nullptr) {
    for (const Json& id : eos->is_array() ? *eos : Json::array({*eos}))
      if (id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() < c.vocab_size)
        c.eos_token_ids.push_back(id.get<int32_t>());
  }
  // Single sizes are bounded above; products that become allocations are bounded here.
  for (const auto& [what, product] : std::initializer_list<std::pair<const char*, double>>{
           {"num_attention_heads * head_dim", static_cast<double>(c.heads) * static_cast<double>(c.head_dim)},
           {"linear_num_value_heads * linear_value_head_dim", static_cast<double>(c.v_heads) * static_cast<double>(c.v_dim)},
           {"linear_num_key_heads * linear_key_head_dim", static_cast<double>(c.k_heads) * static_cast<double>(c.k_dim)},
           {"vocab_size * hidden_size", static_cast<double>(c.vocab_size) * static_cast<double>(c.hidden) / 4096}})
    if (product > static_cast<double>(kMaxDim)) fail(ErrorCode::kInvalidArgument, file, ": ", what, " is too large");
  return c;
}

int64_t kv_bytes_per_token(const ModelConfig& c, DType kv, bool with_mtp) {
  return (c.count(LayerKind::kAttention) + (with_mtp ? 1 : 0)) * 2 * c.kv_heads * ops::kv_head_bytes(c.head_dim, kv);
}

int64_t state_bytes_per_slot(const ModelConfig& c, DType state) {
  const ops::DeltaShape shape{c.k_heads, c.v_heads, c.k_dim, c.v_dim};
  return c.count(LayerKind::kDeltaNet) * 4 * (shape.slot_floats(state) + ops::conv_ring(c.conv_kernel) * shape.channels());
}

}  // namespace weir
