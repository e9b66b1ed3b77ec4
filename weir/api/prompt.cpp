#include "weir/api/prompt.h"

#include <algorithm>

namespace weir {
namespace {

constexpr std::string_view kSpace = " \t\r\n\f\v";
// No vocabulary has longer tokens on average, even after normalisation shortened the text.
constexpr size_t kTokenBytes = 1024;

std::string_view trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpace);
  return begin == std::string_view::npos ? std::string_view{} : text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
}

// Cuts the rendered text behind the final message, whose end the template has closed (as Hugging Face's continue_final_message).
std::string cut_behind_final_message(std::string rendered, const Json& message) {
  const Json& content = message["content"];
  std::string text;
  if (content.is_string())
    text = content.get<std::string>();
  else if (!content.empty())
    text = content.back()["text"].get<std::string>();
  const std::string_view trimmed = trim(text);
  const size_t at = trimmed.empty() ? std::string::npos : rendered.rfind(trimmed);
  if (at == std::string::npos) fail_field("continue_final_message", "needs a final message whose text the chat template keeps");
  const std::string_view with_tail = std::string_view(text).substr(text.find_first_not_of(kSpace));
  rendered.resize(at + (std::string_view(rendered).substr(at).starts_with(with_tail) ? with_tail.size() : trimmed.size()));
  return rendered;
}

[[noreturn]] void fail_context(const std::string& field, const ServedModel& model, const std::string& total, const std::string& parts) {
  throw FieldError(ErrorCode::kInvalidArgument, field,
                   concat("This model's maximum context length is ", model.max_model_len, " tokens. However, you requested ", total,
                          " tokens (", parts, "). Please reduce the length of the ", field, " or of the completion."));
}

}  // namespace

std::string render_conversation(const Conversation& conversation, const ServedModel& model) {
  if (!model.chat_template)
    fail_field("messages", "cannot be rendered: the model has no chat template; start the server with --chat-template");
  Json variables = conversation.template_kwargs;
  variables["messages"] = conversation.messages;
  if (!conversation.tools.is_null()) variables["tools"] = conversation.tools;
  variables["add_generation_prompt"] = conversation.add_generation_prompt;
  std::string text;
  try {
    text = model.chat_template->render(variables);
  } catch (const Error& error) {
    throw FieldError(error.code, "messages", error.what());
  }
  return conversation.continue_final_message ? cut_behind_final_message(std::move(text), conversation.messages.back()) : text;
}

bool ends_inside_thought(std::string_view prompt) {
  if (const size_t turn = prompt.rfind("<|im_start|>"); turn != std::string_view::npos) prompt.remove_prefix(turn);
  const size_t open = prompt.rfind("<think>");
  if (open == std::string_view::npos) return false;
  return prompt.find("</think>", open) == std::string_view::npos;
}

std::vector<Token> encode_prompt(std::string_view text, const ServedModel& model, const std::string& field) {
  const size_t at_least = text.size() / kTokenBytes;
  if (at_least > static_cast<size_t>(model.max_model_len))
    fail_context(field, model, concat("at least ", at_least), concat(text.size(), " bytes of text"));
  auto tokens = model.tokenizer->encode(text);
  if (tokens.empty()) fail_field(field, "must give at least one token, got an empty text");
  return tokens;
}

int32_t answer_budget(size_t prompt_tokens, std::optional<int32_t> asked, std::optional<int32_t> otherwise, const ServedModel& model,
                      const std::string& field) {
  const auto context = static_cast<int64_t>(model.max_model_len);
  const auto prompt = static_cast<int64_t>(prompt_tokens);
  const int64_t wanted = asked ? *asked : 1;
  if (prompt + wanted > context)
    fail_context(field, model, std::to_string(prompt + wanted), concat(prompt, " in the ", field, ", ", wanted, " in the completion"));
  if (asked) return *asked;
  return static_cast<int32_t>(std::min<int64_t>(otherwise.value_or(model.max_model_len), context - prompt));
}

}  // namespace weir
