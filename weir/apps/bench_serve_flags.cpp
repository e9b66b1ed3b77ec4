#include "weir/apps/bench_serve_flags.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "weir/apps/bench.h"
#include "weir/apps/bench_dataset_flags.h"

namespace weir {
namespace {

constexpr const char* kServer = "Server";
constexpr const char* kTraffic = "Traffic";
constexpr const char* kSampling = "Sampling (not given: the server decides)";
constexpr const char* kResult = "Result";

FlagSpec sampling_number(std::string name, std::string help) {
  return {.name = std::move(name), .type = FlagType::kNumber, .group = kSampling, .help = std::move(help)};
}

FlagSpec off_switch(std::string name, const char* group, std::string help) {
  return {.name = std::move(name), .type = FlagType::kBool, .group = group, .help = std::move(help), .fallback = "false"};
}

std::vector<FlagSpec> server_flags() {
  return {
      {.name = "backend",
       .group = kServer,
       .help = "openai (or vllm): /v1/completions; openai-chat: /v1/chat/completions.",
       .fallback = "openai",
       .choices = {"openai", "vllm", "openai-chat"}},
      {.name = "base-url", .group = kServer, .help = "http://HOST:PORT of the server, instead of --host and --port.", .value_name = "URL"},
      {.name = "host", .group = kServer, .help = "Host of the server.", .fallback = "127.0.0.1"},
      {.name = "port", .type = FlagType::kInt, .group = kServer, .help = "Its port.", .fallback = "8000", .min = 1, .max = 65535},
      {.name = "endpoint", .group = kServer, .help = "Path to send to. Not given: the backend's.", .value_name = "PATH"},
      {.name = "header", .type = FlagType::kTexts, .group = kServer, .help = "Headers of every request.", .value_name = "KEY=VALUE ..."},
      {.name = "model", .group = kServer, .help = "Model to ask for. Not given: the first that the server lists."},
      {.name = "served-model-name", .group = kServer, .help = "Its name in requests, where that is another."},
      {.name = "tokenizer",
       .group = kServer,
       .help = "Directory of the tokenizer. Not given: --model, where that is a directory here, else the server's /tokenize counts.",
       .value_name = "DIR"},
      {.name = "ready-check-timeout-sec",
       .type = FlagType::kInt,
       .group = kServer,
       .help = "Repeat the first request until it succeeds, for this long at most; 0: start at once.",
       .fallback = "0",
       .min = 0,
       .max = 86400},
      off_switch("profile", kServer, "Ask the server to profile itself during the run: POST /start_profile and /stop_profile."),
      off_switch("trust-remote-code", kServer, "Accepted for compatibility: no code is ever loaded from a model."),
      {.name = "tokenizer-mode", .group = kServer, .help = "Accepted for compatibility: there is one tokenizer.", .fallback = "auto"},
  };
}

std::vector<FlagSpec> traffic_flags() {
  return {
      {.name = "seed", .type = FlagType::kInt, .group = kTraffic, .help = "Start of every random choice.", .fallback = "0", .min = 0},
      {.name = "request-rate",
       .type = FlagType::kNumber,
       .group = kTraffic,
       .help = "Requests per second; inf: all at once.",
       .fallback = "inf",
       .choices = {"inf"},
       .min = 1e-6,
       .max = 1e6},
      {.name = "burstiness",
       .type = FlagType::kNumber,
       .group = kTraffic,
       .help =
           "Shape of the gamma distribution of the gaps between requests. 1: Poisson; less: in bursts; more: even; inf: all gaps the same.",
       .fallback = "1.0",
       .choices = {"inf"},
       .min = 1e-3,
       .max = 1e6},
      {.name = "max-concurrency",
       .type = FlagType::kCount,
       .group = kTraffic,
       .help = "Most requests in flight; further ones wait in this client.",
       .min = 1},
      {.name = "ramp-up-strategy",
       .group = kTraffic,
       .help = "Let the rate rise from --ramp-up-start-rps to --ramp-up-end-rps.",
       .choices = {"linear", "exponential"}},
      {.name = "ramp-up-start-rps",
       .type = FlagType::kInt,
       .group = kTraffic,
       .help = "Requests per second at first.",
       .min = 1,
       .max = 1e6},
      {.name = "ramp-up-end-rps", .type = FlagType::kInt, .group = kTraffic, .help = "Requests per second at last.", .min = 1, .max = 1e6},
      {.name = "num-warmups",
       .type = FlagType::kCount,
       .group = kTraffic,
       .help = "Requests before the measured ones, all like the first.",
       .fallback = "0",
       .min = 0,
       .max = 1'000'000},
      {.name = "request-id-prefix",
       .group = kTraffic,
       .help = "X-Request-Id of a request is this and its number. Not given: bench-, a random word, -."},
      off_switch("disable-tqdm", kTraffic, "No progress bar."),
  };
}

std::vector<FlagSpec> sampling_flags() {
  return {
      sampling_number("temperature", "0 is greedy."),
      sampling_number("top-p", "Draw from the most likely tokens of this total probability."),
      {.name = "top-k", .type = FlagType::kInt, .group = kSampling, .help = "Draw from this many most likely tokens."},
      sampling_number("min-p", "Drop tokens less likely than this share of the most likely one."),
      sampling_number("frequency-penalty", "Make tokens less likely with every use."),
      sampling_number("presence-penalty", "Make tokens less likely once used."),
      sampling_number("repetition-penalty", "Above 1: tokens seen before are less likely."),
      {.name = "logprobs", .type = FlagType::kInt, .group = kSampling, .help = "Log probabilities to ask for.", .min = 0, .max = 1000},
      off_switch("ignore-eos", kSampling, "Generate the whole length, behind the end of the text. The random dataset does so by itself."),
      {.name = "extra-body", .type = FlagType::kJson, .group = kSampling, .help = "Further fields of every request's body."},
  };
}

std::vector<FlagSpec> result_flags() {
  return {
      {.name = "percentile-metrics",
       .group = kResult,
       .help = "Metrics to report, of ttft, tpot, itl, e2el, client_queue_time and e2el_including_client_queue.",
       .fallback = "ttft,tpot,itl"},
      {.name = "metric-percentiles", .group = kResult, .help = "Percentiles of them.", .fallback = "99"},
      {.name = "goodput",
       .type = FlagType::kTexts,
       .group = kResult,
       .help = "Count requests that stay below these milliseconds, of ttft, tpot and e2el.",
       .value_name = "NAME:MS ..."},
      off_switch("save-result", kResult, "Write the result as JSON."),
      off_switch("save-detailed", kResult, "With every request's times, text and error."),
      off_switch("append-result", kResult, "Add a line to the file instead of replacing it."),
      {.name = "result-dir", .group = kResult, .help = "Where; made when missing. Not given: here.", .value_name = "DIR"},
      {.name = "result-filename", .group = kResult, .help = "Not given: LABEL-RATEqps-MODEL-DATE.json.", .value_name = "NAME"},
      {.name = "metadata",
       .type = FlagType::kTexts,
       .group = kResult,
       .help = "Fields to add to the result.",
       .value_name = "KEY=VALUE ..."},
      {.name = "label", .group = kResult, .help = "Name of this run in the result. Not given: none, and the backend in the file's name."},
  };
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> out;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    out.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

std::optional<double> to_number(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::vector<std::pair<std::string, std::string>> key_values(const Flags& flags, const char* name) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const std::string& text : flags.texts(name)) {
    const size_t equals = text.find('=');
    if (equals == 0 || equals == std::string::npos) throw UsageError(concat("--", name, " must be KEY=VALUE, got \"", text, "\""));
    out.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return out;
}

Goodput read_goodput(const Flags& flags) {
  Goodput out;
  for (const std::string& text : flags.texts("goodput")) {
    const size_t colon = text.find(':');
    const std::string name = text.substr(0, colon);
    const auto limit = colon == std::string::npos ? std::nullopt : to_number(text.substr(colon + 1));
    std::optional<double>* into = name == "ttft" ? &out.ttft_ms : name == "tpot" ? &out.tpot_ms : name == "e2el" ? &out.e2el_ms : nullptr;
    if (into == nullptr || !limit || *limit < 0)
      throw UsageError(concat("--goodput must be ttft:MS, tpot:MS or e2el:MS with MS of at least 0, got \"", text, "\""));
    *into = limit;
  }
  return out;
}

std::vector<std::string> read_metrics(const Flags& flags) {
  const auto known = known_percentile_metrics();
  std::vector<std::string> out = split(flags.text("percentile-metrics"), ',');
  for (const std::string& name : out)
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      std::string all;
      for (const std::string& one : known) all += (all.empty() ? "" : ", ") + one;
      throw UsageError(concat("--percentile-metrics knows ", all, "; got \"", name, "\""));
    }
  return out;
}

std::vector<double> read_percentiles(const Flags& flags) {
  std::vector<double> out;
  for (const std::string& text : split(flags.text("metric-percentiles"), ',')) {
    const auto value = to_number(text);
    if (!value || *value < 0 || *value > 100)
      throw UsageError(concat("--metric-percentiles must be numbers from 0 to 100, got \"", text, "\""));
    out.push_back(*value);
  }
  return out;
}

Traffic read_traffic(const Flags& flags) {
  Traffic out;
  out.request_rate = flags.find_number("request-rate");
  out.burstiness = flags.find_number("burstiness");
  const auto start = flags.find_integer("ramp-up-start-rps"), end = flags.find_integer("ramp-up-end-rps");
  if (const auto strategy = flags.find_text("ramp-up-strategy")) {
    if (out.request_rate) throw UsageError("--ramp-up-strategy sets the rate; leave --request-rate out");
    if (!start || !end) throw UsageError("--ramp-up-strategy needs --ramp-up-start-rps and --ramp-up-end-rps");
    if (*start > *end) throw UsageError(concat("--ramp-up-start-rps ", *start, " must not exceed --ramp-up-end-rps ", *end));
    out.ramp_up = RampUp{*strategy, *start, *end};
  } else if (start || end) {
    throw UsageError("--ramp-up-start-rps and --ramp-up-end-rps need --ramp-up-strategy linear or exponential");
  }
  return out;
}

LoadTarget read_target(const Flags& flags, const std::string& api_key) {
  LoadTarget out;
  const bool chat = flags.text("backend") == "openai-chat";
  out.api = chat ? BenchApi::kChat : BenchApi::kCompletions;
  const std::string host = flags.text("host");
  const bool v6 = host.find(':') != std::string::npos && !host.starts_with('[');
  out.url = flags.find_text("base-url").value_or(concat("http://", v6 ? "[" : "", host, v6 ? "]:" : ":", flags.integer("port")));
  out.path = flags.find_text("endpoint").value_or(chat ? "/v1/chat/completions" : "/v1/completions");
  const bool is_path =
      out.path.starts_with('/') && std::all_of(out.path.begin(), out.path.end(), [](unsigned char c) { return c > 0x20 && c != 0x7f; });
  const bool fits = out.path.ends_with(chat ? "chat/completions" : "completions") && (chat || !out.path.ends_with("chat/completions"));
  if (!is_path || !fits)
    throw UsageError(concat("--endpoint of --backend ", flags.text("backend"), " must be a path that ends in ",
                            chat ? "/chat/completions" : "/completions (for chat: --backend openai-chat)", ", got \"", out.path, "\""));
  if (!api_key.empty()) out.headers.emplace_back("Authorization", "Bearer " + api_key);
  for (auto& [name, value] : key_values(flags, "header")) out.headers.emplace_back(std::move(name), std::move(value));
  return out;
}

Json read_body(const Flags& flags, bool chat) {
  Json out = Json::object();
  // As vLLM's client: completions ask for no penalty, whatever the model's own settings say.
  if (!chat) out["repetition_penalty"] = 1.0;
  if (const auto logprobs = flags.find_integer("logprobs")) {
    if (chat)
      out["logprobs"] = true, out["top_logprobs"] = *logprobs;
    else
      out["logprobs"] = *logprobs;
  }
  out["stream"] = true;
  out["stream_options"] = Json{{"include_usage", true}};
  if (flags.boolean("ignore-eos") || dataset_name(flags) == "random") out["ignore_eos"] = true;
  for (const auto& [name, field] : {std::pair{"temperature", "temperature"},
                                    {"top-p", "top_p"},
                                    {"min-p", "min_p"},
                                    {"frequency-penalty", "frequency_penalty"},
                                    {"presence-penalty", "presence_penalty"},
                                    {"repetition-penalty", "repetition_penalty"}})
    if (const auto value = flags.find_number(name)) out[field] = *value;
  if (const auto value = flags.find_integer("top-k")) out["top_k"] = *value;
  if (const auto extra = flags.find_json("extra-body")) out.update(*extra);
  if (out["stream"] != true) throw UsageError("--extra-body: \"stream\" must stay true, answers are measured as they stream");
  return out;
}

}  // namespace

const CommandSpec& bench_serve_command() {
  static const CommandSpec command = [] {
    CommandSpec out;
    out.name = "bench serve";
    out.summary = "Sends requests to an OpenAI server and measures its answers.";
    for (auto part : {server_flags(), dataset_flags(), traffic_flags(), sampling_flags(), result_flags()})
      out.flags.insert(out.flags.end(), part.begin(), part.end());
    out.epilogue =
        "\nexamples\n"
        "  weir bench serve --dataset-name random --random-input-len 128 --random-output-len 64 --num-prompts 32 --max-concurrency 8\n"
        "  weir bench serve --backend openai-chat --dataset-name custom --dataset-path questions.jsonl --request-rate 2 --save-result\n";
    return out;
  }();
  return command;
}

BenchServeOptions bench_serve_options(const Flags& flags, const std::string& api_key) {
  BenchServeOptions out;
  out.target = read_target(flags, api_key);
  out.seed = static_cast<uint64_t>(flags.integer("seed"));
  out.model = flags.find_text("model");
  out.served_name = flags.find_text("served-model-name");
  out.tokenizer = flags.find_text("tokenizer");
  out.body = read_body(flags, out.target.api == BenchApi::kChat);
  out.goodput = read_goodput(flags);

  out.setup.backend = flags.text("backend");
  out.setup.label = flags.find_text("label");
  out.setup.num_prompts = flags.integer("num-prompts");
  out.setup.metadata = key_values(flags, "metadata");
  out.setup.traffic = read_traffic(flags);
  out.setup.max_concurrency = flags.find_integer("max-concurrency");
  out.setup.goodput_asked = out.goodput.asked();
  out.setup.percentile_metrics = read_metrics(flags);
  out.setup.percentiles = read_percentiles(flags);

  out.save.append = flags.boolean("append-result");
  out.save.save = flags.boolean("save-result") || out.save.append;
  out.save.detailed = flags.boolean("save-detailed");
  out.save.directory = flags.find_text("result-dir").value_or("");
  out.save.filename = flags.find_text("result-filename");
  out.num_warmups = flags.integer("num-warmups");
  out.ready_timeout = std::chrono::seconds(flags.integer("ready-check-timeout-sec"));
  out.profile = flags.boolean("profile");
  out.progress = !flags.boolean("disable-tqdm");
  out.target.request_id_prefix = flags.find_text("request-id-prefix").value_or("");
  return out;
}

}  // namespace weir
