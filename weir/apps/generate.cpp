// `weir generate`: answers to one prompt without a server, through the same engine.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <memory>
#include <sstream>

#include "weir/api/choice_stream.h"
#include "weir/api/generation.h"
#include "weir/api/prompt.h"
#include "weir/apps/commands.h"
#include "weir/apps/engine_flags.h"
#include "weir/apps/local_engine.h"
#include "weir/apps/profiling.h"
#include "weir/apps/terminal.h"
#include "weir/base/inbox.h"
#include "weir/base/log.h"

namespace weir {
namespace {

constexpr const char* kPrompt = "Prompt";
constexpr const char* kAnswer = "Answer";

std::vector<FlagSpec> generate_flags() {
  return {
      {.name = "prompt", .group = kPrompt, .help = "The prompt."},
      {.name = "prompt-file", .group = kPrompt, .help = "File to read the prompt from; - is standard input.", .value_name = "FILE"},
      {.name = "chat",
       .type = FlagType::kBool,
       .group = kPrompt,
       .help = "The prompt is a user's message: the model's chat template is put around it.",
       .fallback = "false"},
      {.name = "system", .group = kPrompt, .help = "System message, with --chat."},
      {.name = "thinking",
       .type = FlagType::kBool,
       .group = kPrompt,
       .help = "With --chat: let the model think first, or not. Not given: the template's choice."},

      {.name = "max-tokens",
       .type = FlagType::kCount,
       .group = kAnswer,
       .help = "Most tokens to generate. Not given: 16, with --chat the rest of the context.",
       .min = 1},
      {.name = "n",
       .type = FlagType::kInt,
       .group = kAnswer,
       .help = "Answers to generate at the same time; one is written as it grows.",
       .fallback = "1",
       .min = 1,
       .max = 1024},
      {.name = "temperature",
       .type = FlagType::kNumber,
       .group = kAnswer,
       .help = "0 is greedy. This and the next: not given, the model's own setting.",
       .min = 0,
       .max = 100},
      {.name = "top-p",
       .type = FlagType::kNumber,
       .group = kAnswer,
       .help = "Draw from the most likely tokens of this total probability.",
       .max = 1},
      {.name = "top-k",
       .type = FlagType::kInt,
       .group = kAnswer,
       .help = "Draw from this many most likely tokens; 0 or -1: all.",
       .min = -1},
      {.name = "min-p",
       .type = FlagType::kNumber,
       .group = kAnswer,
       .help = "Drop tokens less likely than this share of the most likely one.",
       .min = 0,
       .max = 1},
      {.name = "repetition-penalty",
       .type = FlagType::kNumber,
       .group = kAnswer,
       .help = "Above 1: tokens seen before are less likely.",
       .max = 100},
      {.name = "stop", .type = FlagType::kTexts, .group = kAnswer, .help = "Texts that end the answer and are left out of it."},
      {.name = "ignore-eos", .type = FlagType::kBool, .group = kAnswer, .help = "Go on behind the end of the text.", .fallback = "false"},
      {.name = "special-tokens", .type = FlagType::kBool, .group = kAnswer, .help = "Write special tokens too.", .fallback = "false"},
      {.name = "stats", .type = FlagType::kBool, .group = kAnswer, .help = "Token counts and speed, on stderr.", .fallback = "false"},
      {.name = "verbose",
       .type = FlagType::kBool,
       .group = kAnswer,
       .help = "The memory plan and what loading says, on stderr.",
       .fallback = "false"},
  };
}

std::string prompt_text(const Flags& flags) {
  const auto text = flags.find_text("prompt"), file = flags.find_text("prompt-file");
  if (text.has_value() == file.has_value()) throw UsageError("generate: give either --prompt or --prompt-file");
  if (text) return *text;
  if (*file == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  return read_file(*file);
}

SamplingParams sampling_params(const Flags& flags, const ServedModel& model) {
  SamplingParams out = model.default_sampling;
  if (const auto value = flags.find_number("temperature")) out.temperature = static_cast<float>(*value);
  if (const auto value = flags.find_number("top-p")) out.top_p = static_cast<float>(*value);
  if (const auto value = flags.find_integer("top-k")) out.top_k = static_cast<int32_t>(std::clamp<int64_t>(*value, 0, model.vocab_size));
  if (const auto value = flags.find_number("min-p")) out.min_p = static_cast<float>(*value);
  if (const auto value = flags.find_number("repetition-penalty")) out.repetition_penalty = static_cast<float>(*value);
  out.ignore_eos = flags.boolean("ignore-eos");
  return out;
}

std::string rendered_prompt(const Flags& flags, const std::string& text, const ServedModel& model) {
  if (!flags.boolean("chat")) return text;
  Conversation conversation;
  conversation.messages = Json::array();
  if (const auto system = flags.find_text("system")) conversation.messages.push_back(Json{{"role", "system"}, {"content", *system}});
  conversation.messages.push_back(Json{{"role", "user"}, {"content", text}});
  if (const auto thinking = flags.find_boolean("thinking")) conversation.template_kwargs["enable_thinking"] = *thinking;
  return render_conversation(conversation, model);
}

// Standard output; a terminal gets no control characters that the model made up.
class Output {
 public:
  // False when nobody reads any more.
  bool write(const std::string& text) {
    const std::string shown = terminal_ ? printable(text) : text;
    return std::fwrite(shown.data(), 1, shown.size(), stdout) == shown.size() && std::fflush(stdout) == 0;
  }

 private:
  bool terminal_ = is_terminal(STDOUT_FILENO);
};

using Clock = std::chrono::steady_clock;

void log_stats(const std::vector<ChoiceStream>& choices, Clock::time_point begin, Clock::time_point first, Clock::time_point end) {
  int64_t tokens = 0;
  for (const ChoiceStream& choice : choices) tokens += choice.usage().completion_tokens;
  const std::chrono::duration<double> to_first = first - begin, rest = end - first;
  std::ostringstream out;
  out << std::fixed << choices[0].usage().prompt_tokens << " prompt tokens, first token after " << std::setprecision(3) << to_first.count()
      << " s, " << tokens << " tokens generated";
  const int64_t later = tokens - static_cast<int64_t>(choices.size());
  if (later > 0 && rest.count() > 0) out << ", " << std::setprecision(1) << static_cast<double>(later) / rest.count() << " tokens/s";
  out << " (" << (choices[0].end() ? finish_reason_name(choices[0].end()->reason) : "") << ")\n";
  std::fputs(out.str().c_str(), stderr);
}

}  // namespace

const CommandSpec& generate_command() {
  static const CommandSpec command = [] {
    CommandSpec out;
    out.name = "generate";
    out.summary = "Answers one prompt without a server.";
    out.positionals = {"MODEL"};
    for (auto part : {generate_flags(), engine_flags(), profiling_flags()}) out.flags.insert(out.flags.end(), part.begin(), part.end());
    out.epilogue =
        "\nexamples\n"
        "  weir generate models/weir-tiny --prompt 'The future of AI is' --max-tokens 50 --temperature 0\n"
        "  weir generate models/weir-tiny --chat --prompt 'What is 7 + 5?' --stats\n";
    return out;
  }();
  return command;
}

int run_generate(std::span<const std::string> args) {
  const auto flags = parse_or_help(generate_command(), args);
  if (!flags) return 0;
  EngineOptions options = engine_options(*flags);
  options.quiet = !flags->boolean("verbose");
  const auto n = static_cast<int32_t>(flags->integer("n"));
  if (!flags->given("max-num-seqs")) options.max_num_seqs = n;
  const std::string text = prompt_text(*flags);
  if (options.quiet) set_log_level(LogLevel::kWarning);
  Inbox<RequestOutput> outputs;  // before the engine, which fills it until it is gone
  Profiling profiling(profiling_options(*flags, ""));
  const LocalEngine local = start_local_engine(options, &profiling.profiler());
  const ServedModel& model = local.model;

  const std::string rendered = rendered_prompt(*flags, text, model);
  const std::vector<Token> prompt = encode_prompt(rendered, model, "prompt");
  const auto asked = flags->find_integer("max-tokens");
  const std::optional<int32_t> otherwise = flags->boolean("chat") ? std::nullopt : std::optional<int32_t>(16);
  SamplingParams sampling = sampling_params(*flags, model);
  sampling.max_tokens =
      answer_budget(prompt.size(), asked ? std::optional(static_cast<int32_t>(*asked)) : std::nullopt, otherwise, model, "prompt");
  validate(sampling, model.vocab_size);

  if (profiling.options().from_start) profiling.start();
  // Answers must not be copies of each other: with a seed, each has its own.
  std::vector<ChoiceStream> choices;
  const Clock::time_point begin = Clock::now();
  for (int32_t i = 0; i < n; ++i) {
    choices.emplace_back(model.tokenizer, ChoiceOptions{.stop = flags->texts("stop"), .skip_special = !flags->boolean("special-tokens")});
    auto own = std::make_shared<SamplingParams>(sampling);
    if (flags->given("seed")) own->seed = options.seed + static_cast<uint64_t>(i);
    local.engine->submit({.id = RequestId{static_cast<uint64_t>(i)}, .prompt = prompt, .sampling = std::move(own)},
                         [&outputs](RequestOutput output) { outputs.push(std::move(output)); });
  }

  Output out;
  std::vector<std::string> whole(static_cast<size_t>(n));  // n > 1: one after the other when all are there
  std::optional<Clock::time_point> first;
  bool read = true;
  for (int32_t running = n; running > 0;) {
    std::optional<RequestOutput> output = outputs.pop();
    if (!first) first = Clock::now();
    const auto i = static_cast<size_t>(index(output->id));
    const bool last = output->finish.has_value();
    if (choices[i].push(std::move(*output))) local.engine->abort(RequestId{i});
    const ChoiceDelta delta = choices[i].take();
    if (n > 1) {
      whole[i] += delta.content;
    } else if (read && !delta.content.empty()) {
      read = out.write(delta.content);
      if (!read) local.engine->abort(RequestId{0});
    }
    if (delta.end && delta.end->reason == FinishReason::kError) fail(ErrorCode::kInternal, delta.end->error);
    running -= last ? 1 : 0;
  }
  const Clock::time_point end = Clock::now();
  for (size_t i = 0; n > 1 && read && i < whole.size(); ++i) read = out.write(concat("--- ", i + 1, " of ", n, "\n", whole[i], "\n"));
  if (n == 1 && read) read = out.write("\n");
  if (flags->boolean("stats")) log_stats(choices, begin, *first, end);
  if (profiling.recording()) std::fputs((profiling.stop() + "\n").c_str(), stderr);
  return read ? 0 : 1;
}

}  // namespace weir
