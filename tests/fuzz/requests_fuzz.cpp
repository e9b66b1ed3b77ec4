// Bodies of HTTP requests, up to the point where the engine would get them, against the bundled model's tokenizer and template.
#include <memory>
#include <string>

#include "fuzz_input.h"
#include "weir/api/endpoints.h"
#include "weir/api/generation.h"
#include "weir/text/chat_template.h"
#include "weir/text/tokenizer.h"

namespace {

weir::ServedModel bundled_model() {
  const std::string dir = std::string(WEIR_SOURCE_DIR) + "/models/weir-tiny";
  weir::ServedModel model;
  model.tokenizer = weir::Tokenizer::load(dir);
  model.chat_template = std::make_shared<weir::ChatTemplate>(weir::ChatTemplate::load(dir));
  model.max_model_len = 512;
  model.vocab_size = model.tokenizer->size() + 3;
  model.model_type = "qwen3_5";
  return model;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const weir::ServedModel kModel = bundled_model();
  static const weir::ApiOptions kOptions{.served_names = {"m"}, .model_path = "m", .reasoning_parser = "qwen3"};
  const std::string_view body = weir::text_of(data, size);
  const auto start = [&](const auto& request) {
    const weir::Generation generation(request, kModel, kOptions, {"id", 0});
    for (int32_t i = 0; i < generation.num_choices(); ++i) generation.engine_request(i, weir::RequestId{});
  };
  weir::expect_answer_or_error([&] { start(weir::read_completion_request(body, kModel, kOptions)); });
  weir::expect_answer_or_error([&] { start(weir::read_chat_request(body, kModel, kOptions)); });
  weir::expect_answer_or_error([&] { weir::tokenize(body, kModel, kOptions); });
  weir::expect_answer_or_error([&] { weir::detokenize(body, kModel, kOptions); });
  return 0;
}
