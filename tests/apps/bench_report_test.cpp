#include "weir/apps/bench_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "weir/apps/bench.h"
#include "weir/apps/bench_batch.h"
#include "weir/apps/bench_serve_flags.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::vector<std::string> keys(const Json& object) {
  std::vector<std::string> out;
  for (const auto& [key, value] : object.items()) out.push_back(key);
  return out;
}

BenchServeOptions options(std::vector<std::string> args) { return bench_serve_options(Flags::parse(bench_serve_command(), args), ""); }

std::string complaint(std::vector<std::string> args) {
  try {
    options(std::move(args));
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no complaint";
}

std::vector<BenchAnswer> two_answers() {
  BenchAnswer good;
  good.text = "yes";
  good.ttft_s = 0.5;
  good.latency_s = 1.0;
  good.itl_s = {0.5};
  good.queue_s = 0.25;
  good.input_tokens = 4;
  good.output_tokens = 2;
  BenchAnswer bad;
  bad.error = "refused";
  return {good, bad};
}

Json result(std::vector<std::string> args, bool detailed = false, std::optional<Speculation> speculation = {}) {
  const BenchServeOptions o = options(std::move(args));
  const auto answers = two_answers();
  return serve_result_json(o.setup, {measure(answers, 2.0, o.goodput), std::move(speculation), nullptr}, answers, detailed);
}

// What vLLM 0.32's client writes for the same flags, key by key and in its order.
TEST(BenchReport, HasTheKeysOfVllmsClient) {
  EXPECT_THAT(
      keys(result({})),
      ElementsAre("date", "endpoint_type", "backend", "label", "model_id", "tokenizer_id", "num_prompts", "request_rate", "burstiness",
                  "max_concurrency", "duration", "completed", "failed", "total_input_tokens", "total_output_tokens", "request_throughput",
                  "request_goodput", "output_throughput", "total_token_throughput", "latencies", "queue_times", "max_output_tokens_per_s",
                  "max_concurrent_requests", "rtfx", "mean_ttft_ms", "median_ttft_ms", "std_ttft_ms", "p99_ttft_ms", "mean_tpot_ms",
                  "median_tpot_ms", "std_tpot_ms", "p99_tpot_ms", "mean_itl_ms", "median_itl_ms", "std_itl_ms", "p99_itl_ms"));
}

TEST(BenchReport, DetailsListEveryRequest) {
  const Json plain = result({}), detailed = result({}, true);
  std::vector<std::string> more;
  for (const std::string& key : keys(detailed))
    if (!plain.contains(key)) more.push_back(key);
  EXPECT_THAT(more, ElementsAre("input_lens", "output_lens", "ttfts", "itls", "start_times", "generated_texts", "errors"));
  for (const std::string& key : more) EXPECT_EQ(detailed[key].size(), 2u) << key;
  EXPECT_EQ(detailed["errors"], Json::array({"", "refused"}));
  EXPECT_EQ(detailed["itls"][0], Json::array({0.5}));
}

TEST(BenchReport, ValuesAreInMilliseconds) {
  const Json json =
      result({"--percentile-metrics", "e2el", "--metric-percentiles", "50,99.9", "--request-rate", "2", "--goodput", "ttft:600"});
  EXPECT_EQ(json["mean_e2el_ms"], 1000.0);
  EXPECT_EQ(json["p50_e2el_ms"], 1000.0);
  EXPECT_TRUE(json.contains("p99.9_e2el_ms"));
  EXPECT_FALSE(json.contains("mean_ttft_ms")) << "not asked for";
  EXPECT_EQ(json["request_rate"], 2.0);
  EXPECT_EQ(json["request_goodput"], 0.5);
  EXPECT_EQ(result({})["request_rate"], "inf");
  EXPECT_TRUE(result({})["request_goodput"].is_null());
}

TEST(BenchReport, WaitingInTheClientIsToldWhenTheClientHoldsBack) {
  const char* metrics = "client_queue_time,e2el_including_client_queue";
  const Json both = result({"--percentile-metrics", metrics, "--max-concurrency", "2", "--request-rate", "1"});
  EXPECT_EQ(both["mean_client_queue_time_ms"], 250.0);
  EXPECT_EQ(both["mean_e2el_including_client_queue_ms"], 1250.0);
  EXPECT_FALSE(result({"--percentile-metrics", metrics}).contains("mean_client_queue_time_ms"));
}

TEST(BenchReport, SpeculationAndMetadataAreFields) {
  Speculation speculation;
  speculation.acceptance_length = 2.5;
  speculation.per_position_rates = {0.9};
  const Json json = result({"--metadata", "tp=1", "host=a=b", "--label", "x"}, false, speculation);
  EXPECT_EQ(json["tp"], "1");
  EXPECT_EQ(json["host"], "a=b");
  EXPECT_EQ(json["label"], "x");
  for (const char* key :
       {"spec_decode_acceptance_rate", "spec_decode_num_drafts", "spec_decode_draft_tokens", "spec_decode_accepted_tokens"})
    EXPECT_TRUE(json.contains(key)) << key;
  EXPECT_EQ(json["spec_decode_acceptance_length"], 2.5);
  EXPECT_EQ(json["spec_decode_per_position_acceptance_rates"], Json::array({0.9}));
}

TEST(BenchReport, TheTableHasVllmsRows) {
  const BenchServeOptions o = options({"--goodput", "ttft:600", "--max-concurrency", "3", "--percentile-metrics", "ttft,tpot,itl,e2el"});
  const std::string table = serve_report(o.setup, {measure(two_answers(), 2.0, o.goodput), {}, nullptr});
  for (const char* row : {"============ Serving Benchmark Result ============\n", "Successful requests:                     1         \n",
                          "Failed requests:                         1         \n", "Maximum request concurrency:             3         \n",
                          "Benchmark duration (s):                  2.00      \n", "Total generated tokens:                  2         \n",
                          "Output token throughput (tok/s):         1.00      \n", "Request goodput (req/s):                 0.50      \n",
                          "---------------Time to First Token----------------\n", "P99 TTFT (ms):                           500.00    \n",
                          "-----Time per Output Token (excl. 1st token)------\n", "Mean E2EL (ms):                          1000.00   \n"})
    EXPECT_THAT(table, HasSubstr(row));
}

TEST(BenchReport, FilesAreNamedAsByVllm) {
  ServeSetup setup;
  setup.date = "20261125-094500";
  setup.backend = "openai";
  setup.model_id = "Qwen/Qwen3.5-4B";
  EXPECT_EQ(result_filename(setup), "openai-infqps-Qwen3.5-4B-20261125-094500.json");
  setup.traffic.request_rate = 1;
  setup.max_concurrency = 8;
  setup.label = "mine";
  EXPECT_EQ(result_filename(setup), "mine-1.0qps-concurrency8-Qwen3.5-4B-20261125-094500.json");
  setup.traffic.ramp_up = RampUp{"linear", 1, 5};
  EXPECT_EQ(result_filename(setup), "mine-ramp-up-linear-1qps-5qps-concurrency8-Qwen3.5-4B-20261125-094500.json");
}

// The seed's command, with `vllm` and the line breaks taken out: --random-input is no flag, but the beginning of one.
TEST(BenchServeFlags, TheSeedsCommandIsUnderstood) {
  const std::vector<std::string> args = {"--model",
                                         "Eco-Tech/Qwen3.5-397B-A17B-w8a8-mtp",
                                         "--served-model-name",
                                         "qwen3.5",
                                         "--dataset-name",
                                         "random",
                                         "--random-input",
                                         "200",
                                         "--num-prompts",
                                         "200",
                                         "--request-rate",
                                         "1",
                                         "--save-result",
                                         "--result-dir",
                                         "./"};
  const Flags flags = Flags::parse(bench_serve_command(), args);
  EXPECT_EQ(flags.integer("random-input-len"), 200);
  const BenchServeOptions o = bench_serve_options(flags, "");
  EXPECT_EQ(o.served_name, "qwen3.5");
  EXPECT_EQ(o.setup.traffic.request_rate, 1.0);
  EXPECT_EQ(o.target.url, "http://127.0.0.1:8000");
  EXPECT_EQ(o.target.path, "/v1/completions");
  EXPECT_EQ(o.body["ignore_eos"], true) << "as vLLM: random prompts have no natural end";
  EXPECT_TRUE(o.save.save);
}

TEST(BenchServeFlags, BodiesCarryWhatWasAskedAndNothingElse) {
  const Json body =
      options({"--temperature", "0", "--top-k", "5", "--extra-body", R"({"chat_template_kwargs": {"enable_thinking": false}})"}).body;
  EXPECT_EQ(body["temperature"], 0.0);
  EXPECT_EQ(body["top_k"], 5);
  EXPECT_EQ(body["chat_template_kwargs"]["enable_thinking"], false);
  EXPECT_FALSE(body.contains("top_p"));
  EXPECT_EQ(body["stream_options"]["include_usage"], true);
  const BenchServeOptions chat = options({"--backend", "openai-chat", "--dataset-name", "custom", "--dataset-path", "x.jsonl"});
  EXPECT_EQ(chat.target.path, "/v1/chat/completions");
  EXPECT_FALSE(chat.body.contains("ignore_eos"));
}

TEST(BenchServeFlags, MistakesNameTheFlag) {
  EXPECT_THAT(complaint({"--goodput", "ttft"}), HasSubstr("--goodput"));
  EXPECT_THAT(complaint({"--goodput", "itl:5"}), HasSubstr("itl:5"));
  EXPECT_THAT(complaint({"--metric-percentiles", "50,101"}), HasSubstr("101"));
  EXPECT_THAT(complaint({"--percentile-metrics", "ttft,speed"}), AllOf(HasSubstr("speed"), HasSubstr("e2el")));
  EXPECT_THAT(complaint({"--metadata", "x"}), HasSubstr("KEY=VALUE"));
  EXPECT_THAT(complaint({"--header", "=x"}), HasSubstr("--header"));
  EXPECT_THAT(complaint({"--request-rate", "0"}), HasSubstr("--request-rate"));
  EXPECT_THAT(complaint({"--request-rate", "fast"}), AllOf(HasSubstr("inf"), HasSubstr("fast")));
  EXPECT_THAT(complaint({"--ramp-up-strategy", "linear"}), HasSubstr("--ramp-up-start-rps"));
  EXPECT_THAT(complaint({"--ramp-up-start-rps", "3"}), HasSubstr("--ramp-up-strategy"));
  EXPECT_THAT(complaint({"--ramp-up-strategy", "linear", "--ramp-up-start-rps", "3", "--ramp-up-end-rps", "2"}),
              HasSubstr("must not exceed"));
  EXPECT_THAT(complaint({"--backend", "openai-chat", "--endpoint", "/v1/completions"}), HasSubstr("--endpoint"));
  EXPECT_THAT(complaint({"--endpoint", "/v1/chat/completions"}), HasSubstr("openai-chat"));
  EXPECT_THAT(complaint({"--dataset-name", "sharegpt"}), HasSubstr("--dataset-path"));
  EXPECT_THAT(complaint({"--dataset-name", "random", "--dataset-path", "x"}), HasSubstr("--dataset-path"));
  EXPECT_THAT(complaint({"--extra-body", R"({"stream": false})"}), HasSubstr("stream"));
  EXPECT_THAT(complaint({"--max-concurrency", "0"}), HasSubstr("--max-concurrency"));
}

TEST(BenchServeFlags, ARateMayBeTheWordInf) {
  EXPECT_EQ(options({}).setup.traffic.request_rate, std::nullopt);
  EXPECT_EQ(options({"--request-rate", "inf"}).setup.traffic.request_rate, std::nullopt);
  EXPECT_EQ(options({"--burstiness", "inf"}).setup.traffic.burstiness, std::nullopt);
  EXPECT_EQ(options({}).setup.traffic.burstiness, 1.0);
}

TEST(BenchBatch, ResultsHaveVllmsKeys) {
  const Json latency = latency_json("m", {1.0, 2.0, 3.0});
  EXPECT_THAT(keys(latency), ElementsAre("model_id", "avg_latency", "latencies", "percentiles"));
  EXPECT_THAT(keys(latency["percentiles"]), ElementsAre("10", "25", "50", "75", "90", "99"));
  EXPECT_EQ(latency["avg_latency"], 2.0);
  EXPECT_EQ(latency["percentiles"]["25"], 1.5);
  const Json throughput = throughput_json("m", 4, {.seconds = 2, .prompt_tokens = 100, .output_tokens = 60});
  EXPECT_THAT(keys(throughput),
              ElementsAre("model_id", "elapsed_time", "num_requests", "total_num_tokens", "requests_per_second", "tokens_per_second"));
  EXPECT_EQ(throughput["requests_per_second"], 2.0);
  EXPECT_EQ(throughput["tokens_per_second"], 80.0);
}

}  // namespace
}  // namespace weir
