// From the prompt of a request to tokens: the chat template, the tokenizer and the limits of the context.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "weir/api/request.h"

namespace weir {

// The conversation as text, by the model's template. FieldError("messages") when the model has none or its template refuses.
std::string render_conversation(const Conversation& conversation, const ServedModel& model);

// Whether an answer to this rendered prompt starts inside a thought: the last turn opens <think> and does not close it. What earlier
// turns say about <think> does not count.
bool ends_inside_thought(std::string_view prompt);

// Tokens of a text prompt; text that cannot fit the context is refused before the work of tokenizing it.
std::vector<Token> encode_prompt(std::string_view text, const ServedModel& model, const std::string& field);

// The most tokens the answer may have. asked: nullopt means `otherwise`, cut to what is left of the context.
// FieldError(field) with both lengths when prompt and answer do not fit.
int32_t answer_budget(size_t prompt_tokens, std::optional<int32_t> asked, std::optional<int32_t> otherwise, const ServedModel& model,
                      const std::string& field);

}  // namespace weir
