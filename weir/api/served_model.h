// What everything in front of the engine (api, server, offline generation) needs to know of the loaded model.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "weir/core/request.h"
#include "weir/text/chat_template.h"
#include "weir/text/tokenizer.h"

namespace weir {

struct ServedModel {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatTemplate> chat_template;  // null: the model has none
  SamplingParams default_sampling;                    // generation_config.json over the built-in defaults
  int32_t max_model_len = 0;
  int32_t vocab_size = 0;  // rows of the matrices, padding included
  std::string model_type;
};

}  // namespace weir
