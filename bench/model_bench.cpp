// One model in this process, without HTTP: load time, prefill and decode, each beside the ceiling of the machine measured in the same
// round.
//   bench_model MODEL_DIR [--threads N] [--rounds N]
// The rates are medians over rounds; ceiling and model take turns, because the machine's own speed moves from minute to minute.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "bench/kernels_ceiling.h"
#include "weir/base/error.h"
#include "weir/kernels/cpu/isa.h"
#include "weir/runtime/memory_plan.h"
#include "weir/runtime/model_runner.h"

namespace weir {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// What all threads together read from memory (bytes/s) or multiply-add in registers (operations/s).
class Machine {
 public:
  explicit Machine(int threads) : pool_(threads), buffer_(Tensor::zeros(Shape{int64_t{512} << 20}, DType::kU8)) {
    std::memset(buffer_.raw(), 1, static_cast<size_t>(buffer_.nbytes()));
  }
  double read_bandwidth() {
    const int64_t share = buffer_.nbytes() / pool_.size() / 512 * 512;
    const double begin = now();
    pool_.run([&](int thread) { sink_ = ceilings_.read(static_cast<std::byte*>(buffer_.raw()) + thread * share, share); });
    return static_cast<double>(share * pool_.size()) / (now() - begin);
  }
  double bf16_peak() {
    std::vector<double> operations(static_cast<size_t>(pool_.size()));
    const double begin = now();
    pool_.run([&](int thread) { operations[static_cast<size_t>(thread)] = ceilings_.bf16(2'000'000); });
    const double seconds = now() - begin;
    double total = 0;
    for (const double share : operations) total += share;
    return total / seconds;
  }

 private:
  const bench::CoreCeilings& ceilings_ = bench::core_ceilings(cpu::active_isa());
  ThreadPool pool_;
  Tensor buffer_;
  std::atomic<uint64_t> sink_{0};
};

constexpr int32_t kMaxSeqs = 32, kPagesPerSeq = 64;

std::unique_ptr<ModelRunner> load(const std::string& dir, int threads) {
  const ModelConfig config = read_model_config(dir);
  const Checkpoint checkpoint = Checkpoint::open(dir);
  ThreadPool pool(threads, /*pin=*/false);
  WeightReader reader(checkpoint);
  reader.ignore("model.visual.");
  reader.ignore("mtp.");
  Loader loader(reader, DType::kBF16, pool, {});
  auto model = std::make_unique<Qwen3_5>(config, loader);
  return std::make_unique<ModelRunner>(std::move(model), std::make_unique<ThreadPool>(threads),
                                       RunnerConfig{.cache = {.num_pages = kMaxSeqs * kPagesPerSeq, .num_slots = kMaxSeqs},
                                                    .arena_bytes = 2 * activation_bytes(config, 2048, kMaxSeqs, threads),
                                                    .num_tokens = static_cast<int32_t>(config.vocab_size)});
}

SeqStep row(int32_t seq, int32_t start, int32_t count) {
  static const auto greedy = std::make_shared<const SamplingParams>(SamplingParams{.temperature = 0});
  SeqStep step;
  step.seq = SeqId(static_cast<uint64_t>(seq));
  step.start = start;
  for (int32_t i = 0; i < count; ++i) step.tokens.push_back(static_cast<Token>((start + i) * 7919 % 30011 + seq));
  for (int32_t page = 0; page * 16 < start + count; ++page) step.pages.push_back(PageId(seq * kPagesPerSeq + page));
  if (start > 0) step.state_read = SlotId(seq);
  step.state_write = {SlotId(seq)};
  step.sample = Sampling{.params = greedy};
  return step;
}

double seconds_of(ModelRunner& runner, std::vector<SeqStep> rows) {
  const StepPlan plan{.id = StepId(0), .rows = std::move(rows)};
  const double begin = now();
  runner.run(plan);
  return now() - begin;
}

// Weight bytes that one token reads: everything but the embedding table and the experts nobody chose.
double bytes_per_token(const ModelConfig& config) {
  ModelConfig active = config;
  if (config.moe()) active.num_experts = config.top_k;
  return static_cast<double>(packed_weight_bytes(active, DType::kBF16) - 2 * config.vocab_size * config.hidden);
}

int run(int argc, char** argv) {
  std::string dir;
  int threads = num_physical_cores(), rounds = 5;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
      threads = std::atoi(argv[++i]);
    else if (std::strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
      rounds = std::max(1, std::atoi(argv[++i]));
    else
      dir = argv[i];
  }
  if (dir.empty()) {
    std::fprintf(stderr, "usage: bench_model MODEL_DIR [--threads N] [--rounds N]\n");
    return 2;
  }
  double begin = now();
  std::unique_ptr<ModelRunner> runner = load(dir, threads);
  const double loaded = now() - begin;
  begin = now();
  seconds_of(*runner, {row(0, 0, 8)});
  std::printf("%s, %d threads\nload %.2f s, first token %.2f s later\n", dir.c_str(), threads, loaded, now() - begin);

  const ModelConfig& config = runner->model().config();
  const double active_bytes = bytes_per_token(config);
  Machine machine(threads);
  std::vector<double> read_gb, bf16_gflops, prefill, decode1, decode8, decode32;
  for (int round = 0; round < rounds; ++round) {
    read_gb.push_back(machine.read_bandwidth() / 1e9);
    bf16_gflops.push_back(machine.bf16_peak() / 1e9);
    prefill.push_back(512 / seconds_of(*runner, {row(0, 0, 512)}));
    for (const auto& [batch, rate] : {std::pair<int32_t, std::vector<double>*>{1, &decode1}, {8, &decode8}, {32, &decode32}}) {
      std::vector<SeqStep> prompts;
      for (int32_t s = 0; s < batch; ++s) prompts.push_back(row(s, 0, 32));
      seconds_of(*runner, std::move(prompts));
      std::vector<double> steps;
      for (int32_t at = 32; at < 32 + 40; ++at) {
        std::vector<SeqStep> rows;
        for (int32_t s = 0; s < batch; ++s) rows.push_back(row(s, at, 1));
        steps.push_back(seconds_of(*runner, std::move(rows)));
      }
      rate->push_back(batch / median(steps));
    }
  }
  // 2 operations per weight and token; the head is computed for the last token only.
  const double head = static_cast<double>(config.vocab_size * config.hidden);
  const double gflop_512 = (512 * 2 * (active_bytes / 2 - head) + 2 * head) / 1e9;
  const double prefill_gflops = median(prefill) / 512 * gflop_512;
  const double decode_gb = median(decode1) * active_bytes / 1e9;
  std::printf("memory read %.1f GB/s, BF16 in registers %.0f GFLOP/s\n", median(read_gb), median(bf16_gflops));
  std::printf("prefill 512      %8.1f tok/s   %7.1f GFLOP/s   %3.0f %% of the BF16 peak\n", median(prefill), prefill_gflops,
              100 * prefill_gflops / median(bf16_gflops));
  std::printf("decode, batch 1  %8.1f tok/s   %7.1f GB/s      %3.0f %% of the read bandwidth (weights of one token: %.0f MB)\n",
              median(decode1), decode_gb, 100 * decode_gb / median(read_gb), active_bytes / 1e6);
  std::printf("decode, batch 8  %8.1f tok/s\ndecode, batch 32 %8.1f tok/s\n", median(decode8), median(decode32));
  return 0;
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) {
  try {
    return weir::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_model: %s\n", error.what());
    return 1;
  }
}
