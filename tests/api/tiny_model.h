// weir-tiny's tokenizer and template for tests of what stands in front of the engine; no weights.
#pragma once

#include <memory>
#include <string>

#include "weir/api/api_options.h"
#include "weir/api/served_model.h"

namespace weir {

inline const ServedModel& tiny_model() {
  static const ServedModel model = [] {
    const std::string dir = WEIR_SOURCE_DIR "/models/weir-tiny";
    ServedModel out;
    out.tokenizer = Tokenizer::load(dir);
    out.chat_template = std::make_shared<const ChatTemplate>(ChatTemplate::load(dir));
    out.default_sampling.temperature = 0.6f;
    out.default_sampling.top_k = 20;
    out.default_sampling.top_p = 0.95f;
    out.max_model_len = 512;
    out.vocab_size = 2048;
    out.model_type = "qwen3_5_moe";
    return out;
  }();
  return model;
}

inline ApiOptions tiny_options() {
  ApiOptions options;
  options.served_names = {"tiny", "weir-tiny"};
  options.model_path = "models/weir-tiny";
  options.version = "test";
  options.reasoning_parser = "qwen3";
  return options;
}

}  // namespace weir
