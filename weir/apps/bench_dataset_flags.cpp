#include "weir/apps/bench_dataset_flags.h"

namespace weir {
namespace {

constexpr const char* kDataset = "Dataset";
constexpr const char* kRandom = "Random dataset";
constexpr const char* kFile = "Datasets from files";
constexpr const char* kPrefixes = "Prefix repetition dataset";
constexpr double kMaxTokens = 1 << 24;  // of one request

FlagSpec tokens_flag(std::string name, const char* group, std::string help, std::string fallback, double min = 1) {
  return {.name = std::move(name),
          .type = FlagType::kCount,
          .group = group,
          .help = std::move(help),
          .fallback = std::move(fallback),
          .min = min,
          .max = kMaxTokens};
}

int32_t tokens(const Flags& flags, const char* name) { return static_cast<int32_t>(flags.integer(name)); }

std::optional<int32_t> find_tokens(const Flags& flags, const char* name) {
  const auto value = flags.find_integer(name);
  return value ? std::optional(static_cast<int32_t>(*value)) : std::nullopt;
}

double share(const Json& value, const std::string& text) {
  const double number = value.is_number() ? value.get<double>() : -1;
  if (!(number >= 0 && number < 1))
    throw UsageError("--random-range-ratio must be a number in [0, 1) or {\"input\": X, \"output\": Y} of such numbers, got " + text);
  return number;
}

// "0.3", or '{"input": 0.3, "output": 0.5}'.
void read_range(const std::string& text, RandomPrompts& into) {
  Json value;
  try {
    value = parse_json(text, "--random-range-ratio");
  } catch (const Error&) {
    value = nullptr;
  }
  if (!value.is_object()) {
    into.input_range = into.output_range = share(value, text);
    return;
  }
  for (const auto& [key, part] : value.items()) {
    if (key == "input")
      into.input_range = share(part, text);
    else if (key == "output")
      into.output_range = share(part, text);
    else
      throw UsageError("--random-range-ratio knows input and output, got " + text);
  }
}

}  // namespace

std::vector<FlagSpec> dataset_flags() {
  const RandomPrompts random;
  const RepeatedPrefixes prefixes;
  return {
      {.name = "dataset-name",
       .group = kDataset,
       .help = "Where prompts come from. Not given: random, or sharegpt when only a path is given.",
       .choices = {"random", "custom", "sharegpt", "prefix_repetition"}},
      {.name = "dataset-path", .group = kDataset, .help = "File of a custom (.jsonl) or sharegpt (.json) dataset.", .value_name = "FILE"},
      {.name = "num-prompts",
       .type = FlagType::kCount,
       .group = kDataset,
       .help = "Requests to send; 0: all of the file.",
       .fallback = "1000",
       .min = 0,
       .max = 100'000'000},
      {.name = "input-len",
       .type = FlagType::kCount,
       .group = kDataset,
       .help = "Prompt tokens; the same as --random-input-len.",
       .min = 1,
       .max = kMaxTokens},
      {.name = "output-len",
       .type = FlagType::kCount,
       .group = kDataset,
       .help = "Tokens to ask for, whatever the dataset says.",
       .min = 1,
       .max = kMaxTokens},

      tokens_flag("random-input-len", kRandom, "Prompt tokens, without the shared prefix.", std::to_string(random.input_tokens)),
      tokens_flag("random-output-len", kRandom, "Tokens to ask for.", std::to_string(random.output_tokens)),
      {.name = "random-range-ratio",
       .group = kRandom,
       .help = "Lengths are even in [n (1 - R), n (1 + R)]; a number, or a JSON object with input and output.",
       .fallback = "0.0",
       .value_name = "R"},
      {.name = "random-prefix-len",
       .type = FlagType::kCount,
       .group = kRandom,
       .help = "Tokens that all prompts begin with.",
       .fallback = std::to_string(random.prefix_tokens),
       .aliases = {"prefix-len"},
       .min = 0,
       .max = kMaxTokens},

      {.name = "custom-output-len",
       .type = FlagType::kCount,
       .group = kFile,
       .help = "Tokens to ask for; -1: each line's \"output_tokens\".",
       .fallback = "256",
       .min = -1,
       .max = kMaxTokens},
      {.name = "sharegpt-output-len",
       .type = FlagType::kCount,
       .group = kFile,
       .help = "Tokens to ask for. Not given: as many as the answer in the file has.",
       .min = 1,
       .max = kMaxTokens},
      {.name = "skip-chat-template",
       .type = FlagType::kBool,
       .group = kFile,
       .help = "Send a custom dataset's prompts as they are; else the tokenizer's chat template is put around them for completions.",
       .fallback = "false"},
      {.name = "chat-template-kwargs", .type = FlagType::kJson, .group = kFile, .help = "Variables for that template."},
      {.name = "disable-shuffle", .type = FlagType::kBool, .group = kFile, .help = "Keep the order of the file.", .fallback = "false"},
      {.name = "oversample",
       .type = FlagType::kBool,
       .group = kFile,
       .help = "Start the file again when it has fewer prompts than asked for.",
       .fallback = "true"},

      tokens_flag("prefix-repetition-prefix-len", kPrefixes, "Tokens of each prefix.", std::to_string(prefixes.prefix_tokens)),
      tokens_flag("prefix-repetition-suffix-len", kPrefixes, "Tokens behind the prefix.", std::to_string(prefixes.suffix_tokens)),
      tokens_flag("prefix-repetition-num-prefixes", kPrefixes, "Different prefixes.", std::to_string(prefixes.num_prefixes)),
      tokens_flag("prefix-repetition-output-len", kPrefixes, "Tokens to ask for.", std::to_string(prefixes.output_tokens)),
  };
}

std::string dataset_name(const Flags& flags) {
  const bool has_path = flags.find_text("dataset-path").has_value();
  const std::string name = flags.find_text("dataset-name").value_or(has_path ? "sharegpt" : "random");
  const bool needs_path = name == "custom" || name == "sharegpt";
  if (needs_path && !has_path) throw UsageError("--dataset-name " + name + " needs --dataset-path FILE");
  if (!needs_path && has_path)
    throw UsageError("--dataset-name " + name + " reads no file; leave --dataset-path out, or name custom or sharegpt");
  return name;
}

std::vector<BenchPrompt> make_prompts(const Flags& flags, uint64_t seed, const TokenCounter& tokenizer, const WrapMessage& wrap) {
  const std::string name = dataset_name(flags);
  const int64_t n = flags.integer("num-prompts");
  const auto output = find_tokens(flags, "output-len");
  if (name == "random" || name == "prefix_repetition") {
    if (n == 0) throw UsageError("--num-prompts must be at least 1 for --dataset-name " + name + ", got 0");
    if (!tokenizer.count)
      throw UsageError("--dataset-name " + name + " needs a tokenizer to make prompts of a given length; give --tokenizer DIR");
  }
  if (name == "random") {
    RandomPrompts options;
    options.input_tokens = find_tokens(flags, "input-len").value_or(tokens(flags, "random-input-len"));
    options.output_tokens = output.value_or(tokens(flags, "random-output-len"));
    options.prefix_tokens = tokens(flags, "random-prefix-len");
    read_range(flags.text("random-range-ratio"), options);
    return random_prompts(options, n, seed, tokenizer);
  }
  if (name == "prefix_repetition") {
    RepeatedPrefixes options;
    options.prefix_tokens = tokens(flags, "prefix-repetition-prefix-len");
    options.suffix_tokens = tokens(flags, "prefix-repetition-suffix-len");
    options.num_prefixes = tokens(flags, "prefix-repetition-num-prefixes");
    options.output_tokens = output.value_or(tokens(flags, "prefix-repetition-output-len"));
    return repeated_prefix_prompts(options, n, seed, tokenizer);
  }
  FilePrompts options;
  options.path = flags.find_text("dataset-path").value_or("");
  options.shuffle = !flags.boolean("disable-shuffle");
  options.oversample = flags.boolean("oversample");
  options.output_tokens = output;
  if (name == "sharegpt") {
    if (!output) options.output_tokens = find_tokens(flags, "sharegpt-output-len");
    return sharegpt_prompts(options, n, seed, tokenizer);
  }
  const int32_t custom = tokens(flags, "custom-output-len");
  if (custom == 0) throw UsageError("--custom-output-len must be at least 1, or -1 for what the file says, got 0");
  if (!output && custom > 0) options.output_tokens = custom;
  return custom_prompts(options, n, seed, tokenizer, wrap);
}

}  // namespace weir
