// The prompts of a benchmark: made up at random, or read from a file. The same options and seed give the same prompts.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "weir/base/json.h"
#include "weir/text/chat_template.h"
#include "weir/text/tokenizer.h"

namespace weir {

struct BenchPrompt {
  std::string text;
  int32_t input_tokens = 0;   // 0: nobody could count them
  int32_t output_tokens = 0;  // to ask for
};

// A piece of text that is always the same tokens, whatever pieces stand beside it: words with the space before them.
struct PromptWord {
  std::string text;
  int32_t tokens;
};

// What making prompts needs of a tokenizer, which may sit in this process or behind a server's /tokenize.
struct TokenCounter {
  std::function<int32_t(std::string_view)> count;  // empty: there is no tokenizer
  std::vector<PromptWord> words;                   // at least one of a single token, unless `count` is empty
};
TokenCounter count_locally(std::shared_ptr<const Tokenizer> tokenizer);
// `tokenize` asks a server for the number of tokens of a text. Throws what it throws, and Error when no common word is one token.
TokenCounter count_remotely(std::function<int32_t(std::string_view)> tokenize);

struct RandomPrompts {
  int32_t input_tokens = 1024, output_tokens = 128, prefix_tokens = 0;
  double input_range = 0, output_range = 0;  // in [0, 1): lengths are even in [n (1 - range), n (1 + range)]
};

struct RepeatedPrefixes {
  int32_t prefix_tokens = 256, suffix_tokens = 256, num_prefixes = 10, output_tokens = 128;
};

struct FilePrompts {
  std::string path;
  std::optional<int32_t> output_tokens;  // nullopt: the file says
  bool shuffle = true;
  bool oversample = true;  // a file with fewer prompts than asked for starts again
};

// Every text is `prefix_tokens` shared and then its own random words, so long to the token.
std::vector<BenchPrompt> random_prompts(const RandomPrompts& options, int64_t n, uint64_t seed, const TokenCounter& tokens);

// n rounded down to a multiple of num_prefixes, in random order: each prefix with as many suffixes.
std::vector<BenchPrompt> repeated_prefix_prompts(const RepeatedPrefixes& options, int64_t n, uint64_t seed, const TokenCounter& tokens);

// One {"prompt": …, "output_tokens": …} a line. `wrap` turns a user's message into the text to send (a chat template), or is empty.
// Both file formats: n = 0 or less means all there are. Throws Error naming the file, the line or entry, and the field.
using WrapMessage = std::function<std::string(const std::string&)>;
std::vector<BenchPrompt> custom_prompts(const FilePrompts& options, int64_t n, uint64_t seed, const TokenCounter& tokens,
                                        const WrapMessage& wrap);

// The format of ShareGPT: [{"conversations": [{"value": question}, {"value": answer}, …]}, …]. The first turn is the prompt and the
// length of the second the length to ask for; pairs are left out that are shorter than 4 tokens, or longer than 1024 (prompt) or 2048
// (both), which are vLLM's limits.
std::vector<BenchPrompt> sharegpt_prompts(const FilePrompts& options, int64_t n, uint64_t seed, const TokenCounter& tokens);

}  // namespace weir
