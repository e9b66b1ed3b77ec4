#include "weir/apps/bench_datasets.h"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>

#include "weir/base/check.h"
#include "weir/base/error.h"

namespace weir {
namespace {

using Random = std::mt19937_64;

constexpr int64_t kMaxFileBytes = int64_t{2} << 30;  // ShareGPT has 0.7 GB

// Common words that most tokenizers have as one token each.
constexpr std::array<std::string_view, 96> kCommonWords = {
    " time",   " year",    " people",  " way",    " day",     " man",     " thing",  " world",  " life",    " hand",   " part",   " child",
    " eye",    " place",   " work",    " week",   " case",    " point",   " number", " group",  " fact",    " water",  " room",   " mother",
    " area",   " money",   " story",   " month",  " lot",     " right",   " study",  " book",   " word",    " side",   " kind",   " head",
    " house",  " service", " friend",  " father", " power",   " hour",    " game",   " line",   " end",     " member", " law",    " car",
    " city",   " name",    " team",    " minute", " idea",    " body",    " back",   " parent", " face",    " level",  " office", " door",
    " health", " person",  " art",     " war",    " history", " party",   " result", " change", " morning", " reason", " girl",   " guy",
    " moment", " air",     " teacher", " force",  " color",   " foot",    " boy",    " age",    " music",   " mind",   " blue",   " green",
    " red",    " light",   " street",  " image",  " phone",   " science", " river",  " table",  " star",    " road",   " sea",    " fish"};

bool is_plain_word(std::string_view text) {
  return text.size() >= 2 && text[0] == ' ' &&
         std::all_of(text.begin() + 1, text.end(), [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); });
}

// Exactly `length` tokens while there are words of one token.
std::string random_text(int32_t length, const std::vector<PromptWord>& words, Random& random) {
  WEIR_CHECK(!words.empty(), "random text needs words");
  std::uniform_int_distribution<size_t> any(0, words.size() - 1);
  std::string out;
  for (int32_t left = length; left > 0;) {
    const PromptWord& word = words[any(random)];
    if (word.tokens > left) continue;  // ends: at least one word has one token
    out += word.text;
    left -= word.tokens;
  }
  return out;
}

int32_t random_length(int32_t mean, double range, int32_t least, Random& random) {
  const auto low = static_cast<int64_t>(std::floor(mean * (1 - range))), high = static_cast<int64_t>(std::ceil(mean * (1 + range)));
  const int64_t length = std::uniform_int_distribution<int64_t>(std::max<int64_t>(low, least), std::max<int64_t>(high, least))(random);
  return static_cast<int32_t>(std::min<int64_t>(length, std::numeric_limits<int32_t>::max()));
}

int32_t count_or_zero(const TokenCounter& tokens, const std::string& text) { return tokens.count ? tokens.count(text) : 0; }

int64_t wanted(int64_t n) { return n > 0 ? n : std::numeric_limits<int64_t>::max(); }

// Starts again until there are n.
void oversample(std::vector<BenchPrompt>& prompts, const FilePrompts& options, int64_t n) {
  const size_t have = prompts.size();
  if (have == 0) fail(ErrorCode::kInvalidArgument, options.path, ": no usable prompt in it");
  if (!options.oversample) return;
  for (size_t i = 0; static_cast<int64_t>(prompts.size()) < n; ++i) prompts.push_back(prompts[i % have]);
}

// A line of a custom dataset.
struct CustomLine {
  std::string prompt;
  std::optional<int64_t> output_tokens;
};

CustomLine read_custom_line(std::string_view text, const std::string& where) {
  const Json line = parse_json(text, where);
  if (!line.is_object()) fail(ErrorCode::kInvalidArgument, where, ": must be a JSON object with \"prompt\"");
  CustomLine out;
  const auto prompt = line.find("prompt");
  if (prompt == line.end() || !prompt->is_string()) fail(ErrorCode::kInvalidArgument, where, ": \"prompt\" must be a text");
  out.prompt = prompt->get<std::string>();
  if (out.prompt.empty()) fail(ErrorCode::kInvalidArgument, where, ": \"prompt\" is empty");
  if (const auto tokens = line.find("output_tokens"); tokens != line.end() && !tokens->is_null()) {
    if (!tokens->is_number_integer() || tokens->get<int64_t>() < 1 || tokens->get<int64_t>() > (1 << 30))
      fail(ErrorCode::kInvalidArgument, where, ": \"output_tokens\" must be an integer of at least 1, got ", dump_json(*tokens));
    out.output_tokens = tokens->get<int64_t>();
  }
  return out;
}

struct Pair {
  std::string question, answer;
};

// Read on demand: a tree of ShareGPT's 0.7 GB would take several times that.
std::vector<Pair> read_sharegpt(const std::string& path) {
  const std::string text = read_file(path, kMaxFileBytes);
  const simdjson::padded_string padded(text);
  simdjson::ondemand::parser parser;
  std::vector<Pair> out;
  size_t entry = 0;
  try {
    simdjson::ondemand::document document = parser.iterate(padded);
    for (simdjson::ondemand::value item : document.get_array()) {
      simdjson::ondemand::array turns;
      const auto found = item.find_field_unordered("conversations").get_array().get(turns);
      if (found == simdjson::NO_SUCH_FIELD) {
        ++entry;
        continue;
      }
      if (found) throw simdjson::simdjson_error(found);
      std::array<std::string, 2> values;
      size_t count = 0;
      for (simdjson::ondemand::value turn : turns) {
        if (count < values.size()) values[count] = std::string(std::string_view(turn.find_field_unordered("value").get_string()));
        ++count;
      }
      if (count >= values.size()) out.push_back({std::move(values[0]), std::move(values[1])});
      ++entry;
    }
    if (document.current_location().error() == simdjson::SUCCESS) throw simdjson::simdjson_error(simdjson::TRAILING_CONTENT);
  } catch (const simdjson::simdjson_error& error) {
    fail(ErrorCode::kInvalidArgument, path, ": entry ", entry, ": ", error.what(),
         "; expected [{\"conversations\": [{\"value\": \"…\"}, …]}, …]");
  }
  return out;
}

}  // namespace

TokenCounter count_locally(std::shared_ptr<const Tokenizer> tokenizer) {
  TokenCounter out;
  for (int32_t id = 0; id < tokenizer->size(); ++id) {
    const std::string_view text = tokenizer->bytes(id);
    if (is_plain_word(text) && !tokenizer->is_special(id) && tokenizer->encode(text) == std::vector<int32_t>{id})
      out.words.push_back({std::string(text), 1});
  }
  if (out.words.empty())
    fail(ErrorCode::kInvalidArgument, "the tokenizer has no word of plain letters as one token; random prompts need some");
  out.count = [tokenizer = std::move(tokenizer)](std::string_view text) { return static_cast<int32_t>(tokenizer->encode(text).size()); };
  return out;
}

TokenCounter count_remotely(std::function<int32_t(std::string_view)> tokenize) {
  TokenCounter out;
  for (const std::string_view word : kCommonWords)
    if (tokenize(word) == 1) out.words.push_back({std::string(word), 1});
  if (out.words.empty())
    fail(ErrorCode::kInvalidArgument, "none of ", kCommonWords.size(),
         " common words is one token of the server's tokenizer; give --tokenizer DIR");
  out.count = std::move(tokenize);
  return out;
}

std::vector<BenchPrompt> random_prompts(const RandomPrompts& options, int64_t n, uint64_t seed, const TokenCounter& tokens) {
  Random random(seed);
  const std::string prefix = random_text(options.prefix_tokens, tokens.words, random);
  std::vector<BenchPrompt> out;
  for (int64_t i = 0; i < n; ++i) {
    // A prompt of no tokens at all is no prompt.
    const int32_t length = random_length(options.input_tokens, options.input_range, options.prefix_tokens > 0 ? 0 : 1, random);
    BenchPrompt prompt;
    prompt.output_tokens = random_length(options.output_tokens, options.output_range, 1, random);
    prompt.text = prefix + random_text(length, tokens.words, random);
    prompt.input_tokens = options.prefix_tokens + length;
    out.push_back(std::move(prompt));
  }
  return out;
}

std::vector<BenchPrompt> repeated_prefix_prompts(const RepeatedPrefixes& options, int64_t n, uint64_t seed, const TokenCounter& tokens) {
  const int64_t per_prefix = n / options.num_prefixes;
  if (per_prefix == 0)
    fail(ErrorCode::kInvalidArgument, "--num-prompts ", n, " is less than --prefix-repetition-num-prefixes ", options.num_prefixes);
  Random random(seed);
  std::vector<BenchPrompt> out;
  for (int32_t i = 0; i < options.num_prefixes; ++i) {
    const std::string prefix = random_text(options.prefix_tokens, tokens.words, random);
    for (int64_t k = 0; k < per_prefix; ++k) {
      BenchPrompt prompt;
      prompt.text = prefix + random_text(options.suffix_tokens, tokens.words, random);
      prompt.input_tokens = options.prefix_tokens + options.suffix_tokens;
      prompt.output_tokens = options.output_tokens;
      out.push_back(std::move(prompt));
    }
  }
  std::shuffle(out.begin(), out.end(), random);
  return out;
}

std::vector<BenchPrompt> custom_prompts(const FilePrompts& options, int64_t n, uint64_t seed, const TokenCounter& tokens,
                                        const WrapMessage& wrap) {
  const std::string text = read_file(options.path, kMaxFileBytes);
  std::vector<std::pair<size_t, std::string_view>> lines;  // number, text
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) lines.emplace_back(number, line);
  }
  if (options.shuffle) {
    Random random(seed);
    std::shuffle(lines.begin(), lines.end(), random);
  }
  std::vector<BenchPrompt> out;
  for (const auto& [at, line] : lines) {
    if (static_cast<int64_t>(out.size()) >= wanted(n)) break;
    const std::string where = concat(options.path, ", line ", at);
    CustomLine read = read_custom_line(line, where);
    if (!options.output_tokens && !read.output_tokens)
      fail(ErrorCode::kInvalidArgument, where, ": \"output_tokens\" is missing; without --custom-output-len every line needs it");
    BenchPrompt prompt;
    prompt.text = wrap ? wrap(read.prompt) : std::move(read.prompt);
    prompt.input_tokens = count_or_zero(tokens, prompt.text);
    prompt.output_tokens = options.output_tokens ? *options.output_tokens : static_cast<int32_t>(*read.output_tokens);
    out.push_back(std::move(prompt));
  }
  oversample(out, options, n);
  return out;
}

std::vector<BenchPrompt> sharegpt_prompts(const FilePrompts& options, int64_t n, uint64_t seed, const TokenCounter& tokens) {
  constexpr int32_t kLeast = 4, kMostInput = 1024, kMostTotal = 2048;
  if (!tokens.count) fail(ErrorCode::kInvalidArgument, "the sharegpt dataset needs a tokenizer to choose by length; give --tokenizer DIR");
  std::vector<Pair> pairs = read_sharegpt(options.path);
  if (options.shuffle) {
    Random random(seed);
    std::shuffle(pairs.begin(), pairs.end(), random);
  }
  std::vector<BenchPrompt> out;
  for (Pair& pair : pairs) {
    if (static_cast<int64_t>(out.size()) >= wanted(n)) break;
    BenchPrompt prompt;
    prompt.input_tokens = tokens.count(pair.question);
    prompt.output_tokens = options.output_tokens ? *options.output_tokens : tokens.count(pair.answer);
    if (prompt.input_tokens < kLeast || (!options.output_tokens && prompt.output_tokens < kLeast)) continue;
    if (prompt.input_tokens > kMostInput || int64_t{prompt.input_tokens} + prompt.output_tokens > kMostTotal) continue;
    prompt.text = std::move(pair.question);
    out.push_back(std::move(prompt));
  }
  oversample(out, options, n);
  return out;
}

}  // namespace weir
