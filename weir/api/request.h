// The bodies of /v1/completions and /v1/chat/completions as structs: types and ranges checked, the model's defaults filled in,
// nothing tokenized yet (api/generation.h does that). Everything throws FieldError for the client to read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "weir/api/api_options.h"
#include "weir/api/fields.h"
#include "weir/api/served_model.h"

namespace weir {

// What both endpoints have in common.
struct GenerationFields {
  SamplingParams sampling;                        // max_tokens is decided when the length of the prompt is known
  std::optional<int32_t> return_prompt_logprobs;  // sampling.prompt_logprobs may be more: echo needs them too
  std::optional<int32_t> max_tokens;              // as asked for; 0 means: the prompt only
  std::vector<std::string> stop;
  bool include_stop_str_in_output = false;
  bool skip_special_tokens = true;
  bool return_token_ids = false;
  bool return_tokens_as_token_ids = false;  // tokens of logprobs are spelled "token_id:123"
  int32_t n = 1;
  int32_t priority = 0;
  std::string cache_salt;  // cached prefixes are shared among requests with the same one only
  bool stream = false;
  bool include_usage = false;           // a last chunk with the usage
  bool continuous_usage_stats = false;  // the usage so far in every chunk
  bool echo = false;                    // completions: the prompt; chat: the final message that is continued
};

using PromptInput = std::variant<std::string, std::vector<Token>>;

struct CompletionRequest {
  GenerationFields common;
  std::vector<PromptInput> prompts;  // at least one
};

// What the chat template is given; also the chat form of /tokenize.
struct Conversation {
  Json messages;                          // as templates expect them: content is a string or a list of text parts
  Json tools;                             // null when there are none
  Json template_kwargs = Json::object();  // the server's defaults, then the request's
  bool add_generation_prompt = true;
  bool continue_final_message = false;
};

struct ChatRequest {
  GenerationFields common;
  Conversation conversation;
  bool include_reasoning = true;
};

// Throws FieldError(kNotFound) when "model" is present and not one of the served names.
void check_model(const Fields& body, const ApiOptions& options);

CompletionRequest parse_completion_request(const Fields& body, const ServedModel& model, const ApiOptions& options);
ChatRequest parse_chat_request(const Fields& body, const ServedModel& model, const ApiOptions& options);
Conversation parse_conversation(const Fields& body, const ApiOptions& options);

}  // namespace weir
