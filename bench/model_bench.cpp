// One model in this process, without HTTP: load time, prefill and decode, each beside the ceiling of the machine measured in the same
// round.
//   bench_model MODEL_DIR [--threads N] [--rounds N] [--plain] [--beside MODEL_DIR | --drafts K]
// --plain: BF16 weights of MODEL_DIR stay in 16 bits, as with --no-compress-weights.
// --beside: instead of ceilings, how much faster the other model is, step by step in turns (an int8 checkpoint beside its BF16 source).
// --drafts: instead of ceilings, what 1 … K guesses by the MTP head are worth: a plain step and one that guesses take turns.
// The rates are medians over rounds; ceiling and model take turns, because the machine's own speed moves from minute to minute.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "weir/base/error.h"
#include "weir/engine/draft_policy.h"
#include "weir/kernels/cpu/ceiling.h"
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
  const cpu::CoreCeilings& ceilings_ = cpu::core_ceilings(cpu::active_isa());
  ThreadPool pool_;
  Tensor buffer_;
  std::atomic<uint64_t> sink_{0};
};

constexpr int32_t kMostAtOnce = 32, kMaxSeqs = 2 * kMostAtOnce, kPagesPerSeq = 64;

std::unique_ptr<ModelRunner> load(const std::string& dir, int threads, ops::WeightCoding coding, bool with_mtp = false) {
  const ModelConfig config = read_model_config(dir);
  const Checkpoint checkpoint = Checkpoint::open(dir);
  ThreadPool pool(threads, /*pin=*/false);
  WeightReader reader(checkpoint);
  reader.ignore("model.visual.");
  if (!with_mtp) reader.ignore("mtp.");
  Loader loader(reader, DType::kBF16, pool, {});
  loader.use(coding);
  auto model = std::make_unique<Qwen3_5>(config, loader, with_mtp);
  return std::make_unique<ModelRunner>(std::move(model), std::make_unique<ThreadPool>(threads),
                                       RunnerConfig{.cache = {.num_pages = kMaxSeqs * kPagesPerSeq, .num_slots = kMaxSeqs},
                                                    .arena_bytes = 2 * activation_bytes(config, 2048, kMaxSeqs, threads, with_mtp),
                                                    .num_tokens = static_cast<int32_t>(config.vocab_size)});
}

SeqStep row(int32_t seq, int32_t start, int32_t count) {
  static const auto greedy = std::make_shared<const SamplingParams>(SamplingParams{.temperature = 0});
  SeqStep step;
  step.seq = SeqId(static_cast<uint64_t>(seq));
  step.start = start;
  for (int32_t i = 0; i < count; ++i) step.tokens.push_back(static_cast<Token>((start + i) * 7919 % 1979 + seq));
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
double bytes_per_token(const ModelConfig& config, ops::WeightCoding coding) {
  ModelConfig active = config;
  if (config.moe()) active.num_experts = config.top_k;
  return static_cast<double>(packed_weight_bytes(active, DType::kBF16, /*with_mtp=*/false, coding) - 2 * config.vocab_size * config.hidden);
}

// Ratios of medians: every step of one model is followed by the same step of the other, so both see the same machine.
int compare(ModelRunner& first, ModelRunner& second, int rounds) {
  std::printf("%-18s %12s %12s %8s\n", "", "first, ms", "second, ms", "ratio");
  const auto report = [](const char* what, const std::vector<double>& a, const std::vector<double>& b) {
    std::printf("%-18s %12.2f %12.2f %8.2f\n", what, 1e3 * median(a), 1e3 * median(b), median(a) / median(b));
  };
  std::vector<double> a, b;
  for (int round = 0; round < rounds; ++round) {
    a.push_back(seconds_of(first, {row(0, 0, 512)}));
    b.push_back(seconds_of(second, {row(0, 0, 512)}));
  }
  report("prefill of 512", a, b);
  for (const auto& [batch, what] :
       {std::pair<int32_t, const char*>{1, "decode, batch 1"}, {8, "decode, batch 8"}, {32, "decode, batch 32"}}) {
    a.clear();
    b.clear();
    std::vector<SeqStep> prompts;
    for (int32_t s = 0; s < batch; ++s) prompts.push_back(row(s, 0, 32));
    seconds_of(first, prompts);
    seconds_of(second, prompts);
    for (int32_t at = 32; at < 32 + 8 * rounds; ++at) {
      std::vector<SeqStep> rows;
      for (int32_t s = 0; s < batch; ++s) rows.push_back(row(s, at, 1));
      a.push_back(seconds_of(first, rows));
      b.push_back(seconds_of(second, std::move(rows)));
    }
    report(what, a, b);
  }
  return 0;
}

// A sequence that is decoded greedily, with guesses when `most_drafts` is not 0.
struct Stream {
  int32_t seq;
  int32_t most_drafts;
  std::vector<Token> tokens;
  TokenList drafts = {};
  int32_t computed = 0;

  SeqStep next() const {
    SeqStep step = row(seq, computed, static_cast<int32_t>(tokens.size()) - computed);
    std::copy(tokens.begin() + computed, tokens.end(), step.tokens.begin());
    // As the engine does: what is verified together ends with the block of the state's log.
    step.num_drafts = std::min({static_cast<int32_t>(drafts.size()), most_drafts, kSlotBlock - 1 - computed % kSlotBlock});
    step.tokens.insert(step.tokens.end(), drafts.begin(), drafts.begin() + step.num_drafts);
    step.want_drafts = most_drafts;
    const auto end = static_cast<int32_t>(tokens.size()) + 2 * kMaxDrafts;
    for (auto page = static_cast<int32_t>(step.pages.size()); page * 16 < end; ++page)
      step.pages.push_back(PageId(seq * kPagesPerSeq + page));
    return step;
  }
  void take(RowResult result) {
    tokens.insert(tokens.end(), result.tokens.begin(), result.tokens.end());
    computed = static_cast<int32_t>(tokens.size()) - 1;
    drafts = std::move(result.drafts);
  }
};

std::vector<Stream> streams(int32_t count, int32_t first_seq, int32_t most_drafts) {
  std::vector<Stream> out;
  for (int32_t s = 0; s < count; ++s) out.push_back({first_seq + s, most_drafts, row(s, 0, 32).tokens});
  return out;
}

double step(ModelRunner& runner, std::vector<Stream>& all) {
  StepPlan plan{.id = StepId(0)};
  for (const Stream& stream : all) plan.rows.push_back(stream.next());
  const double begin = now();
  StepResult result = runner.run(plan);
  const double seconds = now() - begin;
  for (size_t i = 0; i < all.size(); ++i) all[i].take(std::move(result.rows[i]));
  return seconds;
}

// Tokens per verification, and how much faster than plain decoding, where a plain step follows every step that guesses. `drafts`: so many,
// or as many as the engine's policy chooses.
struct Speculation {
  double plain_ms, guessing_ms, tokens, speed_up;
};
Speculation speculate(ModelRunner& runner, int32_t batch, int32_t drafts, bool adaptive, int steps) {
  DraftPolicy policy({.num_drafts = drafts, .adaptive = adaptive});
  std::vector<Stream> plain = streams(batch, 0, 0), guessing = streams(batch, kMostAtOnce, policy.choose(0));
  step(runner, plain);  // prompts, and the first guesses
  step(runner, guessing);
  std::vector<double> a, b;
  double tokens = 0;
  for (int i = 0; i < steps; ++i) {
    a.push_back(step(runner, plain));
    const int32_t chosen = policy.choose(batch);
    std::vector<std::pair<int32_t, size_t>> before;
    for (Stream& stream : guessing) {
      stream.most_drafts = chosen;
      before.emplace_back(stream.next().num_drafts, stream.tokens.size());
    }
    b.push_back(step(runner, guessing));
    for (size_t s = 0; s < guessing.size(); ++s) {
      const auto added = static_cast<int32_t>(guessing[s].tokens.size() - before[s].second);
      if (before[s].first > 0) policy.saw_row(before[s].first, added - 1);
      tokens += added;
    }
    policy.saw_step(b.back());
  }
  for (size_t s = 0; s < guessing.size(); ++s) {
    const size_t both = std::min(plain[s].tokens.size(), guessing[s].tokens.size());
    if (!std::equal(plain[s].tokens.begin(), plain[s].tokens.begin() + static_cast<ptrdiff_t>(both), guessing[s].tokens.begin()))
      fail(ErrorCode::kInternal, "guesses changed what sequence ", s, " says");
  }
  const double length = tokens / (double(steps) * batch);
  const auto sum = [](const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); };
  return {1e3 * median(a), 1e3 * median(b), length, length * (adaptive ? sum(a) / sum(b) : median(a) / median(b))};
}

int compare_drafts(ModelRunner& runner, int most_drafts, int rounds) {
  std::printf("%8s %9s %13s %15s %14s %9s\n", "at once", "guesses", "plain, ms", "guessing, ms", "tokens a step", "speed-up");
  const auto report = [](int32_t batch, const std::string& guesses, const Speculation& s) {
    std::printf("%8d %9s %13.2f %15.2f %14.2f %9.2f\n", batch, guesses.c_str(), s.plain_ms, s.guessing_ms, s.tokens, s.speed_up);
    std::fflush(stdout);
  };
  for (const int32_t batch : {1, 8, kMostAtOnce}) {
    for (int32_t k = 1; k <= most_drafts; ++k)
      report(batch, std::to_string(k), speculate(runner, batch, k, /*adaptive=*/false, 8 * rounds));
    report(batch, "adaptive", speculate(runner, batch, most_drafts, /*adaptive=*/true, 30 * rounds));
  }
  return 0;
}

int run(int argc, char** argv) {
  std::string dir, beside;
  int threads = num_physical_cores(), rounds = 5, drafts = 0;
  ops::WeightCoding coding = ops::WeightCoding::kTwelveBits;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
      threads = std::atoi(argv[++i]);
    else if (std::strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
      rounds = std::clamp(std::atoi(argv[++i]), 1, 50);
    else if (std::strcmp(argv[i], "--plain") == 0)
      coding = ops::WeightCoding::kPlain;
    else if (std::strcmp(argv[i], "--beside") == 0 && i + 1 < argc)
      beside = argv[++i];
    else if (std::strcmp(argv[i], "--drafts") == 0 && i + 1 < argc)
      drafts = std::clamp(std::atoi(argv[++i]), 1, kMaxDrafts);
    else
      dir = argv[i];
  }
  if (dir.empty()) {
    std::fprintf(stderr, "usage: bench_model MODEL_DIR [--threads N] [--rounds N] [--plain] [--beside MODEL_DIR | --drafts K]\n");
    return 2;
  }
  double begin = now();
  std::unique_ptr<ModelRunner> runner = load(dir, threads, coding, drafts > 0);
  const double loaded = now() - begin;
  begin = now();
  seconds_of(*runner, {row(0, 0, 8)});
  std::printf("%s, %d threads\nload %.2f s, first token %.2f s later\n", dir.c_str(), threads, loaded, now() - begin);

  if (drafts > 0) return compare_drafts(*runner, drafts, rounds);
  if (!beside.empty()) {
    const std::unique_ptr<ModelRunner> other = load(beside, threads, ops::WeightCoding::kTwelveBits);
    seconds_of(*other, {row(0, 0, 8)});
    return compare(*runner, *other, rounds);
  }
  const ModelConfig& config = runner->model().config();
  const double active_bytes = bytes_per_token(config, coding);
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
