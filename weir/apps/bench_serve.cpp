// `weir bench serve`: prompts, requests, answers, numbers. vLLM's client of the same name, without Python.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "weir/apps/bench.h"
#include "weir/apps/bench_dataset_flags.h"
#include "weir/apps/bench_serve_flags.h"
#include "weir/apps/commands.h"
#include "weir/apps/progress_bar.h"
#include "weir/apps/terminal.h"
#include "weir/base/log.h"
#include "weir/server/http_client.h"

namespace weir {
namespace {

using WallClock = std::chrono::system_clock;

constexpr size_t kMaxErrorsShown = 10;

std::string local_time(WallClock::time_point at, const char* format) {
  const std::time_t seconds = WallClock::to_time_t(at);
  std::tm parts{};
  localtime_r(&seconds, &parts);
  char text[64];
  return {text, std::strftime(text, sizeof text, format, &parts)};
}

std::string iso_time(WallClock::time_point at) {
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(at.time_since_epoch()).count() % 1'000'000;
  char fraction[16];
  std::snprintf(fraction, sizeof fraction, ".%06d", static_cast<int>(micros));
  return local_time(at, "%Y-%m-%dT%H:%M:%S") + fraction;
}

bool is_directory(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

Json get_json(HttpClient& client, const char* path) {
  const HttpResponse response = client.get(path);
  if (!response.ok()) fail(ErrorCode::kUnavailable, "GET ", path, ": HTTP ", response.status);
  return parse_json(response.body, path);
}

// The first model the server lists; `root` is where vLLM and weir say they loaded it from.
struct ListedModel {
  std::string id, root;
};

ListedModel first_model(HttpClient& client) {
  const Json models = get_json(client, "/v1/models");
  const auto data = models.is_object() ? models.find("data") : models.end();
  if (data == models.end() || !data->is_array() || data->empty() || !(*data)[0].is_object() || !(*data)[0].contains("id") ||
      !(*data)[0]["id"].is_string())
    fail(ErrorCode::kUnavailable, "GET /v1/models: no model in the answer; give --model");
  const Json& first = (*data)[0];
  ListedModel out{.id = first["id"].get<std::string>(), .root = {}};
  const auto root = first.find("root");
  out.root = root != first.end() && root->is_string() ? root->get<std::string>() : out.id;
  return out;
}

int32_t ask_tokenize(HttpClient& client, const std::string& model, std::string_view text) {
  Json body = Json::object();
  body["model"] = model;
  body["prompt"] = std::string(text);
  body["add_special_tokens"] = false;
  const HttpResponse response = client.post("/tokenize", dump_json(body));
  if (!response.ok()) fail(ErrorCode::kUnavailable, "POST /tokenize: HTTP ", response.status);
  const Json answer = parse_json(response.body, "/tokenize");
  const auto tokens = answer.is_object() ? answer.find("tokens") : answer.end();
  if (tokens == answer.end() || !tokens->is_array()) fail(ErrorCode::kUnavailable, "POST /tokenize: no \"tokens\" in the answer");
  return static_cast<int32_t>(tokens->size());
}

// Whose tokens are counted: a tokenizer of this machine or the server's; nobody's, if neither is there.
TokenCounter find_tokenizer(const BenchServeOptions& options, const std::string& request_model, HttpClient& client) {
  const std::string& id = options.setup.tokenizer_id;
  if (is_directory(id)) return count_locally(Tokenizer::load(id));
  if (options.tokenizer) log_warning("--tokenizer ", id, " is not a directory on this machine: the server's /tokenize counts");
  try {
    ask_tokenize(client, request_model, "a");
  } catch (const Error& error) {
    log_warning("no tokenizer: \"", id, "\" is no directory on this machine, and the server does not count (", error.what(), ")");
    return {};
  }
  return count_remotely([&client, request_model](std::string_view text) { return ask_tokenize(client, request_model, text); });
}

// The chat template that belongs to a tokenizer of this machine, for completions; a chat server has its own.
WrapMessage find_wrap(const Flags& flags, const BenchServeOptions& options) {
  if (dataset_name(flags) != "custom" || options.target.api == BenchApi::kChat || flags.boolean("skip-chat-template")) return {};
  std::shared_ptr<const ChatTemplate> chat_template;
  try {
    chat_template = std::make_shared<const ChatTemplate>(ChatTemplate::load(options.setup.tokenizer_id));
  } catch (const Error& error) {
    if (error.code != ErrorCode::kNotFound) throw;
    log_warning("no chat template on this machine for ", options.setup.tokenizer_id, ": prompts are sent as they are");
    return {};
  }
  return [chat_template, extra = flags.find_json("chat-template-kwargs").value_or(Json::object())](const std::string& message) {
    Json variables = extra;
    variables["messages"] = Json::array({Json{{"role", "user"}, {"content", message}}});
    variables["add_generation_prompt"] = true;
    return chat_template->render(variables);
  };
}

std::string request_body(const BenchServeOptions& options, const std::string& model, const BenchPrompt& prompt) {
  Json body = Json::object();
  body["model"] = model;
  if (options.target.api == BenchApi::kChat) {
    body["messages"] = Json::array({Json{{"role", "user"}, {"content", prompt.text}}});
    body["max_completion_tokens"] = prompt.output_tokens;
  } else {
    body["prompt"] = prompt.text;
    body["max_tokens"] = prompt.output_tokens;
  }
  body.update(options.body);
  return dump_json(body);
}

void wait_until_ready(const BenchServeOptions& options, const LoadRequest& first) {
  if (options.ready_timeout.count() == 0) return;
  const auto end = std::chrono::steady_clock::now() + options.ready_timeout;
  const LoadRequest request{first.body, 0};
  for (;;) {
    const LoadResult result = run_load(options.target, {&request, 1}, std::nullopt, [] {});
    if (result.answers[0].ok()) return;
    if (std::chrono::steady_clock::now() >= end)
      fail(ErrorCode::kUnavailable, "the server did not answer the first request within ", options.ready_timeout.count(),
           " s (--ready-check-timeout-sec): ", result.answers[0].error);
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  }
}

void warm_up(const BenchServeOptions& options, const LoadRequest& first, bool bar_visible) {
  if (options.num_warmups == 0) return;
  const std::vector<LoadRequest> requests(static_cast<size_t>(options.num_warmups), LoadRequest{first.body, 0});
  ProgressBar bar("Warming up", options.num_warmups, bar_visible);
  const LoadResult result = run_load(options.target, requests, options.setup.max_concurrency, [&] { bar.advance(1); });
  const auto failed = std::find_if(result.answers.begin(), result.answers.end(), [](const BenchAnswer& answer) { return !answer.ok(); });
  if (failed != result.answers.end()) log_warning("a warm-up request failed: ", printable(failed->error));
}

// What a server without these endpoints says is no reason not to measure it.
void set_profiling(const BenchServeOptions& options, HttpClient& client, const char* path) {
  if (!options.profile) return;
  const HttpResponse response = client.post(path, "{}");
  if (!response.ok()) log_warning("--profile: POST ", path, ": HTTP ", response.status, "; the server did not profile");
}

std::optional<SpeculationCounters> speculation_counters(HttpClient& client) {
  try {
    const HttpResponse response = client.get("/metrics");
    return response.ok() ? read_speculation_counters(response.body) : std::nullopt;
  } catch (const Error&) {
    return std::nullopt;  // a server need not have metrics
  }
}

// What the server did not count is counted here; without a tokenizer an event is taken for a token.
void complete_counts(std::vector<BenchAnswer>& answers, const std::vector<BenchPrompt>& prompts, const TokenCounter& tokens) {
  for (size_t i = 0; i < answers.size(); ++i) {
    BenchAnswer& answer = answers[i];
    if (answer.input_tokens == 0) answer.input_tokens = prompts[i].input_tokens;
    if (answer.output_tokens == 0 && answer.ok())
      answer.output_tokens = tokens.count ? tokens.count(answer.text) : static_cast<int32_t>(answer.itl_s.size() + 1);
  }
}

Json rate_changes_json(const std::vector<RateChange>& changes, WallClock::time_point begin) {
  if (changes.empty()) return nullptr;
  Json out = Json::array();
  for (const RateChange& change : changes) {
    const auto after = std::chrono::duration_cast<WallClock::duration>(std::chrono::duration<double>(change.at_s));
    out.push_back(Json{{"rps", change.rps}, {"timestamp", iso_time(begin + after)}});
  }
  return out;
}

void save(const BenchServeOptions& options, const Json& result) {
  std::filesystem::path path = options.save.filename.value_or(result_filename(options.setup));
  if (!options.save.directory.empty()) {
    std::error_code error;
    std::filesystem::create_directories(options.save.directory, error);
    if (error) fail(ErrorCode::kInvalidArgument, "--result-dir ", options.save.directory, ": ", error.message());
    path = std::filesystem::path(options.save.directory) / path;
  }
  std::error_code ignored;
  const bool more = options.save.append && std::filesystem::file_size(path, ignored) > 0 && !ignored;
  std::ofstream file(path, options.save.append ? std::ios::app : std::ios::trunc);
  file << (more ? "\n" : "") << dump_json(result);
  file.flush();
  if (!file) fail(ErrorCode::kInvalidArgument, "cannot write ", path.string(), " (--result-dir, --result-filename)");
  log_info("Result written to ", path.string());
}

std::string random_id_prefix() {
  char text[32];
  std::snprintf(text, sizeof text, "bench-%08x-", std::random_device{}());
  return text;
}

}  // namespace

int run_bench_serve(std::span<const std::string> args) {
  const auto flags = parse_or_help(bench_serve_command(), args);
  if (!flags) return 0;
  const char* key = std::getenv("OPENAI_API_KEY");
  const std::string api_key = key == nullptr ? "" : key;
  BenchServeOptions options = bench_serve_options(*flags, api_key);
  if (options.target.request_id_prefix.empty()) options.target.request_id_prefix = random_id_prefix();
  HttpClient client(options.target.url, api_key);

  std::string request_model = options.served_name.value_or(options.model.value_or(""));
  options.setup.model_id = options.model.value_or("");
  if (!options.model) {
    const ListedModel listed = first_model(client);
    options.setup.model_id = listed.root;
    if (request_model.empty()) request_model = listed.id;
    log_info("Model of the server: ", printable(request_model));
  }
  options.setup.tokenizer_id = options.tokenizer.value_or(options.setup.model_id);
  const TokenCounter tokens = find_tokenizer(options, request_model, client);
  const std::vector<BenchPrompt> prompts = make_prompts(*flags, options.seed, tokens, find_wrap(*flags, options));
  const Arrivals arrivals = plan_arrivals(static_cast<int64_t>(prompts.size()), options.setup.traffic, options.seed);
  std::vector<LoadRequest> requests;
  for (size_t i = 0; i < prompts.size(); ++i) requests.push_back({request_body(options, request_model, prompts[i]), arrivals.at_s[i]});

  const bool bar_visible = options.progress && is_terminal(STDERR_FILENO);
  wait_until_ready(options, requests[0]);
  warm_up(options, requests[0], bar_visible);
  set_profiling(options, client, "/start_profile");
  const auto before = speculation_counters(client);
  log_info("Sending ", requests.size(), " requests to ", options.target.url, options.target.path);
  const auto begin = WallClock::now();
  LoadResult load;
  {
    ProgressBar bar("Requests", static_cast<int64_t>(requests.size()), bar_visible);
    load = run_load(options.target, requests, options.setup.max_concurrency, [&] { bar.advance(1); });
  }
  ServeResult result;
  result.speculation = speculation_between(before, speculation_counters(client));
  set_profiling(options, client, "/stop_profile");

  complete_counts(load.answers, prompts, tokens);
  result.metrics = measure(load.answers, load.duration_s, options.goodput);
  result.rate_changes = rate_changes_json(arrivals.rate_changes, begin);
  options.setup.date = local_time(WallClock::now(), "%Y%m%d-%H%M%S");
  size_t shown = 0;
  for (const BenchAnswer& answer : load.answers)
    if (!answer.ok() && shown++ < kMaxErrorsShown) log_error("a request failed: ", printable(answer.error));
  std::fputs(serve_report(options.setup, result).c_str(), stdout);
  if (options.save.save) save(options, serve_result_json(options.setup, result, load.answers, options.save.detailed));
  if (result.metrics.completed == 0) fail(ErrorCode::kUnavailable, "all ", result.metrics.failed, " requests failed");
  return 0;
}

}  // namespace weir
