#include "weir/apps/local_engine.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <future>
#include <iomanip>
#include <random>
#include <sstream>
#include <type_traits>
#include <utility>

#include "weir/apps/progress_bar.h"
#include "weir/apps/version.h"
#include "weir/base/error.h"
#include "weir/base/json.h"
#include "weir/base/log.h"
#include "weir/engine/engine.h"
#include "weir/kernels/cpu/isa.h"
#include "weir/models/qwen3_5.h"
#include "weir/nn/stored_linear.h"
#include "weir/runtime/memory_plan.h"
#include "weir/runtime/model_runner.h"

namespace weir {
namespace {

constexpr int32_t kDefaultBatchedTokens = 2048;

DType compute_type(const std::string& dtype) {
  if (dtype == "auto" || dtype == "bfloat16") return DType::kBF16;
  if (dtype == "float32" || dtype == "float") return DType::kF32;
  fail(ErrorCode::kInvalidArgument, "--dtype must be auto, bfloat16 or float32, got \"", dtype, "\"");
}

CacheTypes cache_types(const EngineOptions& options, DType compute) {
  const std::string &kv = options.kv_cache_dtype, &state = options.state_dtype;
  CacheTypes out{.kv = compute};
  if (kv == "bfloat16")
    out.kv = DType::kBF16;
  else if (kv == "float32")
    out.kv = DType::kF32;
  else if (kv == "int8")
    out.kv = DType::kI8;
  else if (kv != "auto")
    fail(ErrorCode::kInvalidArgument, "--kv-cache-dtype must be auto, bfloat16, float32 or int8, got \"", kv, "\"");
  if (state == "bfloat16")
    out.state = DType::kBF16;
  else if (state != "auto" && state != "float32")
    fail(ErrorCode::kInvalidArgument, "--mamba-ssm-cache-dtype must be auto, float32 or bfloat16, got \"", state, "\"");
  return out;
}

Fp8As fp8_as(const EngineOptions& options) {
  if (options.fp8_as == "bfloat16") return Fp8As::kFloat;
  if (options.fp8_as == "int8") return Fp8As::kInt8;
  fail(ErrorCode::kInvalidArgument, "--fp8-as must be bfloat16 or int8, got \"", options.fp8_as, "\"");
}

// generation_config.json as --generation-config says, with --override-generation-config on top; an empty object when there is none.
Json read_generation_config(const EngineOptions& options) {
  Json config = Json::object();
  if (options.generation_config != "vllm") {
    const std::string dir = options.generation_config == "auto" ? options.model : options.generation_config;
    const std::string file = dir + "/generation_config.json";
    if (std::filesystem::exists(file)) {
      config = read_json_file(file);
      if (!config.is_object()) fail(ErrorCode::kInvalidArgument, file, ": must be a JSON object");
    } else if (options.generation_config != "auto") {
      fail(ErrorCode::kNotFound, "--generation-config ", options.generation_config, ": there is no generation_config.json");
    }
  }
  if (options.override_generation_config) config.update(*options.override_generation_config);
  return config;
}

SamplingParams default_sampling(const Json& config, int32_t vocab_size) {
  SamplingParams p;
  const auto number = [&](const char* name, auto& field) {
    const auto it = config.find(name);
    if (it == config.end() || it->is_null()) return;
    using Value = std::remove_reference_t<decltype(field)>;
    bool fits = it->is_number();
    if constexpr (std::is_integral_v<Value>) fits = it->is_number_integer() && std::in_range<Value>(it->template get<int64_t>());
    if (!fits)
      fail(ErrorCode::kInvalidArgument, "generation_config.json: \"", name, "\" must be ",
           std::is_integral_v<Value> ? "an integer" : "a number", ", got ", dump_json(*it));
    field = it->template get<Value>();
  };
  number("temperature", p.temperature);
  number("top_p", p.top_p);
  number("top_k", p.top_k);
  number("min_p", p.min_p);
  number("repetition_penalty", p.repetition_penalty);
  p.top_k = std::max(p.top_k, 0);
  try {
    validate(p, vocab_size);
  } catch (const Error& error) {
    fail(error.code, "generation_config.json: ", error.what());
  }
  return p;
}

std::vector<int32_t> eos_ids(const Json& generation_config, const ModelConfig& model) {
  const auto it = generation_config.find("eos_token_id");
  if (it == generation_config.end() || it->is_null()) return model.eos_token_ids;
  std::vector<int32_t> ids;
  for (const Json& id : it->is_array() ? *it : Json::array({*it})) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= model.vocab_size)
      fail(ErrorCode::kInvalidArgument, "generation_config.json: \"eos_token_id\" must hold ids in [0, ", model.vocab_size - 1, "], got ",
           dump_json(id));
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

std::shared_ptr<const ChatTemplate> read_chat_template(const EngineOptions& options) {
  if (options.chat_template) {
    const std::string& given = *options.chat_template;
    // As vLLM: a path, or the template itself (which no path looks like).
    if (given.find('{') == std::string::npos) return std::make_shared<const ChatTemplate>(read_file(given, int64_t{4} << 20), given);
    return std::make_shared<const ChatTemplate>(given, "--chat-template");
  }
  try {
    return std::make_shared<const ChatTemplate>(ChatTemplate::load(options.model));
  } catch (const Error& error) {
    if (error.code != ErrorCode::kNotFound) throw;
    return nullptr;  // a base model: chat requests are refused, completions work
  }
}

ops::WeightCoding coding(DType compute, const EngineOptions& options) {
  return compute == DType::kBF16 && options.compress_weights ? ops::WeightCoding::kTwelveBits : ops::WeightCoding::kPlain;
}

std::string mebibytes(int64_t bytes) { return concat(bytes >> 20, " MiB"); }

// Before anything is read: what the flags say and what weir computes.
void check_quantization(const Checkpoint& checkpoint, DType compute, const EngineOptions& options) {
  const Quantization& quantization = checkpoint.quantization();
  quantization.expect(options.quantization.value_or(""));
  if (!quantization.obstacle().empty()) fail(ErrorCode::kInvalidArgument, quantization.obstacle());
  const bool is_fp8 = quantization.method() == Quantization::Method::kFp8;
  if (!is_fp8 && fp8_as(options) == Fp8As::kInt8)
    fail(ErrorCode::kInvalidArgument, "--fp8-as int8 is for fp8 checkpoints; this one's quantisation is ", quantization.method_name());
  if (options.quiet || quantization.method() == Quantization::Method::kNone) return;
  if (!is_fp8) {
    log_info("Quantisation: ", quantization.method_name(), "; int8 matrices stay int8, with integer products");
    return;
  }
  const EightBitBytes::Kind bytes = eight_bit_bytes(checkpoint, compute, options.speculation.num_drafts > 0, coding(compute, options)).fp8;
  if (fp8_as(options) == Fp8As::kInt8)
    log_info("Quantisation: fp8; ", mebibytes(bytes.stored),
             " of blocks are rounded once more, to int8 rows, while loading: ", mebibytes(bytes.as_int8), " in memory instead of ",
             mebibytes(bytes.as_compute), " as ", name(compute), ", and integer products");
  else
    log_info("Quantisation: fp8; ", mebibytes(bytes.stored), " of blocks become ", name(compute),
             " while loading: ", mebibytes(bytes.as_compute), " in memory. --fp8-as int8 would take ", mebibytes(bytes.as_int8),
             " and rounds once more");
}

// Of all that must be equal for a page or state of one run to be right in another one: FNV-1a, as 16 digits.
std::string tier_fingerprint(const EngineOptions& options, const MemoryPlan& plan, DType compute, const CacheTypes& types) {
  std::vector<std::string> facts = {read_file(options.model + "/config.json"),
                                    concat(name(compute), " ", options.fp8_as, " ", name(types.kv), " ", name(types.state)),
                                    cpu::name(cpu::active_isa()),
                                    std::to_string(plan.page_bytes),
                                    std::to_string(plan.slot_bytes),
                                    kVersion};
  for (const auto& file : std::filesystem::directory_iterator(options.model))
    if (file.path().extension() == ".safetensors")
      facts.push_back(
          concat(file.path().filename().string(), " ", file.file_size(), " ", file.last_write_time().time_since_epoch().count()));
  std::sort(facts.begin() + 6, facts.end());
  uint64_t hash = 0xcbf29ce484222325u;
  for (const std::string& fact : facts)
    for (const char c : fact + '\n') hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  std::ostringstream text;
  text << std::hex << std::setw(16) << std::setfill('0') << hash;
  return text.str();
}

// nullptr: none is asked for.
std::unique_ptr<TierStore> open_tier(const EngineOptions& options, const MemoryPlan& plan, DType compute, const CacheTypes& types) {
  if (options.kv_offload_size == 0) return nullptr;
  auto tier = std::make_unique<TierStore>(TierConfig{.capacity = options.kv_offload_size,
                                                     .dir = options.kv_offload_dir,
                                                     .keep = options.kv_offload_keep,
                                                     .fingerprint = tier_fingerprint(options, plan, compute, types),
                                                     .page_bytes = plan.page_bytes,
                                                     .state_bytes = plan.slot_bytes,
                                                     .page_element = element_size(types.kv),
                                                     .state_element = 4});
  if (options.kv_offload_keep && !options.quiet)
    log_info("--kv-offload-dir ", options.kv_offload_dir, ": ", tier->found().size(), " pages and states of an earlier run");
  return tier;
}

struct LoadedWeights {
  std::unique_ptr<Qwen3_5> model;
  std::vector<std::span<std::byte>> mapped;  // from the packed cache
};

// stop: another part of the start has failed; loading ends with an error that nobody reads.
LoadedWeights load_weights(const ModelConfig& config, const Checkpoint& checkpoint, DType compute, const EngineOptions& options,
                           const Placement& placement, const std::atomic<bool>& stop) {
  ThreadPool pool(placement);
  WeightReader reader(checkpoint);
  const bool with_mtp = options.speculation.num_drafts > 0;
  reader.ignore("model.visual.");  // read when vision is built
  if (!with_mtp) reader.ignore("mtp.");
  ProgressBar bar("Loading weights", checkpoint.total_bytes(), !options.quiet && ::isatty(STDERR_FILENO) != 0);
  const auto progress = [&](int64_t bytes) {
    if (stop) fail(ErrorCode::kCancelled, "loading was given up");
    bar.advance(bytes);
  };
  Loader loader(reader, compute, pool, progress, fp8_as(options));
  loader.use(coding(compute, options));
  std::optional<PackedCache> packed;
  if (!options.packed_cache.empty())
    loader.use(packed.emplace(
        options.packed_cache, options.model,
        concat(name(compute), ", fp8 as ", options.fp8_as, with_mtp ? ", mtp" : "", options.compress_weights ? ", compressed" : ""),
        placement.num_nodes > 1 ? PackedCache::Large::kRead : PackedCache::Large::kMap));
  LoadedWeights out{.model = std::make_unique<Qwen3_5>(config, loader, with_mtp), .mapped = {}};
  reader.expect_all_taken();
  if (loader.num_not_coded() > 0 && !options.quiet)
    log_info("--compress-weights: ", loader.num_not_coded(), " matrices stay in 16 bits; their weights differ too much in size");
  if (packed) {
    packed->finish();
    out.mapped = packed->take_mapped();
  }
  return out;
}

std::shared_ptr<const Tokenizer> load_tokenizer(const EngineOptions& options, int32_t vocab_size) {
  auto tokenizer = Tokenizer::load(options.tokenizer.value_or(options.model));
  if (tokenizer->size() > vocab_size)
    fail(ErrorCode::kInvalidArgument, options.model, "/tokenizer.json has ids up to ", tokenizer->size() - 1,
         ", config.json's vocab_size is ", vocab_size);
  return tokenizer;
}

}  // namespace

LocalEngine start_local_engine(const EngineOptions& options, Profiler* profiler) {
  const auto begin = std::chrono::steady_clock::now();
  const cpu::Isa isa = cpu::active_isa();  // asked now, so that a WEIR_CPU_ISA that cannot run here ends the start and not the first step
  if (!std::filesystem::is_directory(options.model))
    fail(ErrorCode::kNotFound, "model \"", options.model,
         "\" is not a directory; weir serves local checkpoints: give the directory that holds config.json");
  const ModelConfig config = read_model_config(options.model);
  const auto vocab_size = static_cast<int32_t>(config.vocab_size);
  const Json generation_config = read_generation_config(options);
  const DType compute = compute_type(options.dtype);
  const CacheTypes types = cache_types(options, compute);

  LocalEngine out;
  out.model.chat_template = read_chat_template(options);
  out.model.default_sampling = default_sampling(generation_config, vocab_size);
  const std::vector<int32_t> eos = eos_ids(generation_config, config);
  out.model.vocab_size = vocab_size;
  out.model.model_type = config.model_type;
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  check_quantization(checkpoint, compute, options);

  if (options.speculation.num_drafts > 0 && config.mtp_layers == 0)
    fail(ErrorCode::kInvalidArgument, "--speculative-config needs a model with an MTP head; ", options.model,
         "/config.json says mtp_num_hidden_layers 0");
  const Placement placement = place_threads(this_machine(), options.threads, options.numa, options.bind_threads);
  if (!options.quiet && !placement.notice.empty()) log_info("CPU: ", placement.notice);
  const int threads = placement.num_threads;
  if (options.max_model_len > config.max_position)
    fail(ErrorCode::kInvalidArgument, "--max-model-len ", options.max_model_len, " exceeds the model's max_position_embeddings ",
         config.max_position);
  const int32_t batched = options.max_num_batched_tokens > 0 ? options.max_num_batched_tokens : kDefaultBatchedTokens;
  const auto budget = static_cast<int64_t>(static_cast<double>(available_memory()) * options.memory_utilization);
  const int64_t tier_bytes = options.kv_offload_dir.empty() ? options.kv_offload_size : 0;  // in memory
  if (tier_bytes >= budget)
    fail(ErrorCode::kResourceExhausted, "--kv-offload-size ", tier_bytes, " leaves nothing of the ", budget,
         " bytes that --gpu-memory-utilization allows; lower it, or give --kv-offload-dir to keep the second tier in files");
  const MemoryPlan plan = plan_memory(
      config,
      {.compute = compute,
       .coding = coding(compute, options),
       .types = types,
       .int8_saving =
           eight_bit_bytes(checkpoint, compute, options.speculation.num_drafts > 0, coding(compute, options)).saved(fp8_as(options)),
       .max_num_seqs = options.max_num_seqs,
       .max_num_batched_tokens = batched,
       .max_model_len = options.max_model_len,
       .num_snapshots = options.enable_prefix_caching ? options.num_state_snapshots : 0,
       .with_mtp = options.speculation.num_drafts > 0,
       .threads = threads,
       .budget = budget - tier_bytes,
       .cache_bytes = options.kv_cache_memory_bytes});
  if (!options.quiet) {
    log_info(plan.str());
    if (!plan.notice.empty()) log_warning(plan.notice);
  }
  out.model.max_model_len = plan.max_model_len;

  auto tier = open_tier(options, plan, compute, types);  // before the weights: a directory that cannot be used is known at once
  const uint64_t key_secret = tier ? tier->secret() : std::random_device{}();
  // On a thread of its own, which may be bound to a core; this one must not be. Bound as the engine's team will be, so that a weight lies
  // in the memory of the node whose thread has packed it and will read it.
  std::atomic<bool> stop_loading{false};
  auto loading =
      std::async(std::launch::async, [&] { return load_weights(config, checkpoint, compute, options, placement, stop_loading); });
  // Beside it: 250,000 tokens and as many merges take a quarter of a second.
  try {
    out.model.tokenizer = load_tokenizer(options, vocab_size);
  } catch (...) {
    stop_loading = true;  // on the way out this thread waits for that one
    throw;
  }
  LoadedWeights weights = loading.get();
  // Reserved address space, touched only as far as steps need it: twice the estimate costs nothing and an aborting server would.
  auto runner = std::make_unique<ModelRunner>(
      std::move(weights.model), std::make_unique<ThreadPool>(placement),
      RunnerConfig{.cache = {.num_pages = plan.num_pages, .num_slots = plan.num_slots},
                   .types = types,
                   .arena_bytes =
                       2 * (plan.activations + input_bytes(plan.max_num_seqs, batched, pages_for(plan.max_model_len) + 1, plan.num_slots)),
                   .num_tokens = out.model.tokenizer->size(),
                   .eos_token_ids = eos,
                   .tier = std::move(tier),
                   .touch_ahead = this_machine().front().node == this_machine().back().node,
                   .profiler = profiler});
  out.engine = std::make_unique<Engine>(EngineConfig{.cache = {.num_pages = plan.num_pages,
                                                               .num_slots = plan.num_slots,
                                                               .prefix_caching = options.enable_prefix_caching,
                                                               .key_secret = key_secret,
                                                               .has_tier = options.kv_offload_size > 0,
                                                               .keep_tier = options.kv_offload_keep,
                                                               .snapshot_interval = options.prefix_cache_retention_interval},
                                                     .scheduler = {.max_num_seqs = plan.max_num_seqs,
                                                                   .max_num_batched_tokens = batched,
                                                                   .max_model_len = plan.max_model_len,
                                                                   .long_prefill_token_threshold = options.long_prefill_token_threshold},
                                                     .speculation = options.speculation,
                                                     .eos_token_ids = eos,
                                                     .seed = options.seed},
                                        std::make_unique<LocalExecutor>(std::move(runner)), profiler);
  if (!weights.mapped.empty()) out.mapped = std::make_unique<MappedWeights>(std::move(weights.mapped));
  if (!options.quiet) {
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    log_info("Loaded ", checkpoint.total_bytes() >> 20, " MiB in ", seconds.count(), " s; ", threads,
             threads == 1 ? " thread, " : " threads, ", cpu::name(isa), " kernels, ", name(compute), " weights");
    if (options.speculation.num_drafts > 0)
      log_info("Speculation: ", options.speculation.adaptive ? "up to " : "", options.speculation.num_drafts,
               options.speculation.num_drafts == 1 ? " draft" : " drafts", " per step and request from the MTP head",
               options.speculation.adaptive ? ", as many as pay" : "");
  }
  return out;
}

}  // namespace weir
