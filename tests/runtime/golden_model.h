// A golden checkpoint (tests/golden) loaded for a test, run through plans like the engine's, with logits in reach.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "weir/models/qwen3_5.h"
#include "weir/runtime/model_input.h"

namespace weir {

inline std::string golden_dir(const std::string& name) { return std::string(WEIR_SOURCE_DIR) + "/tests/golden/" + name; }

// With the MTP head where the checkpoint has one and it is wanted.
inline std::unique_ptr<Qwen3_5> load_golden(const std::string& dir, DType compute, ThreadPool& pool, bool want_mtp = true,
                                            Fp8As fp8_as = Fp8As::kFloat) {
  const ModelConfig config = read_model_config(dir);
  const bool with_mtp = want_mtp && config.mtp_layers > 0;
  const Checkpoint checkpoint = Checkpoint::open(dir);
  WeightReader reader(checkpoint);
  reader.ignore("model.visual.");
  if (!with_mtp) reader.ignore("mtp.");
  Loader loader(reader, compute, pool, {}, fp8_as);
  auto model = std::make_unique<Qwen3_5>(config, loader, with_mtp);
  reader.expect_all_taken();
  return model;
}

class GoldenModel {
 public:
  static constexpr int32_t kPages = 800, kSlots = 40;

  explicit GoldenModel(const std::string& dir, DType compute = DType::kF32, int threads = 2, Fp8As fp8_as = Fp8As::kFloat)
      : GoldenModel(dir, compute, CacheTypes{.kv = compute}, threads, fp8_as) {}
  GoldenModel(const std::string& dir, DType compute, const CacheTypes& types, int threads, Fp8As fp8_as = Fp8As::kFloat)
      : pool_(threads, /*pin=*/false),
        arena_(size_t{1} << 30),
        config_(read_model_config(dir)),
        model_(load_golden(dir, compute, pool_, /*want_mtp=*/true, fp8_as)),
        cache_(model_->make_cache(kPages, kSlots, types)) {}

  const ModelConfig& config() const { return config_; }
  const CacheTensors& cache() const { return cache_; }

  // A row for tokens [start, start + tokens.size()) of sequence `seq`, which owns slot `seq` and a fixed range of pages.
  static SeqStep row(int32_t seq, int32_t start, std::vector<Token> tokens, int32_t pages_per_seq = 45) {
    SeqStep step;
    step.seq = SeqId(static_cast<uint64_t>(seq));
    step.start = start;
    const auto end = start + static_cast<int32_t>(tokens.size());
    for (int32_t i = 0; i * 16 < end; ++i) step.pages.push_back(PageId(seq * pages_per_seq + i));
    step.tokens = std::move(tokens);
    if (start > 0) step.state_read = SlotId(seq);
    step.state_write = SlotId(seq);
    return step;
  }

  // Runs one step; returns the logits of every token of every row, [T, V].
  std::vector<std::vector<float>> step(std::vector<SeqStep> rows) {
    std::vector<std::vector<float>> out;
    with_step(std::move(rows), [&](Step& s, const Tensor& ids) { out = values(model_->logits(s, model_->forward(s, ids))); });
    return out;
  }

  struct Drafted {
    std::vector<std::vector<float>> hidden, logits;  // [T, H], [T, V]
  };
  // One pass of the MTP head over a row. `next` holds the token after each of the row's tokens. `hidden` is the head's own output of the
  // step before; empty: run the trunk first.
  Drafted draft(SeqStep row, const std::vector<Token>& next, const std::vector<float>& hidden = {}) {
    Drafted out;
    with_step({std::move(row)}, [&](Step& s, const Tensor& ids) {
      Tensor h = hidden.empty() ? model_->forward(s, ids) : Tensor::zeros({1, config_.hidden}, DType::kF32);
      if (!hidden.empty()) std::copy(hidden.begin(), hidden.end(), h.data<float>());
      Tensor successors = Tensor::zeros({ids.dim(0)}, DType::kI32);
      std::copy(next.begin(), next.end(), successors.data<int32_t>());
      const Tensor y = model_->draft(s, model_->draft_input(s, successors, h));
      out = {values(y), values(model_->draft_logits(s, y))};
    });
    return out;
  }

  // Logits of all tokens of a sequence computed in chunks of `chunk` tokens (0: whole).
  std::vector<std::vector<float>> prefill(int32_t seq, const std::vector<Token>& ids, int32_t chunk) {
    std::vector<std::vector<float>> out;
    const auto n = static_cast<int32_t>(ids.size());
    for (int32_t at = 0; at < n;) {
      const int32_t end = chunk == 0 ? n : std::min(n, at + chunk);
      for (auto& logits : step({row(seq, at, {ids.begin() + at, ids.begin() + end})})) out.push_back(std::move(logits));
      at = end;
    }
    return out;
  }

  static Token argmax(const std::vector<float>& logits) {
    return static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }

 private:
  template <class Body>
  void with_step(std::vector<SeqStep> rows, const Body& body) {
    const StepPlan plan{.id = StepId(1), .rows = std::move(rows)};
    const ModelInput input = build_input(plan, kPages, kSlots, static_cast<int32_t>(config_.vocab_size));
    arena_.reset();
    ops::Context ctx{pool_, arena_};
    Step s{.ctx = ctx, .rows = input.rows, .rope = model_->rope(ctx, input.positions), .cache = cache_, .tp = tp_};
    body(s, input.ids);
  }

  static std::vector<std::vector<float>> values(const Tensor& t) {
    std::vector<std::vector<float>> out;
    for (int64_t i = 0; i < t.dim(0); ++i) {
      const float* row = t.data<float>() + i * t.row_stride();
      out.emplace_back(row, row + t.dim(1));
    }
    return out;
  }

  ThreadPool pool_;
  Arena arena_;
  ModelConfig config_;
  std::unique_ptr<Qwen3_5> model_;
  CacheTensors cache_;
  SelfCommunicator tp_;
};

// The references beside a golden checkpoint.
class GoldenReference {
 public:
  explicit GoldenReference(const std::string& name) : tensors_(Checkpoint::open(golden_dir(name) + "/reference")) {}

  bool has(const std::string& name) const { return tensors_.find(name) != nullptr; }
  std::vector<float> floats(const std::string& name) const { return read<float>(name); }
  std::vector<int32_t> ints(const std::string& name) const { return read<int32_t>(name); }

 private:
  template <class T>
  std::vector<T> read(const std::string& name) const {
    const Checkpoint::Entry* entry = tensors_.find(name);
    WEIR_CHECK(entry != nullptr, "no reference ", name);
    std::vector<T> out(static_cast<size_t>(entry->tensor.numel()));
    std::memcpy(out.data(), entry->tensor.raw(), out.size() * sizeof(T));
    return out;
  }

  Checkpoint tensors_;
};

}  // namespace weir
