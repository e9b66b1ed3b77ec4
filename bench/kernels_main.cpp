// bench_kernels [--threads N] [--rounds N] [--filter TEXT] [--f32] [--cpu-time]
//
// Times the matrix products at the shapes of real models. The weights of a case are many times the cache and all are read in each round,
// as in decoding. Every round also measures the machine (reading the same number of bytes, multiply-adds in registers), so that
// "of bound" compares what ran within the same few milliseconds: the time in which the machine could have read the weights or done the
// arithmetic, whichever is longer, over the time taken. Numbers are medians over the rounds. --cpu-time (one thread only) counts the time
// on the CPU instead of the time on the clock: for a machine that is busy with something else.
#include <time.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "bench/kernels_ceiling.h"
#include "weir/kernels/cpu/isa.h"
#include "weir/ops/linear.h"

namespace weir::bench {
namespace {

using ops::Context, ops::ExpertWeights, ops::PackedMatrix, ops::Routing;

struct Options {
  int threads = 0, rounds = 9;
  std::string filter;
  DType type = DType::kBF16;
  bool cpu_time = false;
};

class Clock {
 public:
  explicit Clock(bool cpu_time) : id_(cpu_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC) {}
  double seconds() const {
    timespec now{};
    clock_gettime(id_, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  }

 private:
  clockid_t id_;
};

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

class Machine {
 public:
  Machine(ThreadPool& pool, DType type, Clock clock)
      : pool_(pool), clock_(clock), core_(core_ceilings(cpu::active_isa())), type_(type), memory_(Tensor::zeros({kBytes}, DType::kU8)) {
    std::memset(memory_.raw(), 1, kBytes);
  }

  double seconds() const { return clock_.seconds(); }

  // Bytes per second of `threads` threads reading disjoint parts of memory far larger than the cache.
  double read_rate(int threads) {
    const int64_t part = kBytes / threads / 4096 * 4096;
    const double start = seconds();
    pool_.run([&](int thread) {
      if (thread < threads) sink_[thread % 64] = core_.read(memory_.data<uint8_t>() + thread * part, part);
    });
    return static_cast<double>(part * threads) / (seconds() - start);
  }
  double read_rate() { return read_rate(pool_.size()); }

  // Floating-point operations per second of all threads, in registers.
  double compute_rate(DType type) {
    double operations[64] = {};
    const double start = seconds();
    pool_.run([&](int thread) {
      const double done = type == DType::kBF16 ? core_.bf16(kComputeRounds) : core_.f32(kComputeRounds);
      if (thread < 64) operations[thread] = done;
    });
    return operations[0] * pool_.size() / (seconds() - start);
  }
  double compute_rate() { return compute_rate(type_); }

 private:
  static constexpr int64_t kBytes = int64_t{512} << 20;
  static constexpr int64_t kComputeRounds = 500'000;
  ThreadPool& pool_;
  Clock clock_;
  const CoreCeilings& core_;
  DType type_;
  Tensor memory_;
  uint64_t sink_[64] = {};
};

struct Cost {
  double bytes = 0, operations = 0;
};

// Runs `body` (which says what it cost) in alternation with the ceilings and prints one line.
template <class Body>
void measure(Machine& machine, const Options& options, const std::string& what, Body body) {
  if (what.find(options.filter) == std::string::npos) return;
  body(0);
  std::vector<double> bytes_rate, operation_rate, share, read, compute;
  for (int round = 0; round < options.rounds; ++round) {
    const double read_rate = machine.read_rate(), compute_rate = machine.compute_rate();
    const double start = machine.seconds();
    const Cost cost = body(round);
    const double time = machine.seconds() - start;
    bytes_rate.push_back(cost.bytes / time);
    operation_rate.push_back(cost.operations / time);
    share.push_back(std::max(cost.bytes / read_rate, cost.operations / compute_rate) / time);
    read.push_back(read_rate);
    compute.push_back(compute_rate);
  }
  std::printf("%-34s %7.1f GB/s %7.0f GFLOP/s %5.0f %% of bound   (machine %5.1f GB/s %5.0f GFLOP/s)\n", what.c_str(),
              median(bytes_rate) * 1e-9, median(operation_rate) * 1e-9, 100 * median(share), median(read) * 1e-9, median(compute) * 1e-9);
  std::fflush(stdout);
}

Tensor random_rows(int64_t rows, int64_t columns) {
  std::mt19937 rng(7);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  Tensor out = Tensor::zeros({rows, columns}, DType::kF32);
  for (int64_t i = 0; i < out.numel(); ++i) out.data<float>()[i] = normal(rng) * 0.05f;
  return out;
}

// Random weights: the same few rows again and again, as making billions of random numbers would take longer than the measurement.
void fill(ThreadPool& pool, PackedMatrix& w) {
  const Tensor rows = random_rows(64, w.k());
  for (int64_t row = 0; row < w.n(); row += 64) w.pack_rows(pool, row, rows.rows(0, std::min<int64_t>(64, w.n() - row)));
}

constexpr int64_t kRowCounts[] = {1, 2, 4, 8, 32, 128, 512};
constexpr int64_t kWorkingSet = int64_t{384} << 20;

void bench_linear(Context& ctx, Machine& machine, const Options& options, const char* name, int64_t n, int64_t k) {
  const std::string label = concat(name, " ", n, "x", k);
  if (concat(label, " T=").find(options.filter) == std::string::npos && options.filter.find("T=") == std::string::npos) return;
  const int64_t bytes = PackedMatrix::packed_bytes(n, k, options.type), count = std::max<int64_t>(1, kWorkingSet / bytes);
  std::vector<PackedMatrix> matrices;
  for (int64_t i = 0; i < count; ++i) fill(ctx.pool, matrices.emplace_back(n, k, options.type));
  const Tensor x = random_rows(512, k);
  for (const int64_t rows : kRowCounts) {
    // Enough work for a few tens of milliseconds, the whole set when it costs no more than that.
    const int64_t used = rows < 128 ? count : std::clamp<int64_t>((int64_t{16} << 30) / (2 * rows * n * k), 1, count);
    measure(machine, options, concat(label, " T=", rows), [&](int round) {
      for (int64_t i = 0; i < used; ++i) {
        const Arena::Scope scope(ctx.arena);
        linear(ctx, x.rows(0, rows), matrices[static_cast<size_t>((round * used + i) % count)]);
      }
      const auto times = static_cast<double>(used);
      return Cost{times * static_cast<double>(bytes), times * 2.0 * static_cast<double>(rows * n * k)};
    });
  }
}

void bench_experts(Context& ctx, Machine& machine, const Options& options, const char* name, int64_t hidden, int64_t width, int64_t experts,
                   int64_t top_k, int64_t layers) {
  const std::string label = concat(name, " ", experts, "x", width, "x", hidden);
  if (concat(label, " T=").find(options.filter) == std::string::npos && options.filter.find("T=") == std::string::npos) return;
  std::vector<ExpertWeights> weights(static_cast<size_t>(layers));
  for (ExpertWeights& layer : weights) {
    layer.gate_up = PackedMatrix::many(experts + 1, 2 * width, hidden, options.type);  // the last one is the shared expert
    layer.down = PackedMatrix::many(experts + 1, hidden, width, options.type);
    for (PackedMatrix& w : layer.gate_up) fill(ctx.pool, w);
    for (PackedMatrix& w : layer.down) fill(ctx.pool, w);
  }
  const double expert_bytes = static_cast<double>(weights[0].gate_up[0].nbytes() + weights[0].down[0].nbytes());
  const Tensor x = random_rows(512, hidden);
  Tensor y = Tensor::zeros({512, hidden}, DType::kF32);
  std::mt19937 rng(3);
  for (const int64_t rows : kRowCounts) {
    const int64_t steps = std::clamp<int64_t>(64 / rows, layers == 1 ? 2 : 1, 8);
    const Routing routing{Tensor::zeros({rows, top_k + 1}, DType::kI32), Tensor::zeros({rows, top_k + 1}, DType::kF32)};
    // Choices are drawn before the clock starts: body(0) of a round must not pay for them.
    std::vector<std::vector<int32_t>> draws;
    std::vector<double> distinct;
    for (int64_t i = 0; i < steps * layers * 4; ++i) {
      std::vector<int32_t> ids, all(static_cast<size_t>(experts));
      std::vector<bool> seen(static_cast<size_t>(experts));
      for (size_t e = 0; e < all.size(); ++e) all[e] = static_cast<int32_t>(e);
      for (int64_t t = 0; t < rows; ++t) {
        std::shuffle(all.begin(), all.end(), rng);
        ids.insert(ids.end(), all.begin(), all.begin() + top_k);
        ids.push_back(static_cast<int32_t>(experts));
        for (int64_t k = 0; k < top_k; ++k) seen[static_cast<size_t>(all[static_cast<size_t>(k)])] = true;
      }
      draws.push_back(std::move(ids));
      distinct.push_back(1.0 + static_cast<double>(std::count(seen.begin(), seen.end(), true)));
    }
    measure(machine, options, concat(label, " T=", rows), [&](int round) {
      Cost cost;
      for (int64_t i = 0; i < steps * layers; ++i) {
        const size_t draw = static_cast<size_t>(round * steps * layers + i) % draws.size();
        std::memcpy(routing.ids.data<int32_t>(), draws[draw].data(), draws[draw].size() * sizeof(int32_t));
        Tensor out = y.rows(0, rows);
        experts_add(ctx, x.rows(0, rows), routing, weights[static_cast<size_t>(i % layers)], out);
        cost.bytes += distinct[draw] * expert_bytes;
        cost.operations += static_cast<double>(rows * (top_k + 1)) * 6.0 * static_cast<double>(width * hidden);
      }
      return cost;
    });
  }
}

void run(const Options& options) {
  ThreadPool pool(options.threads);
  Arena arena(size_t{2} << 30);
  Context ctx{pool, arena};
  Machine machine(pool, options.type, Clock(options.cpu_time));
  std::printf("%s, %d threads, weights %s\n", cpu::name(cpu::active_isa()), pool.size(), name(options.type));
  for (int threads = 1; threads <= pool.size(); threads *= 2) {
    std::vector<double> rates;
    for (int i = 0; i < options.rounds; ++i) rates.push_back(machine.read_rate(threads));
    std::printf("memory read, %2d threads: %6.1f GB/s\n", threads, median(rates) * 1e-9);
  }
  for (const DType type : {DType::kBF16, DType::kF32}) {
    std::vector<double> rates;
    for (int i = 0; i < options.rounds; ++i) rates.push_back(machine.compute_rate(type));
    std::printf("%s multiply-add in registers, %2d threads: %6.0f GFLOP/s\n", name(type), pool.size(), median(rates) * 1e-9);
  }
  bench_linear(ctx, machine, options, "mini delta in", 6144, 1024);
  bench_linear(ctx, machine, options, "mini delta out", 1024, 2048);
  bench_linear(ctx, machine, options, "mini attention in", 2560, 1024);
  bench_linear(ctx, machine, options, "mini head", 32768, 1024);
  bench_experts(ctx, machine, options, "mini experts", 1024, 256, 64, 8, 4);
  bench_linear(ctx, machine, options, "35B delta in", 12288, 2048);
  bench_linear(ctx, machine, options, "35B delta out", 2048, 4096);
  bench_experts(ctx, machine, options, "35B experts", 2048, 512, 256, 8, 1);
}

int parse_count(std::string_view flag, std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1 || value > 1024)
    fail(ErrorCode::kInvalidArgument, flag, " must be a number from 1 to 1024, got ", text);
  return value;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--f32") {
      options.type = DType::kF32;
    } else if (flag == "--cpu-time") {
      options.cpu_time = true;
    } else if (i + 1 < argc && flag == "--threads") {
      options.threads = parse_count(flag, argv[++i]);
    } else if (i + 1 < argc && flag == "--rounds") {
      options.rounds = parse_count(flag, argv[++i]);
    } else if (i + 1 < argc && flag == "--filter") {
      options.filter = argv[++i];
    } else {
      fail(ErrorCode::kInvalidArgument, "unknown argument ", flag, "; known: --threads N, --rounds N, --filter TEXT, --f32, --cpu-time");
    }
  }
  if (options.cpu_time && options.threads != 1) fail(ErrorCode::kInvalidArgument, "--cpu-time needs --threads 1");
  return options;
}

}  // namespace
}  // namespace weir::bench

int main(int argc, char** argv) {
  try {
    weir::bench::run(weir::bench::parse(argc, argv));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_kernels: %s\n", error.what());
    return 1;
  }
}
