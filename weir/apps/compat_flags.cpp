#include "weir/apps/compat_flags.h"

#include <algorithm>
#include <functional>

#include "weir/base/log.h"

namespace weir {
namespace {

using Remark = std::optional<CompatRemark>;

struct Row {
  FlagSpec spec;
  std::function<Remark(const Flags&)> review;  // called when the flag was given
};

Remark note(const std::string& text) { return CompatRemark{CompatVerdict::kNote, text}; }
Remark warn(const std::string& text) { return CompatRemark{CompatVerdict::kWarn, text}; }
Remark refuse(const std::string& text) { return CompatRemark{CompatVerdict::kRefuse, text}; }

std::function<Remark(const Flags&)> always(const Remark& remark) {
  return [remark](const Flags&) { return remark; };
}

// A switch that only says something when it is on.
std::function<Remark(const Flags&)> when_on(const std::string& name, const Remark& remark) {
  return [name, remark](const Flags& flags) { return flags.boolean(name) ? remark : std::nullopt; };
}

// Sizes of groups: one is what weir has.
std::function<Remark(const Flags&)> only_one(const std::string& name, const std::string& what) {
  return [name, what](const Flags& flags) -> Remark {
    if (flags.integer(name) == 1) return std::nullopt;
    return refuse(concat("not built: ", what, "; weir serves with one rank, so --", name, " must be 1, got ", flags.integer(name)));
  };
}

Remark review_additional_config(const Flags& flags) {
  const Json config = flags.find_json("additional-config").value_or(Json::object());
  std::string ignored;
  for (const auto& [key, value] : config.items())
    if (key != "enable_cpu_binding") ignored += (ignored.empty() ? "" : ", ") + key;
  return note(concat("--additional-config: compute threads are ", wants_cpu_binding(flags) ? "" : "not ",
                     "bound to cores (enable_cpu_binding)",
                     ignored.empty() ? "" : concat("; without effect on a CPU with one rank: ", ignored)));
}

// What a graph saves on an accelerator, launches and allocations, does not exist here: a decode step allocates nothing (tests/hot_path),
// and what it does outside of its kernels is in docs/performance.md. So every mode is the same; a misspelt one is an error all the same.
Remark review_compilation_config(const Flags& flags) {
  static const std::vector<std::string> kModes = {"NONE", "PIECEWISE", "FULL", "FULL_DECODE_ONLY", "FULL_AND_PIECEWISE"};
  const Json config = flags.find_json("compilation-config").value_or(Json::object());
  std::string mode;
  if (const auto given = config.find("cudagraph_mode"); given != config.end() && !given->is_null()) {
    const bool known = given->is_string() && std::find(kModes.begin(), kModes.end(), given->get<std::string>()) != kModes.end();
    if (!known)
      return refuse(
          concat("--compilation-config: cudagraph_mode must be NONE, PIECEWISE, FULL, FULL_DECODE_ONLY or FULL_AND_PIECEWISE, got ",
                 dump_json(*given)));
    mode = concat("cudagraph_mode ", given->get<std::string>(), ": ");
  }
  return note(concat("--compilation-config: ", mode,
                     "kernels are compiled ahead of time, and a step reuses the memory of the one before and allocates nothing; there is "
                     "nothing left for a graph to save"));
}

FlagSpec boolean(std::string name, std::string help, std::string group = "Accepted for compatibility") {
  return {.name = std::move(name), .type = FlagType::kBool, .group = std::move(group), .help = std::move(help), .fallback = "false"};
}

constexpr const char* kParallel = "Parallelism (one rank is built)";
constexpr const char* kAccepted = "Accepted for compatibility";

std::vector<Row> parallel_rows() {
  const auto one_engine = [](const std::string& name) {
    return always(note(concat("--", name, " has nothing to do with one engine in this process")));
  };
  return {
      {{.name = "tensor-parallel-size",
        .type = FlagType::kInt,
        .group = kParallel,
        .help = "Ranks that share every matrix.",
        .fallback = "1",
        .aliases = {"-tp"},
        .min = 1},
       only_one("tensor-parallel-size", "tensor parallelism")},
      {{.name = "pipeline-parallel-size",
        .type = FlagType::kInt,
        .group = kParallel,
        .help = "Ranks that share the layers.",
        .fallback = "1",
        .aliases = {"-pp"},
        .min = 1},
       only_one("pipeline-parallel-size", "pipeline parallelism")},
      {{.name = "data-parallel-size",
        .type = FlagType::kInt,
        .group = kParallel,
        .help = "Engines behind one address.",
        .fallback = "1",
        .aliases = {"-dp"},
        .min = 1},
       only_one("data-parallel-size", "data parallelism")},
      {{.name = "data-parallel-size-local",
        .type = FlagType::kInt,
        .group = kParallel,
        .help = "Engines on this machine.",
        .fallback = "1",
        .aliases = {"-dpl"},
        .min = 0},
       only_one("data-parallel-size-local", "data parallelism")},
      {{.name = "data-parallel-start-rank",
        .type = FlagType::kInt,
        .group = kParallel,
        .help = "First engine on this machine.",
        .fallback = "0",
        .aliases = {"-dpr"},
        .min = 0},
       [](const Flags& flags) -> Remark {
         if (flags.integer("data-parallel-start-rank") == 0) return std::nullopt;
         return refuse(
             concat("not built: data parallelism; --data-parallel-start-rank must be 0, got ", flags.integer("data-parallel-start-rank")));
       }},
      {{.name = "data-parallel-address",
        .group = kParallel,
        .help = "Where the first machine listens for the others.",
        .aliases = {"-dpa"}},
       one_engine("data-parallel-address")},
      {{.name = "data-parallel-rpc-port",
        .type = FlagType::kInt,
        .group = kParallel,
        .help = "Port for that.",
        .aliases = {"-dpp"},
        .min = 1,
        .max = 65535},
       one_engine("data-parallel-rpc-port")},
      {boolean("data-parallel-hybrid-lb", "Balance over the engines of this machine only.", kParallel),
       when_on("data-parallel-hybrid-lb", refuse("not built: data parallelism (--data-parallel-hybrid-lb)"))},
      {{.name = "api-server-count",
        .type = FlagType::kInt,
        .group = kParallel,
        .help = "Processes that serve HTTP.",
        .fallback = "1",
        .min = 0},
       [](const Flags& flags) -> Remark {
         if (flags.integer("api-server-count") <= 1) return std::nullopt;
         return note("--api-server-count: one process serves HTTP with threads of its own");
       }},
      {boolean("headless", "Engines without an HTTP server.", kParallel),
       when_on("headless", refuse("not built: engines on further machines (--headless)"))},
      {boolean("enable-expert-parallel", "Spread experts over the ranks.", kParallel),
       when_on("enable-expert-parallel", note("--enable-expert-parallel: one rank holds all experts"))},
      {{.name = "distributed-executor-backend",
        .group = kParallel,
        .help = "How ranks are started.",
        .choices = {"mp", "uni", "ray", "external_launcher"}},
       always(note("--distributed-executor-backend: the one rank runs inside this process"))},
      {{.name = "kv-transfer-config", .type = FlagType::kJson, .group = kParallel, .help = "Moving KV between prefill and decode servers."},
       always(refuse("not built: prefill/decode disaggregation (--kv-transfer-config)"))},
  };
}

std::vector<Row> feature_rows() {
  return {
      {boolean("enable-auto-tool-choice", "Parsed tool calls. Not built yet: they stay in the text."),
       when_on("enable-auto-tool-choice",
               warn("--enable-auto-tool-choice: tool-call parsing is not built yet; calls stay in the answer's text"))},
      {{.name = "tool-call-parser", .group = kAccepted, .help = "Format of tool calls, for --enable-auto-tool-choice."},
       always(std::nullopt)},
  };
}

std::vector<Row> harmless_rows() {
  return {
      {boolean("trust-remote-code", "weir never runs code of a model."),
       when_on("trust-remote-code", note("--trust-remote-code: weir never runs code of a model"))},
      {boolean("enforce-eager", "No graphs: weir captures none, see --compilation-config."),
       when_on("enforce-eager", note("--enforce-eager: weir captures no graphs, its steps are the same with and without"))},
      {{.name = "compilation-config",
        .type = FlagType::kJson,
        .group = kAccepted,
        .help = "Graphs of steps. A CPU needs none: steps reuse memory and plan in microseconds, whatever cudagraph_mode says.",
        .aliases = {"-cc", "-O"}},
       review_compilation_config},
      {{.name = "additional-config",
        .type = FlagType::kJson,
        .group = kAccepted,
        .help = "Switches of vllm-ascend; enable_cpu_binding false leaves threads unbound."},
       review_additional_config},
      {boolean("async-scheduling", "Planning beside the device."),
       when_on("async-scheduling", note("--async-scheduling: on a CPU, outputs are handed out while the next step runs; planning takes "
                                        "microseconds (weir:engine_gap_seconds_total)"))},
      {boolean("enable-chunked-prefill", "Always on."),
       [](const Flags& flags) -> Remark {
         return flags.boolean("enable-chunked-prefill")
                    ? std::nullopt
                    : warn("--no-enable-chunked-prefill: prompts above --max-num-batched-tokens are always computed in chunks");
       }},
      {boolean("disable-hybrid-kv-cache-manager", "weir always keeps KV pages and delta-net states apart."),
       always(note("--disable-hybrid-kv-cache-manager, --no-…: KV pages and delta-net states always have pools of their own"))},
      {{.name = "block-size", .type = FlagType::kInt, .group = kAccepted, .help = "KV pages hold 16 tokens.", .min = 1},
       [](const Flags& flags) -> Remark {
         return flags.integer("block-size") == 16 ? std::nullopt
                                                  : note("--block-size: KV pages hold 16 tokens whatever the delta-net state weighs");
       }},
      {{.name = "load-format", .group = kAccepted, .help = "Weights are read from safetensors.", .choices = {"auto", "safetensors"}},
       always(std::nullopt)},
      {boolean("language-model-only", "Vision weights are not loaded."), always(std::nullopt)},
      {boolean("disable-log-stats", "weir writes no statistics to the log."), always(std::nullopt)},
  };
}

const std::vector<Row>& rows() {
  static const std::vector<Row> all = [] {
    std::vector<Row> out = parallel_rows();
    for (auto more : {feature_rows(), harmless_rows()}) out.insert(out.end(), more.begin(), more.end());
    return out;
  }();
  return all;
}

}  // namespace

std::vector<FlagSpec> compat_flags() {
  std::vector<FlagSpec> out;
  for (const Row& row : rows()) out.push_back(row.spec);
  return out;
}

std::vector<CompatRemark> review_compat_flags(const Flags& flags) {
  std::vector<CompatRemark> out;
  for (const Row& row : rows())
    if (flags.given(row.spec.name))
      if (const Remark remark = row.review(flags)) out.push_back(*remark);
  return out;
}

bool wants_cpu_binding(const Flags& flags) {
  const auto config = flags.find_json("additional-config");
  if (!config) return true;
  const auto binding = config->find("enable_cpu_binding");
  if (binding == config->end() || binding->is_null()) return true;
  if (!binding->is_boolean())
    throw UsageError(concat("--additional-config: enable_cpu_binding must be true or false, got ", dump_json(*binding)));
  return binding->get<bool>();
}

void apply_compat_flags(const Flags& flags) {
  std::string refusals;
  for (const CompatRemark& remark : review_compat_flags(flags)) {
    switch (remark.verdict) {
      case CompatVerdict::kNote: log_info(remark.text); break;
      case CompatVerdict::kWarn: log_warning(remark.text); break;
      case CompatVerdict::kRefuse: refusals += (refusals.empty() ? "" : "; ") + remark.text; break;
    }
  }
  if (!refusals.empty()) throw UsageError(refusals);
}

}  // namespace weir
