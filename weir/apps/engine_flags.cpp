#include "weir/apps/engine_flags.h"

#include <algorithm>
#include <filesystem>
#include <limits>

#include "weir/apps/speculation_flag.h"

namespace weir {
namespace {

constexpr double kInt32Max = std::numeric_limits<int32_t>::max();

std::string model_directory(const Flags& flags) {
  std::optional<std::string> model = flags.positional(0);
  if (!model) model = flags.find_text("model");
  if (!model || model->empty())
    throw UsageError("no model given: name a directory with config.json and *.safetensors, e.g. models/weir-tiny");
  std::error_code ignored;
  if (!std::filesystem::is_directory(*model, ignored))
    fail(ErrorCode::kNotFound, "model \"", *model,
         "\" is not a directory on this machine; weir serves local directories and downloads nothing",
         model->find('/') != std::string::npos && model->front() != '/' && model->front() != '.'
             ? concat(" (for a hub id: `hf download ", *model, " --local-dir DIR`, then name DIR)")
             : "");
  return *model;
}

// A misspelt key would otherwise be a setting that silently does nothing.
void check_override_keys(const Json& config) {
  static const std::vector<std::string> kKnown = {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "eos_token_id"};
  for (const auto& [key, value] : config.items())
    if (std::find(kKnown.begin(), kKnown.end(), key) == kKnown.end())
      throw UsageError(concat("--override-generation-config: unknown key \"", key,
                              "\"; known are temperature, top_p, top_k, min_p, repetition_penalty, eos_token_id"));
}

NumaMode numa_mode(const std::string& text) {
  if (text == "distribute") return NumaMode::kDistribute;
  if (text == "isolate") return NumaMode::kIsolate;
  return text == "off" ? NumaMode::kOff : NumaMode::kAuto;
}

}  // namespace

std::vector<FlagSpec> engine_flags() {
  const EngineOptions defaults;
  return {
      {.name = "model", .group = "Model", .help = "Directory of the model; the positional argument wins.", .value_name = "DIR"},
      {.name = "tokenizer", .group = "Model", .help = "Directory of the tokenizer; not given: the model's.", .value_name = "DIR"},
      {.name = "dtype",
       .group = "Model",
       .help = "Arithmetic of the weights: as stored (BF16), or float32 for comparisons with a reference.",
       .fallback = defaults.dtype,
       .choices = {"auto", "bfloat16", "float32"}},
      {.name = "quantization",
       .group = "Model",
       .help = "How the weights are stored, as a check: it is detected, and an error when it is not what is named here. ascend: "
               "quant_model_description.json; compressed-tensors, fp8: quantization_config of config.json.",
       .aliases = {"-q"},
       .choices = {"ascend", "compressed-tensors", "fp8", "none", "None"}},
      {.name = "fp8-as",
       .group = "Model",
       .help = "What the weights of an fp8 checkpoint become in memory. bfloat16: floats, as --dtype says. int8: rows of int8 with a scale "
               "each and integer products; half the bytes, and one more rounding.",
       .fallback = defaults.fp8_as,
       .choices = {"bfloat16", "int8"}},
      {.name = "compress-weights",
       .type = FlagType::kBool,
       .group = "Model",
       .help = "Keep BF16 matrices in 12 bits a weight, decoded on the way to the multipliers: the same weights and the same answers, bit "
               "for bit, in three quarters of the memory, and faster decoding, which reads all of it.",
       .fallback = defaults.compress_weights ? "true" : "false"},
      {.name = "packed-cache",
       .group = "Model",
       .help = "Directory for a copy of the weights as the kernels read them, which the next start maps instead of converting the "
               "checkpoint. It takes as much disk as the weights take memory.",
       .value_name = "DIR"},
      {.name = "max-model-len",
       .type = FlagType::kCount,
       .group = "Model",
       .help = "Most tokens of one request, prompt and answer together. auto or -1: what config.json says, lowered to what fits in memory.",
       .fallback = "auto",
       .choices = {"auto"},
       .min = -1,
       .max = kInt32Max},
      {.name = "seed",
       .type = FlagType::kInt,
       .group = "Model",
       .help = "Start of the random draws of requests that bring no seed.",
       .fallback = std::to_string(defaults.seed),
       .min = 0},
      {.name = "chat-template",
       .group = "Model",
       .help = "File or text of a Jinja chat template to use instead of the model's.",
       .value_name = "FILE|TEXT"},
      {.name = "generation-config",
       .group = "Model",
       .help = "Where sampling defaults come from. auto: generation_config.json of the model; vllm: none; else a directory.",
       .fallback = defaults.generation_config,
       .value_name = "auto|vllm|DIR"},
      {.name = "override-generation-config",
       .type = FlagType::kJson,
       .group = "Model",
       .help = "Sampling defaults that win over generation_config.json, e.g. '{\"temperature\": 0.6}'."},

      {.name = "threads",
       .type = FlagType::kInt,
       .group = "CPU",
       .help = "Compute threads; 0: one per physical core this process may use. OMP_NUM_THREADS is not read.",
       .fallback = std::to_string(defaults.threads),
       .min = 0,
       .max = 1024},
      {.name = "numa",
       .group = "CPU",
       .help = "On a machine with several NUMA nodes. distribute: threads on all of them, each with the weights it reads in its node's "
               "memory. isolate: the node with the most cores only. off: nodes are not looked at. auto: distribute.",
       .fallback = "auto",
       .choices = {"auto", "distribute", "isolate", "off"}},
      {.name = "gpu-memory-utilization",
       .type = FlagType::kNumber,
       .group = "Memory",
       .help = "Share of the memory this process may use (cgroup limits count) that the static memory plan may fill.",
       .fallback = concat(defaults.memory_utilization),
       .aliases = {"memory-utilization"},
       .min = 0.01,
       .max = 1},
      {.name = "kv-cache-dtype",
       .group = "Memory",
       .help =
           "Type of keys and values in the pages. auto: as --dtype. int8 (vLLM's int8_per_token_head): bytes with a scale per token and "
           "head, about half of bfloat16, but slower to attend to; answers differ a little, see docs/performance.md.",
       .fallback = defaults.kv_cache_dtype,
       .value_name = "TYPE"},
      {.name = "mamba-ssm-cache-dtype",
       .group = "Memory",
       .help = "Type of the delta-net states. auto: float32. bfloat16: a slot is about a quarter smaller; answers differ a little.",
       .fallback = defaults.state_dtype,
       .value_name = "TYPE"},
      {.name = "kv-cache-memory-bytes",
       .type = FlagType::kCount,
       .group = "Memory",
       .help = "Bytes for KV pages and delta-net states, instead of what --gpu-memory-utilization leaves.",
       .min = 1},

      {.name = "enable-prefix-caching",
       .type = FlagType::kBool,
       .group = "Prefix cache",
       .help = "Begin prompts behind what earlier requests have computed of them. Answers are the same, bit for bit.",
       .fallback = defaults.enable_prefix_caching ? "true" : "false"},
      {.name = "num-state-snapshots",
       .type = FlagType::kCount,
       .group = "Prefix cache",
       .help = "Delta-net states kept beside those of running requests. auto: up to a quarter of the cache's bytes.",
       .fallback = "auto",
       .choices = {"auto"},
       .min = 0,
       .max = 1 << 20},
      {.name = "prefix-cache-retention-interval",
       .type = FlagType::kCount,
       .group = "Prefix cache",
       .help = "A state is kept after this many tokens of a long prompt, too; 0: only at its end and where texts diverge.",
       .fallback = std::to_string(defaults.prefix_cache_retention_interval),
       .min = 0,
       .max = kInt32Max},

      speculation_flag(),

      {.name = "kv-offload-size",
       .type = FlagType::kCount,
       .group = "Prefix cache",
       .help = "Bytes for a second tier: pages and states that the prefix cache gives up are kept there, compressed. 0: none.",
       .fallback = "0",
       .min = 0},
      {.name = "kv-offload-dir", .group = "Prefix cache", .help = "Directory for the second tier's files. Not given: it lies in memory."},
      {.name = "kv-offload-keep",
       .type = FlagType::kBool,
       .group = "Prefix cache",
       .help = "Keep the second tier's files, and at the end all that is cached, for the next start with this model.",
       .fallback = "false"},

      {.name = "max-num-seqs",
       .type = FlagType::kCount,
       .group = "Scheduling",
       .help = "Most requests that run at once; more wait.",
       .fallback = std::to_string(defaults.max_num_seqs),
       .min = 1,
       .max = 65536},
      {.name = "max-num-batched-tokens",
       .type = FlagType::kCount,
       .group = "Scheduling",
       .help = "Token budget of one step; longer prompts are computed in chunks. Not given: chosen (2048).",
       .min = 1,
       .max = 1 << 24},
      {.name = "long-prefill-token-threshold",
       .type = FlagType::kCount,
       .group = "Scheduling",
       .help = "Most prompt tokens one request gets per step, so that long prompts do not stall the others; 0: no limit.",
       .fallback = std::to_string(defaults.long_prefill_token_threshold),
       .min = 0,
       .max = kInt32Max},
  };
}

// The value of a type's flag, in weir's spelling; names what there is for one that other servers have and weir has not.
std::string cache_type(const Flags& flags, const char* flag, const std::vector<std::string>& built) {
  std::string type = flags.text(flag);
  if (type == "int8_per_token_head") type = "int8";
  if (std::find(built.begin(), built.end(), type) != built.end()) return type;
  std::string allowed;
  for (const std::string& name : built) allowed += (allowed.empty() ? "" : ", ") + name;
  const bool known = type.starts_with("fp8") || type == "float16" || type == "half" || type == "nvfp4";
  throw UsageError(concat(known ? "not built: " : "", "--", flag, " ", type, "; it must be one of ", allowed));
}

EngineOptions engine_options(const Flags& flags) {
  EngineOptions options;
  options.model = model_directory(flags);
  options.dtype = flags.text("dtype");
  options.quantization = flags.find_text("quantization");
  options.fp8_as = flags.text("fp8-as");
  options.kv_cache_dtype = cache_type(flags, "kv-cache-dtype", {"auto", "bfloat16", "float32", "int8"});
  options.state_dtype = cache_type(flags, "mamba-ssm-cache-dtype", {"auto", "float32", "bfloat16"});
  options.compress_weights = flags.boolean("compress-weights");
  options.packed_cache = flags.find_text("packed-cache").value_or("");
  options.threads = static_cast<int>(flags.integer("threads"));
  options.numa = numa_mode(flags.text("numa"));
  const int64_t length = flags.find_integer("max-model-len").value_or(-1);  // nullopt: the word auto
  if (length == 0) throw UsageError("--max-model-len must be at least 1, or auto or -1 to choose it, got 0");
  options.max_model_len = length < 0 ? 0 : static_cast<int32_t>(length);
  options.max_num_seqs = static_cast<int32_t>(flags.integer("max-num-seqs"));
  options.max_num_batched_tokens = static_cast<int32_t>(flags.find_integer("max-num-batched-tokens").value_or(0));
  options.long_prefill_token_threshold = static_cast<int32_t>(flags.integer("long-prefill-token-threshold"));
  options.memory_utilization = flags.number("gpu-memory-utilization");
  options.kv_cache_memory_bytes = flags.find_integer("kv-cache-memory-bytes").value_or(0);
  options.enable_prefix_caching = flags.boolean("enable-prefix-caching");
  if (const auto snapshots = flags.find_integer("num-state-snapshots")) options.num_state_snapshots = static_cast<int32_t>(*snapshots);
  options.prefix_cache_retention_interval = static_cast<int32_t>(flags.integer("prefix-cache-retention-interval"));
  options.kv_offload_size = flags.integer("kv-offload-size");
  options.kv_offload_dir = flags.find_text("kv-offload-dir").value_or("");
  options.kv_offload_keep = flags.boolean("kv-offload-keep");
  if (options.kv_offload_size == 0 && !options.kv_offload_dir.empty())
    throw UsageError("--kv-offload-dir needs --kv-offload-size, the bytes that may lie there");
  if (options.kv_offload_keep && options.kv_offload_dir.empty())
    throw UsageError("--kv-offload-keep needs --kv-offload-dir, the directory to keep it in");
  if (options.kv_offload_size > 0 && !options.enable_prefix_caching)
    throw UsageError("--kv-offload-size needs the prefix cache; drop --no-enable-prefix-caching");
  options.speculation = speculation_config(flags);
  options.seed = static_cast<uint64_t>(flags.integer("seed"));
  options.generation_config = flags.text("generation-config");
  options.override_generation_config = flags.find_json("override-generation-config");
  if (options.override_generation_config) check_override_keys(*options.override_generation_config);
  options.tokenizer = flags.find_text("tokenizer");
  options.chat_template = flags.find_text("chat-template");
  return options;
}

}  // namespace weir
