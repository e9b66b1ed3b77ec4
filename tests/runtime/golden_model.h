// A golden checkpoint (tests/golden) loaded for a test, run through plans like the engine's, with logits in reach.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "weir/models/qwen3_5.h"
#include "weir/runtime/model_input.h"

namespace weir {

inline std::string golden_dir(const std::string& name) { return std::string(WEIR_SOURCE_DIR) + "/tests/golden/" + name; }

inline std::unique_ptr<Qwen3_5> load_golden(const std::string& dir, DType compute, ThreadPool& pool) {
  const Checkpoint checkpoint = Checkpoint::open(dir);
  WeightReader reader(checkpoint);
  reader.ignore("model.visual.");
  reader.ignore("mtp.");
  Loader loader(reader, compute, pool, {});
  auto model = std::make_unique<Qwen3_5>(read_model_config(dir), loader);
  reader.expect_all_taken();
  return model;
}

class GoldenModel {
 public:
  static constexpr int32_t kPages = 800, kSlots = 40;

  explicit GoldenModel(const std::string& dir, DType compute = DType::kF32, int threads = 2)
      : pool_(threads, /*pin=*/false), arena_(size_t{1} << 30), config_(read_model_config(dir)) {
    model_ = load_golden(dir, compute, pool_);
    cache_ = model_->make_cache(kPages, kSlots, compute);
  }

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
    step.state_write = {SlotId(seq)};
    return step;
  }

  // Runs one step; returns the logits of every token of every row, [T, V].
  std::vector<std::vector<float>> step(std::vector<SeqStep> rows) {
    StepPlan plan{.id = StepId(1), .rows = std::move(rows)};
    const ModelInput input = build_input(plan, kPages, kSlots, static_cast<int32_t>(config_.vocab_size));
    arena_.reset();
    ops::Context ctx{pool_, arena_};
    Step s{.ctx = ctx, .rows = input.rows, .rope = model_->rope(ctx, input.positions), .cache = cache_, .tp = tp_};
    const Tensor logits = model_->logits(s, model_->forward(s, input.ids));
    std::vector<std::vector<float>> out;
    for (int64_t t = 0; t < logits.dim(0); ++t) {
      const float* values = logits.data<float>() + t * logits.row_stride();
      out.emplace_back(values, values + logits.dim(1));
    }
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
