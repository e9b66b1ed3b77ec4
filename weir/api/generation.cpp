#include "weir/api/generation.h"

#include <algorithm>
#include <utility>

#include "weir/api/errors.h"
#include "weir/api/prompt.h"
#include "weir/base/check.h"

namespace weir {
namespace {

constexpr int32_t kCompletionTokens = 16;  // OpenAI's default of /v1/completions

// What core rejects is a field of the request by the same name, which its messages start with.
void validate_fields(const SamplingParams& sampling, int32_t vocab_size) {
  try {
    validate(sampling, vocab_size);
  } catch (const Error& error) {
    const std::string message = error.what();
    throw FieldError(error.code, message.substr(0, message.find(' ')), message);
  }
}

// The final message of a conversation that is continued, to be repeated in front of the answer.
std::string final_text(const Json& messages) {
  const Json& content = messages.back()["content"];
  if (content.is_string()) return content.get<std::string>();
  std::string text;
  for (const Json& part : content) text += part["text"].get_ref<const std::string&>();
  return text;
}

}  // namespace

const char* finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kAbort: return "abort";
    case FinishReason::kError: return "error";
  }
  return "error";
}

Generation::Generation(const GenerationFields& fields, const ServedModel& model, const ApiOptions& options, bool chat,
                       const AnswerId& answer)
    : fields_(fields),
      chat_(chat),
      id_((chat ? "chatcmpl-" : "cmpl-") + answer.id),
      created_(answer.created),
      model_name_(options.served_names.front()),
      tokenizer_(model.tokenizer),
      style_{fields.sampling.logprobs.value_or(0), fields.return_tokens_as_token_ids} {}

Generation::Generation(const CompletionRequest& request, const ServedModel& model, const ApiOptions& options, const AnswerId& answer)
    : Generation(request.common, model, options, /*chat=*/false, answer) {
  for (const PromptInput& input : request.prompts) {
    const auto* text = std::get_if<std::string>(&input);
    auto tokens = text ? encode_prompt(*text, model, "prompt") : std::get<std::vector<Token>>(input);
    if (tokens.empty()) fail_field("prompt", "must have at least one token");
    const int32_t max_tokens = answer_budget(tokens.size(), fields_.max_tokens, kCompletionTokens, model, "prompt");
    ChoiceOptions choice;
    if (fields_.echo) choice.prefix = text ? *text : model.tokenizer->decode(tokens, /*skip_special=*/false);
    add_prompt(std::move(tokens), max_tokens, model, std::move(choice));
  }
}

Generation::Generation(const ChatRequest& request, const ServedModel& model, const ApiOptions& options, const AnswerId& answer)
    : Generation(request.common, model, options, /*chat=*/true, answer) {
  const std::string text = render_conversation(request.conversation, model);
  auto tokens = encode_prompt(text, model, "messages");
  const int32_t max_tokens = answer_budget(tokens.size(), fields_.max_tokens, std::nullopt, model, "messages");
  split_reasoning_ = !options.reasoning_parser.empty();
  ChoiceOptions choice;
  choice.split_reasoning = split_reasoning_;
  choice.starts_thinking = split_reasoning_ && ends_inside_thought(text);
  choice.keep_reasoning = request.include_reasoning;
  if (fields_.echo && request.conversation.continue_final_message) choice.prefix = final_text(request.conversation.messages);
  add_prompt(std::move(tokens), max_tokens, model, std::move(choice));
}

void Generation::add_prompt(std::vector<Token> tokens, int32_t max_tokens, const ServedModel& model, ChoiceOptions options) {
  SamplingParams sampling = fields_.sampling;
  sampling.max_tokens = std::max(max_tokens, 1);
  if (max_tokens == 0) sampling.min_tokens = 0;
  validate_fields(sampling, model.vocab_size);

  options.stop = fields_.stop;
  options.include_stop = fields_.include_stop_str_in_output;
  options.skip_special = fields_.skip_special_tokens;
  options.min_tokens = sampling.min_tokens;
  options.stop_token_ids = sampling.stop_token_ids;
  for (int32_t sample = 0; sample < fields_.n; ++sample)
    choices_.push_back({ChoiceStream(tokenizer_, options), CompletionLogprobs(*tokenizer_, style_)});
  prompts_.push_back({std::move(tokens), std::make_shared<const SamplingParams>(std::move(sampling))});
}

Request Generation::engine_request(int32_t choice, RequestId id) const {
  const Prompt& prompt = prompt_of(choice);
  Request request;
  request.id = id;
  request.prompt = prompt.tokens;
  request.sampling = prompt.sampling;
  request.priority = fields_.priority;
  request.prompt_only = fields_.max_tokens == 0;
  request.cache_salt = fields_.cache_salt;
  request.trace = id_;
  if (const int32_t sample = choice % fields_.n; sample > 0 && prompt.sampling->seed) {
    SamplingParams own = *prompt.sampling;  // the samples of one seed must differ
    *own.seed += static_cast<uint64_t>(sample);
    request.sampling = std::make_shared<const SamplingParams>(std::move(own));
  }
  return request;
}

bool Generation::push(int32_t choice, RequestOutput output) { return choices_[choice].stream.push(std::move(output)); }

bool Generation::finished() const {
  return std::ranges::all_of(choices_, [](const Choice& choice) { return choice.stream.finished(); });
}

std::optional<std::string> Generation::failure() const {
  for (const Choice& choice : choices_)
    if (const auto& end = choice.stream.end(); end && end->reason == FinishReason::kError) return end->error;
  return std::nullopt;
}

Json Generation::head() const {
  return {{"id", id_},
          {"object", !chat_           ? "text_completion"
                     : fields_.stream ? "chat.completion.chunk"
                                      : "chat.completion"},
          {"created", created_},
          {"model", model_name_}};
}

Json Generation::usage_json(const Usage& sum, int64_t reasoning) const {
  Json out = {{"prompt_tokens", sum.prompt_tokens},
              {"total_tokens", sum.prompt_tokens + sum.completion_tokens},
              {"completion_tokens", sum.completion_tokens},
              {"prompt_tokens_details", {{"cached_tokens", sum.cached_tokens}}}};
  Json details;
  if (split_reasoning_) details["reasoning_tokens"] = reasoning;
  if (sum.accepted_drafts + sum.rejected_drafts > 0) {  // OpenAI's names for predicted output; here the model predicts itself
    details["accepted_prediction_tokens"] = sum.accepted_drafts;
    details["rejected_prediction_tokens"] = sum.rejected_drafts;
  }
  if (!details.is_null()) out["completion_tokens_details"] = std::move(details);
  return out;
}

Json Generation::usage_of(int32_t choice) const {
  const ChoiceStream& stream = choices_[choice].stream;
  Usage sum = stream.usage();
  sum.prompt_tokens = static_cast<int32_t>(prompt_of(choice).tokens.size());
  return usage_json(sum, stream.reasoning_tokens());
}

Json Generation::usage_of_all() const {
  Usage sum;
  int64_t reasoning = 0;
  for (int32_t i = 0; i < num_choices(); ++i) {
    const ChoiceStream& stream = choices_[i].stream;
    if (i % fields_.n == 0) {  // the samples of one prompt share it
      sum.prompt_tokens += static_cast<int32_t>(prompt_of(i).tokens.size());
      sum.cached_tokens += stream.usage().cached_tokens;
    }
    sum.completion_tokens += stream.usage().completion_tokens;
    sum.accepted_drafts += stream.usage().accepted_drafts;
    sum.rejected_drafts += stream.usage().rejected_drafts;
    reasoning += stream.reasoning_tokens();
  }
  return usage_json(sum, reasoning);
}

// Of the delta's tokens; of the prompt's before them in the first delta of an echo.
Json Generation::logprobs_of(int32_t index, const ChoiceDelta& delta) {
  if (!fields_.sampling.logprobs) return nullptr;
  if (chat_) return delta.logprobs.empty() ? Json() : chat_logprobs(*tokenizer_, delta.logprobs, style_);
  Choice& choice = choices_[index];
  const bool echo = fields_.echo && !choice.opened;
  if (!echo && delta.logprobs.empty()) return nullptr;
  if (echo) {
    choice.logprobs.add_unknown(prompt_of(index).tokens.front());
    for (const PositionLogprobs& position : choice.stream.prompt_logprobs()) choice.logprobs.add(position);
  }
  for (const PositionLogprobs& position : delta.logprobs) choice.logprobs.add(position);
  return choice.logprobs.take();
}

void Generation::add_end(Json& choice_json, const std::optional<ChoiceEnd>& end) const {
  choice_json["finish_reason"] = end ? Json(finish_reason_name(end->reason)) : Json();
  Json stop_reason;
  if (end) {
    if (const auto* token = std::get_if<Token>(&end->stop_reason))
      stop_reason = *token;
    else if (const auto* text = std::get_if<std::string>(&end->stop_reason))
      stop_reason = *text;
  }
  choice_json["stop_reason"] = std::move(stop_reason);
}

std::string Generation::chunk(int32_t choice, Json choice_json) const {
  Json out = head();
  out["choices"] = Json::array({std::move(choice_json)});
  if (chat_ && fields_.return_token_ids && !choices_[choice].opened) out["prompt_token_ids"] = prompt_of(choice).tokens;
  if (fields_.continuous_usage_stats) out["usage"] = usage_of(choice);
  return dump_json(out);
}

void Generation::add_chunks(int32_t index, std::vector<std::string>& out) {
  Choice& choice = choices_[index];
  ChoiceStream& stream = choice.stream;
  const bool wants_tokens = fields_.return_token_ids && stream.has_tokens();
  if (choice.closed || !stream.started() || !(stream.has_text() || wants_tokens)) return;
  ChoiceDelta delta = stream.take();
  choice.closed = delta.end.has_value();
  if (delta.end && delta.end->reason == FinishReason::kError) {
    out.push_back(dump_json(error_json({500, delta.end->error, ""})));
    return;
  }

  if (chat_ && !choice.opened) {
    out.push_back(chunk(
        index, {{"index", index}, {"delta", {{"role", "assistant"}, {"content", ""}}}, {"logprobs", nullptr}, {"finish_reason", nullptr}}));
    choice.opened = true;
  }
  Json one = {{"index", index}};
  if (chat_) {
    Json text = Json::object();
    if (!delta.reasoning.empty()) text = {{"reasoning", delta.reasoning}, {"reasoning_content", delta.reasoning}};
    if (!delta.content.empty()) text["content"] = std::move(delta.content);
    one["delta"] = std::move(text);
  } else {
    one["text"] = std::move(delta.content);
  }
  one["logprobs"] = logprobs_of(index, delta);
  add_end(one, delta.end);
  if (fields_.return_token_ids) {
    if (!chat_ && !choice.opened) one["prompt_token_ids"] = prompt_of(index).tokens;
    one["token_ids"] = std::move(delta.tokens);
  }
  out.push_back(chunk(index, std::move(one)));
  choice.opened = true;
}

std::vector<std::string> Generation::take_chunks() {
  std::vector<std::string> out;
  for (int32_t i = 0; i < num_choices(); ++i) add_chunks(i, out);
  if (fields_.include_usage && !usage_sent_ && finished()) {
    usage_sent_ = true;
    Json last = head();
    last["choices"] = Json::array();
    last["usage"] = usage_of_all();
    out.push_back(dump_json(last));
  }
  return out;
}

Json Generation::take_response() {
  WEIR_CHECK(finished(), "an answer is complete only when every choice has ended");
  Json choices = Json::array();
  for (int32_t i = 0; i < num_choices(); ++i) {
    ChoiceDelta delta = choices_[i].stream.take();
    Json one = {{"index", i}};
    if (chat_) {
      Json message = {{"role", "assistant"}};
      message["content"] = delta.content.empty() && !delta.reasoning.empty() ? Json() : Json(std::move(delta.content));
      message["refusal"] = nullptr;
      message["tool_calls"] = Json::array();
      const Json reasoning = delta.reasoning.empty() ? Json() : Json(std::move(delta.reasoning));
      message.update({{"reasoning", reasoning}, {"reasoning_content", reasoning}});  // the new name and the one older clients read
      one["message"] = std::move(message);
    } else {
      one["text"] = std::move(delta.content);
    }
    one["logprobs"] = logprobs_of(i, delta);
    add_end(one, delta.end);
    if (fields_.return_prompt_logprobs && !chat_)
      one["prompt_logprobs"] = prompt_logprobs_json(*tokenizer_, choices_[i].stream.prompt_logprobs(), {*fields_.return_prompt_logprobs});
    if (fields_.return_token_ids) {
      if (!chat_) one["prompt_token_ids"] = prompt_of(i).tokens;
      one["token_ids"] = std::move(delta.tokens);
    }
    choices.push_back(std::move(one));
  }
  Json out = head();
  out["choices"] = std::move(choices);
  out["usage"] = usage_of_all();
  if (chat_ && fields_.return_prompt_logprobs)
    out["prompt_logprobs"] = prompt_logprobs_json(*tokenizer_, choices_[0].stream.prompt_logprobs(), {*fields_.return_prompt_logprobs});
  if (chat_ && fields_.return_token_ids) out["prompt_token_ids"] = prompts_[0].tokens;
  return out;
}

}  // namespace weir
