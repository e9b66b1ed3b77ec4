// The bodies of the endpoints that need no engine, and the way in for every body that comes from outside.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "weir/api/api_options.h"
#include "weir/api/request.h"
#include "weir/api/served_model.h"

namespace weir {

// Body text of POST /v1/completions and /v1/chat/completions to structs. Throws Error for anything that is wrong with it.
CompletionRequest read_completion_request(std::string_view body, const ServedModel& model, const ApiOptions& options);
ChatRequest read_chat_request(std::string_view body, const ServedModel& model, const ApiOptions& options);

Json models_json(const ServedModel& model, const ApiOptions& options, int64_t created);  // GET /v1/models
// GET /v1/models/{name}; Error(kNotFound) for a name that is not served.
Json model_json(const std::string& name, const ServedModel& model, const ApiOptions& options, int64_t created);

// POST /tokenize: {"prompt"} or {"messages"} -> {count, max_model_len, tokens, token_strs}.
Json tokenize(std::string_view body, const ServedModel& model, const ApiOptions& options);
// POST /detokenize: {"tokens"} -> {"prompt"}.
Json detokenize(std::string_view body, const ServedModel& model, const ApiOptions& options);

}  // namespace weir
