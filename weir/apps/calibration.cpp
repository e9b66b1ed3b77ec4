#include "weir/apps/calibration.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

#include "weir/base/error.h"
#include "weir/base/json.h"
#include "weir/models/qwen3_5.h"
#include "weir/runtime/model_input.h"

namespace weir {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{64} << 20;
constexpr int64_t kRows = 64;  // of an output at a time: a vocabulary is wide
constexpr std::string_view kWeight = ".weight";

// Sequence i of the plan owns slot i and pages of its own.
StepPlan plan_of(const Prompts& prompts, int32_t& num_pages) {
  StepPlan plan{.id = StepId(0)};
  num_pages = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    SeqStep row;
    row.seq = SeqId(i);
    row.tokens = prompts[i];
    row.state_write = SlotId(static_cast<int32_t>(i));
    for (int32_t page = 0; page < pages_for(static_cast<int32_t>(row.tokens.size())); ++page) row.pages.push_back(PageId(num_pages++));
    plan.rows.push_back(std::move(row));
  }
  return plan;
}

// One of several matrices that are computed as one: its columns of the output.
struct Part {
  std::string module;
  int64_t columns;
};

class Measurement {
 public:
  Measurement(const ModelConfig& config, const Checkpoint& source, const Checkpoint& quantized, const Prompts& prompts, int threads)
      : config_(config),
        quantized_(quantized),
        pool_(threads, /*pin=*/false),
        float_reader_(source),
        int8_reader_(quantized),
        float_(float_reader_, DType::kBF16, pool_, {}),
        int8_(int8_reader_, DType::kBF16, pool_, {}),
        num_slots_(static_cast<int32_t>(prompts.size())),
        plan_(plan_of(prompts, num_pages_)),
        arena_(static_cast<size_t>(arena_bytes(config, plan_, pool_.size()))),
        input_(build_input(plan_, num_pages_, num_slots_, static_cast<int32_t>(config.vocab_size), arena_)),
        ctx_{pool_, arena_} {}

  std::map<std::string, OutputError> run(const std::function<void()>& progress) {
    const RotaryFrequencies frequencies(config_);
    const ops::RopeTable rope = ops::rope_table(ctx_, input_.positions, frequencies.inv_freq, frequencies.axis);
    Step step{.ctx = ctx_, .rows = input_.rows, .rope = rope, .cache = cache_, .tp = tp_};
    const Tensor table = float_.table("model.language_model.embed_tokens.weight", config_.vocab_size, config_.hidden);
    Tensor x = ops::embedding(ctx_, table, input_.ids);
    for (size_t i = 0; i < config_.layers.size(); ++i) {
      const DecoderLayer exact = load_layer(float_, config_, i), int8 = load_layer(int8_, config_, i);
      layer(step, concat("model.language_model.layers.", i, "."), exact, int8, x);
      if (progress) progress();
    }
    const Tensor hidden = ops::rms_norm(ctx_, x, float_.vector("model.language_model.norm.weight", config_.hidden, 1.0f), config_.rms_eps);
    if (is_int8("lm_head")) {
      const auto head = [&](Loader& load) { return load.matrix({{"lm_head.weight", config_.vocab_size}}, config_.hidden); };
      compare(hidden, {{head(float_)}}, {{head(int8_)}}, {{"lm_head", config_.vocab_size}});
    }
    if (any_int8_in("mtp.")) draft_head(step, table, hidden);
    if (progress) progress();

    std::map<std::string, OutputError> out;
    for (const auto& [module, sums] : sums_)
      out[module] = {.relative = sums.size > 0 ? std::sqrt(sums.error / sums.size) : 0.0, .tokens = sums.tokens};
    return out;
  }

 private:
  using Matrices = std::vector<ops::PackedMatrix>;
  struct Sums {
    double error = 0, size = 0;
    int64_t tokens = 0;
  };

  // Twice what a step takes, and two outputs of the widest matrix; address space, touched as needed.
  static int64_t arena_bytes(const ModelConfig& c, const StepPlan& plan, int threads) {
    int64_t tokens = 0;
    for (const SeqStep& row : plan.rows) tokens += static_cast<int64_t>(row.tokens.size());
    const auto rows = static_cast<int64_t>(plan.rows.size());
    return 2 * activation_bytes(c, tokens, kRows, threads, true) + 16 * kRows * (c.vocab_size + widest(c)) +
           input_bytes(rows, tokens, pages_for(kCalibrationPrompt), rows);
  }
  static int64_t widest(const ModelConfig& c) {
    return std::max({2 * c.heads * c.head_dim + 2 * c.kv_heads * c.head_dim, 2 * c.dense_intermediate, 2 * c.shared_intermediate,
                     2 * c.expert_intermediate, 2 * c.k_heads * c.k_dim + 2 * c.v_heads * (c.v_dim + 1)});
  }

  bool is_int8(const std::string& module) const {
    const LinearFormat format = quantized_.format(module + std::string(kWeight));
    return format == LinearFormat::kInt8Dynamic || format == LinearFormat::kInt8Static;
  }
  bool any_int8_in(std::string_view prefix) const {
    return std::any_of(quantized_.entries().begin(), quantized_.entries().end(), [&](const Checkpoint::Entry& entry) {
      return entry.name.starts_with(prefix) && entry.name.ends_with(kWeight) && entry.tensor.dtype() == DType::kI8;
    });
  }

  // Adds to the sums of those parts that are int8.
  void compare(const Tensor& x, const Matrices& exact, const Matrices& int8, const std::vector<Part>& parts) {
    if (std::none_of(parts.begin(), parts.end(), [&](const Part& part) { return is_int8(part.module); })) return;
    for (int64_t first = 0; first < x.dim(0); first += kRows) {
      const Arena::Scope scope(arena_);
      const Tensor rows = x.rows(first, std::min(first + kRows, x.dim(0)));
      const Tensor want = ops::linear(ctx_, rows, exact), got = ops::linear(ctx_, rows, int8);
      int64_t column = 0;
      for (const Part& part : parts) {
        if (is_int8(part.module)) add(part.module, want.columns(column, column + part.columns), got.columns(column, column + part.columns));
        column += part.columns;
      }
    }
  }

  void add(const std::string& module, const Tensor& want, const Tensor& got) {
    Sums& sums = sums_[module];
    sums.tokens += want.dim(0);
    for (int64_t t = 0; t < want.dim(0); ++t)
      for (int64_t c = 0; c < want.dim(1); ++c) {
        const double y = want.data<float>()[t * want.row_stride() + c], difference = got.data<float>()[t * got.row_stride() + c] - y;
        sums.error += difference * difference;
        sums.size += y * y;
      }
  }

  void layer(Step& step, const std::string& name, const DecoderLayer& exact, const DecoderLayer& int8, Tensor& x) {
    {
      const Arena::Scope scope(arena_);
      const Tensor h = ops::rms_norm(ctx_, x, exact.input_norm, exact.eps);
      const ops::RoundedRows rounded = ops::round_rows(ctx_, h, exact.mixer_forms);
      if (const auto* attention = std::get_if<GatedAttention>(&exact.mixer))
        mixer(step, name + "self_attn.", *attention, std::get<GatedAttention>(int8.mixer), h, rounded, x);
      else
        mixer(step, name + "linear_attn.", std::get<GatedDeltaNet>(exact.mixer), std::get<GatedDeltaNet>(int8.mixer), h, rounded, x);
    }
    const Arena::Scope scope(arena_);
    const Tensor h = ops::rms_norm(ctx_, x, exact.post_norm, exact.eps);
    const ops::RoundedRows rounded = ops::round_rows(ctx_, h, exact.feed_forward_forms);
    const ops::Routing routing = exact.feed_forward.choose(step, rounded);
    for (size_t e = 0; e < exact.feed_forward.experts.down.size(); ++e)
      expert(name + "mlp.", exact.feed_forward, int8.feed_forward, e, routing, h);
    exact.feed_forward.add_to(step, rounded, x);
  }

  void mixer(Step& step, const std::string& name, const GatedAttention& exact, const GatedAttention& int8, const Tensor& h,
             const ops::RoundedRows& rounded, Tensor& x) {
    cache_.kv.resize(std::max(cache_.kv.size(), exact.layer + 1));
    cache_.kv[exact.layer] = ops::make_kv_pool(num_pages_, config_.kv_heads, config_.head_dim, DType::kBF16);
    const int64_t kv = config_.kv_heads * config_.head_dim;
    const Part query{name + "q_proj", 2 * config_.heads * config_.head_dim}, key{name + "k_proj", kv}, value{name + "v_proj", kv};
    if (exact.kv_proj.empty()) {
      compare(h, exact.in_proj, int8.in_proj, {query, key, value});
    } else {
      compare(h, exact.in_proj, int8.in_proj, {query});
      compare(h, exact.kv_proj, int8.kv_proj, {key, value});
    }
    compare(exact.mix(step, rounded), {exact.o_proj}, {int8.o_proj}, {{name + "o_proj", config_.hidden}});
    exact.add_to(step, rounded, x);
    cache_.kv[exact.layer] = Tensor();
  }

  void mixer(Step& step, const std::string& name, const GatedDeltaNet& exact, const GatedDeltaNet& int8, const Tensor& h,
             const ops::RoundedRows& rounded, Tensor& x) {
    const size_t at = exact.layer;
    cache_.delta.resize(std::max(cache_.delta.size(), at + 1));
    cache_.conv.resize(cache_.delta.size());
    cache_.delta[at] = ops::make_delta_pool(num_slots_, exact.net.shape);
    cache_.conv[at] = ops::make_conv_pool(num_slots_, exact.net.shape.channels(), config_.conv_kernel);
    compare(h, exact.in_proj, int8.in_proj,
            {{name + "in_proj_qkv", exact.net.shape.channels()},
             {name + "in_proj_z", config_.v_heads * config_.v_dim},
             {name + "in_proj_b", config_.v_heads},
             {name + "in_proj_a", config_.v_heads}});
    compare(exact.mix(step, rounded), {exact.out_proj}, {int8.out_proj}, {{name + "out_proj", config_.hidden}});
    exact.add_to(step, rounded, x);
    cache_.delta[at] = cache_.conv[at] = Tensor();
  }

  // The tokens that chose expert e, through both of its products.
  void expert(const std::string& mlp, const FeedForward& exact, const FeedForward& int8, size_t e, const ops::Routing& routing,
              const Tensor& h) {
    const auto number = static_cast<int64_t>(e);
    const std::string name = exact.num_experts == 0        ? mlp
                             : number == exact.num_experts ? mlp + "shared_expert."
                                                           : concat(mlp, "experts.", number, ".");
    if (!is_int8(name + "gate_proj") && !is_int8(name + "down_proj")) return;
    std::vector<int32_t> chosen;
    for (int64_t t = 0; t < routing.ids.dim(0); ++t) {
      const int32_t* ids = routing.ids.data<int32_t>() + t * routing.ids.row_stride();
      if (std::find(ids, ids + routing.ids.dim(1), static_cast<int32_t>(e)) != ids + routing.ids.dim(1))
        chosen.push_back(static_cast<int32_t>(t));
    }
    if (chosen.empty()) return;
    const Arena::Scope scope(arena_);
    const Tensor index = arena_.empty({static_cast<int64_t>(chosen.size())}, DType::kI32);
    std::memcpy(index.data<int32_t>(), chosen.data(), chosen.size() * sizeof(int32_t));
    const Tensor x = ops::gather_rows(ctx_, h, index);
    const int64_t width = exact.experts.down[e].k();
    compare(x, {exact.experts.gate_up[e]}, {int8.experts.gate_up[e]}, {{name + "gate_proj", width}, {name + "up_proj", width}});
    const Tensor middle = ops::silu_mul(ctx_, ops::linear(ctx_, x, exact.experts.gate_up[e]));
    compare(middle, {exact.experts.down[e]}, {int8.experts.down[e]}, {{name + "down_proj", config_.hidden}});
  }

  // The head reads every token with its successor; behind the last one of a prompt it is taken to follow itself.
  void draft_head(Step& step, const Tensor& table, const Tensor& hidden) {
    const MtpHead exact = load_mtp(float_, config_), int8 = load_mtp(int8_, config_);
    const Tensor next = arena_.empty({input_.ids.dim(0)}, DType::kI32);
    int64_t at = 0;
    for (const SeqStep& row : plan_.rows)
      for (size_t i = 0; i < row.tokens.size(); ++i) next.data<int32_t>()[at++] = row.tokens[std::min(i + 1, row.tokens.size() - 1)];
    Tensor x = exact.input(step, ops::embedding(ctx_, table, next), hidden);
    layer(step, "mtp.layers.0.", exact.layer, int8.layer, x);
  }

  const ModelConfig& config_;
  const Checkpoint& quantized_;
  ThreadPool pool_;
  WeightReader float_reader_, int8_reader_;
  Loader float_, int8_;
  int32_t num_slots_, num_pages_ = 0;
  StepPlan plan_;
  Arena arena_;
  ModelInput input_;
  ops::Context ctx_;
  CacheTensors cache_;  // of the layer in hand only
  SelfCommunicator tp_;
  std::map<std::string, Sums> sums_;
};

// Cuts what is too long, and the rest when there are enough.
class Collector {
 public:
  explicit Collector(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  void add(std::string_view text) {
    if (total_ >= kCalibrationTokens) return;
    std::vector<Token> tokens = tokenizer_.encode(text);
    tokens.resize(std::min({tokens.size(), kCalibrationPrompt, kCalibrationTokens - total_}));
    if (tokens.empty()) return;
    total_ += tokens.size();
    prompts_.push_back(std::move(tokens));
  }
  Prompts take() { return std::move(prompts_); }

 private:
  const Tokenizer& tokenizer_;
  Prompts prompts_;
  size_t total_ = 0;
};

// The text of a line of *.jsonl.
std::string text_of(const std::string& file, size_t number, const std::string& line) {
  const Json object = parse_json(line, concat(file, ":", number));
  for (const char* field : {"text", "prompt"})
    if (object.is_object() && object.contains(field) && object[field].is_string()) return object[field].get<std::string>();
  fail(ErrorCode::kInvalidArgument, file, ":", number, ": must be an object with a string \"text\" or \"prompt\"");
}

}  // namespace

Prompts read_calibration(const std::string& file, const Tokenizer& tokenizer) {
  std::istringstream lines(read_file(file, kMaxFileBytes));
  Collector collector(tokenizer);
  size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    collector.add(file.ends_with(".jsonl") ? text_of(file, number, line) : line);
  }
  Prompts out = collector.take();
  if (out.empty()) fail(ErrorCode::kInvalidArgument, file, ": there is no text in it");
  return out;
}

Prompts default_calibration(const Tokenizer& tokenizer) {
  Collector collector(tokenizer);
  for (const char* text :
       {"The river had risen overnight. By the time the ferry came, half of the market stood in water, and people were carrying baskets "
        "of apples up the steps of the town hall as if nothing had happened.",
        "Question: A train leaves at 14:05 and arrives at 17:50. How long does the journey take?\nAnswer: It takes 3 hours and 45 minutes.",
        "def moving_average(values, width):\n    total = 0.0\n    for i, value in enumerate(values):\n        total += value\n        if i "
        ">= "
        "width:\n            total -= values[i - width]\n        yield total / min(i + 1, width)\n",
        "{\"name\": \"Ana Costa\", \"age\": 41, \"languages\": [\"pt\", \"en\"], \"address\": {\"city\": \"Porto\", \"zip\": "
        "\"4000-322\"}}",
        "水是由氢和氧组成的。在标准大气压下，它在零摄氏度结冰，在一百摄氏度沸腾。",
        "La photosynthèse transforme la lumière du soleil en énergie chimique ; elle a lieu dans les chloroplastes des plantes vertes.",
        "| month | income | costs |\n|---|---|---|\n| May | 12,340.50 | 9,870.00 |\n| June | 13,002.75 | 10,115.20 |\n",
        "Dear Sir or Madam, I am writing to complain about the heating in flat 12, which has not worked since Tuesday. Could you please "
        "send somebody before the weekend? Kind regards, J. Novak"})
    collector.add(text);
  return collector.take();
}

std::map<std::string, OutputError> measure_outputs(const std::string& source, const std::string& quantized, const Prompts& prompts,
                                                   int threads, const std::function<void(int64_t)>& planned,
                                                   const std::function<void()>& progress) {
  const ModelConfig config = read_model_config(source);
  const Checkpoint exact = Checkpoint::open(source), int8 = Checkpoint::open(quantized);
  for (const auto& prompt : prompts)
    for (const Token token : prompt)
      if (token < 0 || token >= config.vocab_size)
        fail(ErrorCode::kInvalidArgument, "the tokenizer gives id ", token, ", config.json's vocab_size is ", config.vocab_size);
  if (planned) planned(static_cast<int64_t>(config.layers.size()) + 1);
  return Measurement(config, exact, int8, prompts, threads).run(progress);
}

}  // namespace weir
