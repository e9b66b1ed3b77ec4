#include "weir/models/qwen3_5.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "weir/core/config.h"

namespace weir {
namespace {

const std::string kText = "model.language_model.";

// Ranks other than the first contribute only their share of the product, so that the sum over ranks adds the residual once.
void row_parallel_add(Step& s, const Tensor& x, const ops::PackedMatrix& w, Tensor& residual) {
  ops::linear_add(s.ctx, x, w, residual);
  s.tp.all_reduce(residual);
}

// The routing of a dense network: every token to expert 0 with weight 1.
ops::Routing all_to_one(ops::Context& ctx, int64_t tokens) {
  const ops::Routing routing{ctx.arena.empty(Shape{tokens, 1}, DType::kI32), ctx.arena.empty(Shape{tokens, 1})};
  std::fill_n(routing.ids.data<int32_t>(), tokens, 0);
  std::fill_n(routing.weights.data<float>(), tokens, 1.0f);
  return routing;
}

}  // namespace

// ---- the maths

void GatedAttention::add_to(Step& s, const ops::RoundedRows& x, Tensor& residual) const {
  row_parallel_add(s, mix(s, x), o_proj, residual);
}

Tensor GatedAttention::mix(Step& s, const ops::RoundedRows& x) const {  // x [T, H]
  const int64_t q_width = 2 * heads * head_dim, kv_width = kv_heads * head_dim;
  const Tensor qgkv = ops::linear(s.ctx, x, in_proj);
  const Tensor qg = qgkv.columns(0, q_width);  // per head: D of query, then D of gate
  const Tensor q = ops::norm_rope(s.ctx, qg, heads, head_dim, 2 * head_dim, q_norm, eps, s.rope);
  remember(s, !kv_proj.empty() ? ops::linear(s.ctx, x, kv_proj) : qgkv.columns(q_width, q_width + 2 * kv_width));
  Tensor o = ops::paged_attention(s.ctx, q, s.cache.kv[layer], s.rows, 1.0f / std::sqrt(static_cast<float>(head_dim)));
  ops::gate_heads(s.ctx, o, qg.columns(head_dim, q_width), heads, head_dim, 2 * head_dim);
  return o;
}

void GatedAttention::remember(Step& s, const Tensor& kv) const {
  const int64_t kv_width = kv_heads * head_dim;
  const Tensor k = ops::norm_rope(s.ctx, kv.columns(0, kv_width), kv_heads, head_dim, head_dim, k_norm, eps, s.rope);
  ops::write_kv(s.ctx, k, kv.columns(kv_width, 2 * kv_width), s.cache.kv[layer], s.rows);
}

void GatedDeltaNet::add_to(Step& s, const ops::RoundedRows& x, Tensor& residual) const {
  row_parallel_add(s, mix(s, x), out_proj, residual);
}

Tensor GatedDeltaNet::mix(Step& s, const ops::RoundedRows& x) const {
  return ops::delta_net(s.ctx, ops::linear(s.ctx, x, in_proj), net, s.cache.conv[layer], s.cache.delta[layer], s.rows);
}

void FeedForward::add_to(Step& s, const ops::RoundedRows& x, Tensor& residual) const {
  ops::experts_add(s.ctx, x, choose(s, x), experts, residual);
  s.tp.all_reduce(residual);
}

ops::Routing FeedForward::choose(Step& s, const ops::RoundedRows& x) const {
  if (num_experts == 0) return all_to_one(s.ctx, x.rows());
  return ops::route(s.ctx, ops::linear(s.ctx, x, router, "router"), num_experts, top_k, /*shared_gate=*/true);
}

void DecoderLayer::forward(Step& s, Tensor& x) const {
  {
    const Arena::Scope scope(s.ctx.arena);  // both halves use the same memory, warm in the caches
    std::visit([&](const auto& m) { m.add_to(s, ops::rms_norm_rounded(s.ctx, x, input_norm, eps, mixer_forms), x); }, mixer);
  }
  const Arena::Scope scope(s.ctx.arena);
  feed_forward.add_to(s, ops::rms_norm_rounded(s.ctx, x, post_norm, eps, feed_forward_forms), x);
}

Tensor Qwen3_5::forward(Step& s, const Tensor& ids) const {
  const Span span(s.ctx.profiler, "forward");
  Tensor x = ops::embedding(s.ctx, embed_tokens_, ids);
  for (const DecoderLayer& layer : layers_) layer.forward(s, x);
  return ops::rms_norm(s.ctx, x, norm_, config_.rms_eps);
}

Tensor MtpHead::input(Step& s, const Tensor& embeddings, const Tensor& hidden) const {
  const int64_t tokens = hidden.dim(0), width = hidden.dim(1);
  const Tensor e = ops::rms_norm(s.ctx, embeddings, embedding_norm, layer.eps), h = ops::rms_norm(s.ctx, hidden, hidden_norm, layer.eps);
  const Tensor both = s.ctx.arena.empty(Shape{tokens, 2 * width});
  for (int64_t t = 0; t < tokens; ++t) {
    std::copy_n(e.data<float>() + t * e.row_stride(), width, both.data<float>() + t * 2 * width);
    std::copy_n(h.data<float>() + t * h.row_stride(), width, both.data<float>() + t * 2 * width + width);
  }
  return ops::linear(s.ctx, both, fc);
}

void MtpHead::remember(Step& s, const Tensor& x) const {
  const auto& attention = std::get<GatedAttention>(layer.mixer);
  const Arena::Scope scope(s.ctx.arena);
  attention.remember(s, ops::linear(s.ctx, ops::rms_norm(s.ctx, x, layer.input_norm, layer.eps), attention.kv_proj));
}

Tensor MtpHead::forward(Step& s, Tensor x) const {
  layer.forward(s, x);
  return ops::rms_norm(s.ctx, x, norm, layer.eps);
}

Tensor Qwen3_5::draft_input(Step& s, const Tensor& next_ids, const Tensor& hidden) const {
  return mtp_->input(s, ops::embedding(s.ctx, embed_tokens_, next_ids), hidden);
}

void Qwen3_5::draft_remember(Step& s, const Tensor& x) const { mtp_->remember(s, x); }

Tensor Qwen3_5::draft(Step& s, const Tensor& x) const { return mtp_->forward(s, x); }

Tensor Qwen3_5::draft_logits(Step& s, const Tensor& hidden) const { return ops::linear(s.ctx, hidden, mtp_->lm_head, "draft head"); }

Tensor Qwen3_5::logits(Step& s, const Tensor& hidden) const { return ops::linear(s.ctx, hidden, lm_head_, "head"); }

// ---- weights

namespace {

GatedAttention load_attention(Loader& load, const std::string& p, const ModelConfig& c, size_t layer, bool separate_kv = false) {
  const int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  const Loader::Part query{p + "q_proj.weight", 2 * q}, key{p + "k_proj.weight", kv}, value{p + "v_proj.weight", kv};
  return {.in_proj = separate_kv ? load.matrices({query}, c.hidden) : load.matrices({query, key, value}, c.hidden),
          .kv_proj = separate_kv ? load.matrices({key, value}, c.hidden) : std::vector<ops::PackedMatrix>{},
          .o_proj = load.matrix({{p + "o_proj.weight", c.hidden}}, q),
          .q_norm = load.vector(p + "q_norm.weight", c.head_dim, 1.0f),
          .k_norm = load.vector(p + "k_norm.weight", c.head_dim, 1.0f),
          .heads = c.heads,
          .kv_heads = c.kv_heads,
          .head_dim = c.head_dim,
          .eps = c.rms_eps,
          .layer = layer};
}

GatedDeltaNet load_delta_net(Loader& load, const std::string& p, const ModelConfig& c, size_t layer) {
  const ops::DeltaShape shape{c.k_heads, c.v_heads, c.k_dim, c.v_dim};
  const int64_t value = c.v_heads * c.v_dim;
  return {.in_proj = load.matrices({{p + "in_proj_qkv.weight", shape.channels()},
                                    {p + "in_proj_z.weight", value},
                                    {p + "in_proj_b.weight", c.v_heads},
                                    {p + "in_proj_a.weight", c.v_heads}},
                                   c.hidden),
          .out_proj = load.matrix({{p + "out_proj.weight", c.hidden}}, value),
          .net = {.shape = shape,
                  .conv = load.conv(p + "conv1d.weight", shape.channels(), c.conv_kernel),
                  .a_log = load.vector(p + "A_log", c.v_heads),
                  .dt_bias = load.vector(p + "dt_bias", c.v_heads),
                  .norm = load.vector(p + "norm.weight", c.v_dim),  // the one norm that is not stored as w - 1
                  .eps = c.rms_eps},
          .layer = layer};
}

FeedForward load_feed_forward(Loader& load, const std::string& p, const ModelConfig& c) {
  FeedForward out;
  const auto dense = [&](const std::string& stem, int64_t intermediate) {
    out.experts.gate_up.push_back(
        load.matrix({{stem + "gate_proj.weight", intermediate}, {stem + "up_proj.weight", intermediate}}, c.hidden));
    out.experts.down.push_back(load.matrix({{stem + "down_proj.weight", c.hidden}}, intermediate));
  };
  if (!c.moe()) {
    dense(p, c.dense_intermediate);
    return out;
  }
  out.num_experts = c.num_experts;
  out.top_k = c.top_k;
  out.router = load.matrix({{p + "gate.weight", c.num_experts}, {p + "shared_expert_gate.weight", 1}}, c.hidden);
  load.experts(p + "experts.", c.num_experts, c.hidden, c.expert_intermediate, out.experts);
  dense(p + "shared_expert.", c.shared_intermediate);
  return out;
}

void add_forms(ops::InputForms& forms, const GatedAttention& m) {
  forms.add(m.in_proj);
  forms.add(m.kv_proj);
}
void add_forms(ops::InputForms& forms, const GatedDeltaNet& m) { forms.add(m.in_proj); }

// The layer at prefix `p` with its mixer.
DecoderLayer load_around(Loader& load, const ModelConfig& c, const std::string& p, decltype(DecoderLayer::mixer) mixer) {
  DecoderLayer out{.input_norm = load.vector(p + "input_layernorm.weight", c.hidden, 1.0f),
                   .post_norm = load.vector(p + "post_attention_layernorm.weight", c.hidden, 1.0f),
                   .mixer = std::move(mixer),
                   .feed_forward = load_feed_forward(load, p + "mlp.", c),
                   .eps = c.rms_eps};
  std::visit([&](const auto& m) { add_forms(out.mixer_forms, m); }, out.mixer);
  if (c.moe()) out.feed_forward_forms.add(out.feed_forward.router);
  out.feed_forward_forms.add(out.feed_forward.experts);
  return out;
}

}  // namespace

DecoderLayer load_layer(Loader& load, const ModelConfig& c, size_t index) {
  const std::string p = kText + "layers." + std::to_string(index) + ".";
  const auto among_its_kind =
      static_cast<size_t>(std::count(c.layers.begin(), c.layers.begin() + static_cast<ptrdiff_t>(index), c.layers[index]));
  const auto mixer = [&]() -> decltype(DecoderLayer::mixer) {
    if (c.layers[index] == LayerKind::kAttention) return load_attention(load, p + "self_attn.", c, among_its_kind);
    return load_delta_net(load, p + "linear_attn.", c, among_its_kind);
  };
  return load_around(load, c, p, mixer());
}

MtpHead load_mtp(Loader& load, const ModelConfig& c) {
  const std::string p = "mtp.layers.0.";
  return {
      .embedding_norm = load.vector("mtp.pre_fc_norm_embedding.weight", c.hidden, 1.0f),
      .hidden_norm = load.vector("mtp.pre_fc_norm_hidden.weight", c.hidden, 1.0f),
      .norm = load.vector("mtp.norm.weight", c.hidden, 1.0f),
      .fc = load.matrix({{"mtp.fc.weight", c.hidden}}, 2 * c.hidden),
      .layer = load_around(
          load, c, p, load_attention(load, p + "self_attn.", c, static_cast<size_t>(c.count(LayerKind::kAttention)), /*separate_kv=*/true)),
      .lm_head = {}};
}

Qwen3_5::Qwen3_5(const ModelConfig& config, Loader& load, bool with_mtp) : config_(config), rotary_(config) {
  const ModelConfig& c = config_;
  embed_tokens_ = load.table(kText + "embed_tokens.weight", c.vocab_size, c.hidden);
  for (size_t i = 0; i < c.layers.size(); ++i) layers_.push_back(load_layer(load, c, i));
  norm_ = load.vector(kText + "norm.weight", c.hidden, 1.0f);
  if (c.tied_embeddings) {
    load.reader().ignore("lm_head.");  // some exports repeat the table
    lm_head_ = load.matrix(embed_tokens_);
  } else {
    lm_head_ = load.matrix({{"lm_head.weight", c.vocab_size}}, c.hidden);
  }

  if (!with_mtp) return;
  mtp_ = load_mtp(load, c);
  mtp_->lm_head = lm_head_.dtype() == DType::kBF16 ? load.rounded("lm_head.weight", lm_head_) : lm_head_;
}

RotaryFrequencies::RotaryFrequencies(const ModelConfig& c)
    : inv_freq(Tensor::zeros(Shape{c.rotary_pairs}, DType::kF32)), axis(Tensor::zeros(Shape{c.rotary_pairs}, DType::kI32)) {
  // In float32 as the reference has them: theta^(-2i / rotated elements).
  for (int64_t i = 0; i < c.rotary_pairs; ++i) {
    inv_freq.data<float>()[i] =
        1.0f / std::pow(static_cast<float>(c.rope_theta), static_cast<float>(2 * i) / static_cast<float>(2 * c.rotary_pairs));
    // Interleaved sections: i mod 3 = 1 is h and 2 is w while their sections last, everything else is t.
    const int64_t turned = i % 3;
    axis.data<int32_t>()[i] = turned != 0 && i < 3 * c.mrope_section[static_cast<size_t>(turned)] ? static_cast<int32_t>(turned) : 0;
  }
}

CacheTensors Qwen3_5::make_cache(int64_t pages, int64_t slots, const CacheTypes& types) const {
  const ModelConfig& c = config_;
  const ops::DeltaShape shape{c.k_heads, c.v_heads, c.k_dim, c.v_dim};
  CacheTensors cache;
  for (const LayerKind kind : c.layers) {
    if (kind == LayerKind::kAttention) {
      cache.kv.push_back(ops::make_kv_pool(pages, c.kv_heads, c.head_dim, types.kv));
    } else {
      cache.delta.push_back(ops::make_delta_pool(slots, shape, types.state));
      cache.conv.push_back(ops::make_conv_pool(slots, shape.channels(), c.conv_kernel));
    }
  }
  if (has_mtp()) cache.kv.push_back(ops::make_kv_pool(pages, c.kv_heads, c.head_dim, types.kv));
  return cache;
}

// ---- sizes

int64_t packed_weight_bytes(const ModelConfig& c, DType compute, bool with_mtp, ops::WeightCoding coding) {
  const ops::DeltaShape shape{c.k_heads, c.v_heads, c.k_dim, c.v_dim};
  const auto packed = [&](int64_t n, int64_t k) { return ops::PackedMatrix::packed_bytes(n, k, compute, coding); };
  const int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim, value = c.v_heads * c.v_dim;
  const int64_t attention = packed(2 * q + 2 * kv, c.hidden) + packed(c.hidden, q);
  const int64_t delta =
      packed(shape.channels() + value + 2 * c.v_heads, c.hidden) + packed(c.hidden, value) + 4 * c.conv_kernel * shape.channels();
  const auto network = [&](int64_t intermediate) { return packed(2 * intermediate, c.hidden) + packed(c.hidden, intermediate); };
  const int64_t feed_forward =
      c.moe() ? packed(c.num_experts + 1, c.hidden) + c.num_experts * network(c.expert_intermediate) + network(c.shared_intermediate)
              : network(c.dense_intermediate);
  return c.vocab_size * c.hidden * element_size(compute) + packed(c.vocab_size, c.hidden) + c.count(LayerKind::kAttention) * attention +
         c.count(LayerKind::kDeltaNet) * delta + static_cast<int64_t>(c.layers.size()) * (feed_forward + 8 * c.hidden) +
         (with_mtp ? packed(c.hidden, 2 * c.hidden) + attention + feed_forward : 0) +
         (with_mtp && compute == DType::kBF16 ? ops::PackedMatrix::packed_bytes(c.vocab_size, c.hidden, DType::kI8) : 0);
}

int64_t activation_bytes(const ModelConfig& c, int64_t tokens, int64_t sampled, int threads, bool with_mtp) {
  const ops::DeltaShape shape{c.k_heads, c.v_heads, c.k_dim, c.v_dim};
  const int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim, value = c.v_heads * c.v_dim;
  const int64_t attention = 4 * q + 3 * kv + c.hidden;
  const int64_t delta = shape.channels() + 2 * value + 4 * c.v_heads + c.hidden;
  const int64_t chosen = c.moe() ? c.top_k + 1 : 1;
  const int64_t widest = std::max({c.expert_intermediate, c.shared_intermediate, c.dense_intermediate});
  const int64_t feed_forward = c.num_experts + chosen * (2 * c.hidden + 4 * widest) + 2 * c.hidden;
  // Activations are F32; a layer's mixer and feed-forward live together until the layer ends. Kernels pack their inputs once more.
  const int64_t per_token = 4 * (2 * c.hidden + 2 * std::max({attention, delta, feed_forward}) + 2 * c.rotary_pairs);
  const int64_t logits = 4 * sampled * (c.vocab_size + c.hidden);
  const int64_t scratch = (int64_t{16} << 20) * (threads + 1);
  // The draft head's inputs and output stand beside the trunk's output; its layer uses the memory that a layer of the trunk has used. It
  // may have waited with the rest of a page for every row.
  const int64_t head = with_mtp ? 4 * 8 * c.hidden : 0;
  return tokens * per_token + (tokens + (kPageTokens - 1) * sampled) * head + logits + scratch;
}

}  // namespace weir
