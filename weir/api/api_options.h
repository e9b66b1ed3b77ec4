// What the operator decides about the API, whatever the model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "weir/base/json.h"

namespace weir {

struct ApiOptions {
  std::vector<std::string> served_names;               // --served-model-name: accepted in "model"; the first is reported
  std::string model_path;                              // "root" of /v1/models
  std::string version;                                 // /version
  std::string reasoning_parser;                        // "" or "qwen3"
  Json default_chat_template_kwargs = Json::object();  // --default-chat-template-kwargs; a request's own win
  int32_t max_n = 128;
  int32_t max_prompts = 1024;  // per completions request
};

}  // namespace weir
