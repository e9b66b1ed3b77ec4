#include "weir/api/endpoints.h"

#include <algorithm>

#include "weir/api/prompt.h"

namespace weir {
namespace {

constexpr std::string_view kBody = "request body";

}  // namespace

CompletionRequest read_completion_request(std::string_view body, const ServedModel& model, const ApiOptions& options) {
  const Json json = parse_json(body, kBody);
  return parse_completion_request(Fields(json), model, options);
}

ChatRequest read_chat_request(std::string_view body, const ServedModel& model, const ApiOptions& options) {
  const Json json = parse_json(body, kBody);
  return parse_chat_request(Fields(json), model, options);
}

Json model_json(const std::string& name, const ServedModel& model, const ApiOptions& options, int64_t created) {
  if (std::ranges::find(options.served_names, name) == options.served_names.end())
    throw FieldError(ErrorCode::kNotFound, "model",
                     concat("The model ", show(name), " does not exist. Served here: ", dump_json(options.served_names)));
  return {{"id", name},
          {"object", "model"},
          {"created", created},
          {"owned_by", "weir"},
          {"root", options.model_path},
          {"parent", nullptr},
          {"max_model_len", model.max_model_len}};
}

Json models_json(const ServedModel& model, const ApiOptions& options, int64_t created) {
  Json data = Json::array();
  for (const std::string& name : options.served_names) data.push_back(model_json(name, model, options, created));
  return {{"object", "list"}, {"data", std::move(data)}};
}

Json tokenize(std::string_view body, const ServedModel& model, const ApiOptions& options) {
  const Json json = parse_json(body, kBody);
  const Fields fields(json);
  check_model(fields, options);
  std::string text;
  if (fields.find("messages")) {
    text = render_conversation(parse_conversation(fields, options), model);
  } else if (auto prompt = fields.text("prompt")) {
    text = std::move(*prompt);
  } else {
    fail_field("prompt", "or messages is missing");
  }
  const auto tokens = model.tokenizer->encode(text);
  Json strings;
  if (fields.boolean("return_token_strs").value_or(false)) {
    strings = Json::array();
    for (const Token token : tokens) strings.push_back(model.tokenizer->token_text(token));
  }
  return {{"count", tokens.size()}, {"max_model_len", model.max_model_len}, {"tokens", tokens}, {"token_strs", std::move(strings)}};
}

Json detokenize(std::string_view body, const ServedModel& model, const ApiOptions& options) {
  const Json json = parse_json(body, kBody);
  const Fields fields(json);
  check_model(fields, options);
  if (!fields.find("tokens")) fail_field("tokens", "is missing");
  return {{"prompt", model.tokenizer->decode(fields.tokens("tokens", model.vocab_size), /*skip_special=*/false)}};
}

}  // namespace weir
