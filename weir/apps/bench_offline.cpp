// `weir bench latency` and `weir bench throughput`: the engine without a server.
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <random>

#include "weir/api/prompt.h"
#include "weir/apps/bench.h"
#include "weir/apps/bench_batch.h"
#include "weir/apps/bench_dataset_flags.h"
#include "weir/apps/commands.h"
#include "weir/apps/compat_flags.h"
#include "weir/apps/engine_flags.h"
#include "weir/apps/profiling.h"
#include "weir/apps/progress_bar.h"
#include "weir/apps/terminal.h"
#include "weir/base/log.h"

namespace weir {
namespace {

constexpr const char* kBatch = "Benchmark";
constexpr double kMaxTokens = 1 << 24;

std::vector<FlagSpec> common_flags() {
  return {
      {.name = "n", .type = FlagType::kInt, .group = kBatch, .help = "Answers for each prompt.", .fallback = "1", .min = 1, .max = 1024},
      {.name = "output-json", .group = kBatch, .help = "File to write the result to.", .value_name = "FILE"},
      {.name = "disable-detokenize",
       .type = FlagType::kBool,
       .group = kBatch,
       .help = "Leave turning tokens into text out of the measurement.",
       .fallback = "false"},
      {.name = "disable-tqdm", .type = FlagType::kBool, .group = kBatch, .help = "No progress bar.", .fallback = "false"},
  };
}

std::vector<FlagSpec> latency_flags() {
  return {
      {.name = "input-len",
       .type = FlagType::kCount,
       .group = kBatch,
       .help = "Prompt tokens.",
       .fallback = "32",
       .min = 1,
       .max = kMaxTokens},
      {.name = "output-len",
       .type = FlagType::kCount,
       .group = kBatch,
       .help = "Tokens to generate.",
       .fallback = "128",
       .min = 1,
       .max = kMaxTokens},
      {.name = "batch-size", .type = FlagType::kInt, .group = kBatch, .help = "Prompts at once.", .fallback = "8", .min = 1, .max = 65536},
      {.name = "num-iters", .type = FlagType::kInt, .group = kBatch, .help = "Measured runs.", .fallback = "30", .min = 1, .max = 1e6},
      {.name = "num-iters-warmup",
       .type = FlagType::kInt,
       .group = kBatch,
       .help = "Runs before them.",
       .fallback = "10",
       .min = 0,
       .max = 1e6},
  };
}

std::vector<FlagSpec> throughput_flags() {
  return {
      {.name = "num-warmups",
       .type = FlagType::kCount,
       .group = kBatch,
       .help = "Prompts to run before the measurement.",
       .fallback = "0",
       .min = 0,
       .max = 1'000'000},
      {.name = "backend",
       .group = kBatch,
       .help = "Accepted for compatibility: the engine is weir's.",
       .fallback = "vllm",
       .choices = {"vllm"}},
      {.name = "async-engine",
       .type = FlagType::kBool,
       .group = kBatch,
       .help = "Accepted for compatibility: the engine always runs on a thread of its own.",
       .fallback = "false"},
  };
}

CommandSpec offline_command(const char* name, const char* summary, const std::vector<std::vector<FlagSpec>>& own, const char* example) {
  CommandSpec out;
  out.name = name;
  out.summary = summary;
  out.positionals = {"MODEL"};
  for (const auto& part : own) out.flags.insert(out.flags.end(), part.begin(), part.end());
  for (const auto& part : {engine_flags(), profiling_flags(), compat_flags()}) out.flags.insert(out.flags.end(), part.begin(), part.end());
  out.epilogue = concat("\nexample\n  ", example, "\n");
  return out;
}

BatchOptions batch_options(const Flags& flags) {
  return {.n = static_cast<int32_t>(flags.integer("n")), .detokenize = !flags.boolean("disable-detokenize")};
}

bool bar_visible(const Flags& flags) { return !flags.boolean("disable-tqdm") && is_terminal(STDERR_FILENO); }

// Any ids but special ones: what an image or an end of text would set off is not what is measured.
std::vector<BatchRequest> random_batch(const Flags& flags, const ServedModel& model, uint64_t seed) {
  std::vector<Token> ids;
  for (Token id = 0; id < model.tokenizer->size(); ++id)
    if (!model.tokenizer->is_special(id) && !model.tokenizer->bytes(id).empty()) ids.push_back(id);
  if (ids.empty()) fail(ErrorCode::kInvalidArgument, "the tokenizer has special tokens only");
  std::mt19937_64 random(seed);
  std::uniform_int_distribution<size_t> any(0, ids.size() - 1);
  std::vector<BatchRequest> out(static_cast<size_t>(flags.integer("batch-size")));
  for (BatchRequest& request : out) {
    request.prompt.resize(static_cast<size_t>(flags.integer("input-len")));
    for (Token& token : request.prompt) token = ids[any(random)];
    request.output_tokens = static_cast<int32_t>(flags.integer("output-len"));
  }
  return out;
}

std::vector<BatchRequest> dataset_batch(const Flags& flags, const ServedModel& model, uint64_t seed) {
  WrapMessage wrap;
  if (!flags.boolean("skip-chat-template") && model.chat_template)
    wrap = [&](const std::string& message) {
      Conversation conversation;
      conversation.messages = Json::array({Json{{"role", "user"}, {"content", message}}});
      if (const auto extra = flags.find_json("chat-template-kwargs")) conversation.template_kwargs.update(*extra);
      return render_conversation(conversation, model);
    };
  std::vector<BatchRequest> out;
  for (const BenchPrompt& prompt : make_prompts(flags, seed, count_locally(model.tokenizer), wrap))
    out.push_back({model.tokenizer->encode(prompt.text), prompt.output_tokens});
  return out;
}

void print_profile(Profiling& profiling) {
  if (profiling.recording()) std::printf("\n%s\n", profiling.stop().c_str());
}

void write_json(const Flags& flags, const Json& result) {
  const auto path = flags.find_text("output-json");
  if (!path) return;
  std::ofstream file(*path, std::ios::trunc);
  file << result.dump(4, ' ', false, Json::error_handler_t::replace);
  file.flush();
  if (!file) fail(ErrorCode::kInvalidArgument, "cannot write --output-json ", *path);
}

}  // namespace

const CommandSpec& bench_latency_command() {
  static const CommandSpec command = offline_command("bench latency", "How long one batch of requests takes, from prompt to last token.",
                                                     {latency_flags(), common_flags()},
                                                     "weir bench latency models/weir-tiny --input-len 32 --output-len 128 --batch-size 8");
  return command;
}

const CommandSpec& bench_throughput_command() {
  static const CommandSpec command =
      offline_command("bench throughput", "How fast many requests are done that are all there at once.",
                      {throughput_flags(), common_flags(), dataset_flags()},
                      "weir bench throughput models/weir-tiny --input-len 128 --output-len 64 --num-prompts 64");
  return command;
}

int run_bench_latency(std::span<const std::string> args) {
  const auto flags = parse_or_help(bench_latency_command(), args);
  if (!flags) return 0;
  apply_compat_flags(*flags);
  EngineOptions options = engine_options(*flags);
  options.bind_threads = wants_cpu_binding(*flags);
  const BatchOptions batch = batch_options(*flags);
  Profiling profiling(profiling_options(*flags, ""));
  const LocalEngine local = start_local_engine(options, &profiling.profiler());
  if (local.mapped) local.mapped->wait();  // nothing else may run beside what is measured
  const std::vector<BatchRequest> requests = random_batch(*flags, local.model, options.seed);

  const int64_t warmups = flags->integer("num-iters-warmup"), iterations = flags->integer("num-iters");
  std::vector<double> seconds;
  {
    ProgressBar bar("Runs", warmups + iterations, bar_visible(*flags));
    for (int64_t i = 0; i < warmups + iterations; ++i) {
      if (i == warmups && profiling.options().from_start) profiling.start();
      const double took = run_batch(local, requests, batch, [] {}).seconds;
      if (i >= warmups) seconds.push_back(took);
      bar.advance(1);
    }
  }
  const Json result = latency_json(options.model, seconds);
  std::printf("Avg latency: %g seconds\n", result["avg_latency"].get<double>());
  for (const auto& [percentage, value] : result["percentiles"].items())
    std::printf("%s%% percentile latency: %g seconds\n", percentage.c_str(), value.get<double>());
  print_profile(profiling);
  write_json(*flags, result);
  return 0;
}

int run_bench_throughput(std::span<const std::string> args) {
  const auto flags = parse_or_help(bench_throughput_command(), args);
  if (!flags) return 0;
  apply_compat_flags(*flags);
  EngineOptions options = engine_options(*flags);
  options.bind_threads = wants_cpu_binding(*flags);
  const BatchOptions batch = batch_options(*flags);
  Profiling profiling(profiling_options(*flags, ""));
  const LocalEngine local = start_local_engine(options, &profiling.profiler());
  if (local.mapped) local.mapped->wait();  // nothing else may run beside what is measured
  const std::vector<BatchRequest> requests = dataset_batch(*flags, local.model, options.seed);

  const auto warmups = std::min<size_t>(requests.size(), static_cast<size_t>(flags->integer("num-warmups")));
  if (warmups > 0) run_batch(local, std::span(requests).first(warmups), batch, [] {});
  if (profiling.options().from_start) profiling.start();
  BatchResult result;
  {
    ProgressBar bar("Requests", static_cast<int64_t>(requests.size()) * batch.n, bar_visible(*flags));
    result = run_batch(local, requests, batch, [&] { bar.advance(1); });
  }
  const auto num_requests = static_cast<int64_t>(requests.size());
  const Json json = throughput_json(options.model, num_requests, result);
  std::printf("Throughput: %.2f requests/s, %.2f total tokens/s, %.2f output tokens/s\n", json["requests_per_second"].get<double>(),
              json["tokens_per_second"].get<double>(), static_cast<double>(result.output_tokens) / result.seconds);
  std::printf("Total num prompt tokens:  %lld\n", static_cast<long long>(result.prompt_tokens));
  std::printf("Total num output tokens:  %lld\n", static_cast<long long>(result.output_tokens));
  print_profile(profiling);
  write_json(*flags, json);
  return 0;
}

}  // namespace weir
