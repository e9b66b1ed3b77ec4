// The Qwen3.5 text model: config -> weights -> hidden states -> logits. The maths is in qwen3_5.cpp and reads like spec sections 4 to 8.
#pragma once

#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "weir/models/config.h"
#include "weir/nn/loader.h"
#include "weir/nn/step.h"
#include "weir/ops/attention.h"
#include "weir/ops/delta_net.h"

namespace weir {

// Softmax attention with an output gate; q, k, v and the gate come from one product, except in the draft head, which takes in more tokens
// than it attends from.
struct GatedAttention {
  std::vector<ops::PackedMatrix> in_proj;  // rows: per head D query rows then D gate rows; then keys; then values. One unless types differ
  std::vector<ops::PackedMatrix> kv_proj;  // keys, then values, if in_proj has none (else empty)
  ops::PackedMatrix o_proj;
  Tensor q_norm, k_norm;  // [D]
  int64_t heads, kv_heads, head_dim;
  float eps;
  size_t layer;  // index among the attention layers

  void add_to(Step& s, const ops::RoundedRows& x, Tensor& residual) const;
  Tensor mix(Step& s, const ops::RoundedRows& x) const;  // what o_proj reads [T, heads D]
  void remember(Step& s, const Tensor& kv) const;        // writes keys and values, kv [T, 2 kv_heads D] before norm and rotation
};

struct GatedDeltaNet {
  std::vector<ops::PackedMatrix> in_proj;  // rows: q, k, v; z; b; a. One unless types differ
  ops::PackedMatrix out_proj;
  ops::DeltaNet net;
  size_t layer;  // index among the delta-net layers

  void add_to(Step& s, const ops::RoundedRows& x, Tensor& residual) const;
  Tensor mix(Step& s, const ops::RoundedRows& x) const;  // what out_proj reads [T, v_heads v_dim]
};

// Routed experts and the shared expert, which is one more expert that every token chooses. A dense network is a single expert with
// weight 1.
struct FeedForward {
  ops::PackedMatrix router;  // rows: experts; then the shared expert's gate. Not there in dense models
  ops::ExpertWeights experts;
  int64_t num_experts = 0, top_k = 0;

  void add_to(Step& s, const ops::RoundedRows& x, Tensor& residual) const;
  ops::Routing choose(Step& s,
                      const ops::RoundedRows& x) const;  // the shared expert is number num_experts; of a dense network all is expert 0
};

struct DecoderLayer {
  Tensor input_norm, post_norm;  // [H]
  std::variant<GatedAttention, GatedDeltaNet> mixer;
  FeedForward feed_forward;
  ops::InputForms mixer_forms, feed_forward_forms;  // what their first products read: x after its norm, rounded once to each
  float eps;

  void forward(Step& s, Tensor& x) const;
};

// The multi-token-prediction head (spec section 9): one attention layer that reads, at position i, the embedding of token i + 1 and the
// trunk's hidden state i, and predicts token i + 2. The embedding table is the trunk's; its keys and values have their own pool.
struct MtpHead {
  Tensor embedding_norm, hidden_norm, norm;  // [H]
  ops::PackedMatrix fc;                      // [H, 2 H], embedding first
  DecoderLayer layer;
  ops::PackedMatrix lm_head;  // the trunk's. A BF16 one is kept in I8 as well: guesses need not be exact, and it is half of what they read

  Tensor input(Step& s, const Tensor& embeddings, const Tensor& hidden) const;  // -> what the layer reads [T, H]
  void remember(Step& s, const Tensor& x) const;
  Tensor forward(Step& s, Tensor x) const;
};

// Layer `index` of the trunk, and the draft head without its lm_head, as a checkpoint has them.
DecoderLayer load_layer(Loader& load, const ModelConfig& config, size_t index);
MtpHead load_mtp(Loader& load, const ModelConfig& config);

struct RotaryFrequencies {
  explicit RotaryFrequencies(const ModelConfig& config);
  Tensor inv_freq, axis;  // [rotary_pairs]; which of t, h and w turns a pair
};

class Qwen3_5 {
 public:
  // with_mtp: also read the mtp.* tensors, which must be there.
  Qwen3_5(const ModelConfig& config, Loader& loader, bool with_mtp = false);

  // ids I32 [T] -> hidden states after the last norm [T, H]. Reads and advances the caches named by the step's rows.
  Tensor forward(Step& s, const Tensor& ids) const;
  // hidden [N, H] -> logits [N, vocab_size], padding rows included.
  Tensor logits(Step& s, const Tensor& hidden) const;

  // The draft head, in three parts, because it must see every token once but draws a guess from few of them. All require has_mtp().
  // What the head's layer reads: next_ids I32 [T] is the token after each of the step's tokens, hidden [T, H] the output of forward() (or,
  // for a later guess, of draft()). -> x [T, H]
  Tensor draft_input(Step& s, const Tensor& next_ids, const Tensor& hidden) const;
  // Writes the keys and values of x into the head's pages.
  void draft_remember(Step& s, const Tensor& x) const;
  // -> [T, H], whose draft_logits() are those of the token after the next one. Writes keys and values, too.
  Tensor draft(Step& s, const Tensor& x) const;
  Tensor draft_logits(Step& s, const Tensor& hidden) const;  // as logits(), but of a head that may be rounded
  bool has_mtp() const { return mtp_.has_value(); }

  // The step's rotary table. positions I32 [3, T]: the (t, h, w) triple of each token.
  ops::RopeTable rope(ops::Context& ctx, const Tensor& positions) const {
    return ops::rope_table(ctx, positions, rotary_.inv_freq, rotary_.axis);
  }

  CacheTensors make_cache(int64_t pages, int64_t slots, const CacheTypes& types) const;
  const ModelConfig& config() const { return config_; }

 private:
  ModelConfig config_;
  Tensor embed_tokens_;  // [V, H]
  std::vector<DecoderLayer> layers_;
  Tensor norm_;
  ops::PackedMatrix lm_head_;
  std::optional<MtpHead> mtp_;
  RotaryFrequencies rotary_;
};

// Bytes of the packed weights, from the sizes alone. coding: of matrices, when compute is BF16.
int64_t packed_weight_bytes(const ModelConfig& config, DType compute, bool with_mtp = false,
                            ops::WeightCoding coding = ops::WeightCoding::kPlain);

// Bytes of activations that one step of `tokens` tokens with `sampled` logits rows takes at most, a margin for kernel scratch included.
int64_t activation_bytes(const ModelConfig& config, int64_t tokens, int64_t sampled, int threads, bool with_mtp = false);

}  // namespace weir
