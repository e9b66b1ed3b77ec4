#include "weir/api/request.h"

#include <algorithm>
#include <charconv>

namespace weir {
namespace {

constexpr int32_t kMaxLogprobs = 20;
constexpr size_t kMaxStops = 64;
constexpr size_t kMaxStopBytes = 4096;
constexpr size_t kMaxSaltBytes = 1024;
constexpr int32_t kMaxInt = std::numeric_limits<int32_t>::max();

template <class T>
void assign(T& target, const std::optional<T>& value) {
  if (value) target = *value;
}

std::vector<std::pair<Token, float>> parse_logit_bias(const Fields& body, int32_t vocab_size) {
  std::vector<std::pair<Token, float>> out;
  const Json* object = body.object("logit_bias");
  if (!object) return out;
  for (const auto& [key, value] : object->get_ref<const Json::object_t&>()) {
    const std::string field = concat(body.name("logit_bias"), "[", dump_json(key.substr(0, 20)), "]");
    Token id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || id >= vocab_size)
      fail_field(field, "must have a token id in [0, ", vocab_size - 1, "] as its key");
    if (!value.is_number()) fail_field(field, "must be a number in [-100, 100], got ", show(value));
    const auto bias = value.get<double>();
    if (!(bias >= -100 && bias <= 100)) fail_field(field, "must be in [-100, 100], got ", show(value));
    out.emplace_back(id, static_cast<float>(bias));
  }
  return out;
}

// A word may start a text or follow a space, and its tokens differ: both spellings are forbidden when their first tokens do.
std::vector<std::vector<Token>> parse_bad_words(const Fields& body, const Tokenizer& tokenizer) {
  std::vector<std::vector<Token>> out;
  const auto words = body.texts("bad_words");
  if (words.size() > kMaxStops * 16) fail_field(body.name("bad_words"), "must have at most ", kMaxStops * 16, " words, got ", words.size());
  for (const std::string& word : words) {
    const size_t start = word.find_first_not_of(" \t\r\n");
    if (start == std::string::npos || word.size() > kMaxStopBytes)
      fail_field(body.name("bad_words"), "must hold words of 1 to ", kMaxStopBytes, " bytes, got one of ", word.size());
    const auto plain = tokenizer.encode(word.substr(start), /*parse_special=*/false);
    const auto spaced = tokenizer.encode(concat(" ", word.substr(start)), /*parse_special=*/false);
    if (!plain.empty()) out.push_back(plain);
    if (!spaced.empty() && (plain.empty() || (spaced[0] != plain[0] && spaced.size() == plain.size()))) out.push_back(spaced);
  }
  return out;
}

void parse_sampling(const Fields& body, const ServedModel& model, SamplingParams& sampling) {
  assign(sampling.temperature, body.number("temperature"));
  assign(sampling.top_p, body.number("top_p"));
  if (const auto top_k = body.int32("top_k", -1)) sampling.top_k = std::max(*top_k, 0);
  assign(sampling.min_p, body.number("min_p"));
  assign(sampling.presence_penalty, body.number("presence_penalty"));
  assign(sampling.frequency_penalty, body.number("frequency_penalty"));
  assign(sampling.repetition_penalty, body.number("repetition_penalty"));
  const auto seed = body.integer("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
  if (seed) sampling.seed = static_cast<uint64_t>(*seed);
  assign(sampling.min_tokens, body.int32("min_tokens", 0));
  assign(sampling.ignore_eos, body.boolean("ignore_eos"));
  if (body.find("stop_token_ids")) sampling.stop_token_ids = body.tokens("stop_token_ids", model.vocab_size);
  if (body.find("allowed_token_ids")) {
    sampling.allowed_token_ids = body.tokens("allowed_token_ids", model.vocab_size);
    if (sampling.allowed_token_ids.empty())
      fail_field(body.name("allowed_token_ids"), "must hold at least one token id, got an empty list");
  }
  if (body.find("logit_bias")) sampling.logit_bias = parse_logit_bias(body, model.vocab_size);
  if (body.find("bad_words")) sampling.bad_words = parse_bad_words(body, *model.tokenizer);
  sampling.prompt_logprobs = body.int32("prompt_logprobs", 0, kMaxLogprobs);
}

void refuse_unbuilt(const Fields& body) {
  for (const char* field : {"structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"})
    if (body.find(field)) fail_not_built(body.name(field), "structured output");
  if (const Json* format = body.object("response_format")) {
    const auto type = Fields(*format, "response_format.").text("type");
    if (!type) fail_field("response_format.type", "is missing");
    if (*type != "text") fail_not_built("response_format", "structured output (type must be \"text\", got \"", *type, "\")");
  }
  if (body.boolean("use_beam_search").value_or(false)) fail_not_built(body.name("use_beam_search"), "beam search");
  if (const auto suffix = body.text("suffix"); suffix && !suffix->empty()) fail_not_built(body.name("suffix"), "insertion before a suffix");
  if (body.find("prompt_embeds")) fail_not_built(body.name("prompt_embeds"), "prompts of embeddings");
  if (body.find("truncate_prompt_tokens")) fail_not_built(body.name("truncate_prompt_tokens"), "truncating prompts");
}

GenerationFields parse_common(const Fields& body, const ServedModel& model, const ApiOptions& options) {
  refuse_unbuilt(body);
  GenerationFields out;
  out.sampling = model.default_sampling;
  parse_sampling(body, model, out.sampling);

  out.stop = body.texts("stop");
  if (out.stop.size() > kMaxStops) fail_field(body.name("stop"), "must have at most ", kMaxStops, " strings, got ", out.stop.size());
  for (const std::string& stop : out.stop)
    if (stop.empty() || stop.size() > kMaxStopBytes)
      fail_field(body.name("stop"), "must hold strings of 1 to ", kMaxStopBytes, " bytes, got one of ", stop.size());
  assign(out.include_stop_str_in_output, body.boolean("include_stop_str_in_output"));
  assign(out.skip_special_tokens, body.boolean("skip_special_tokens"));
  assign(out.return_token_ids, body.boolean("return_token_ids"));
  assign(out.return_tokens_as_token_ids, body.boolean("return_tokens_as_token_ids"));
  assign(out.echo, body.boolean("echo"));

  assign(out.n, body.int32("n", 1, options.max_n));
  // vLLM's rule: choosing among more samples than are returned is gone.
  if (const auto best_of = body.int32("best_of"); best_of && *best_of != out.n)
    fail_field(body.name("best_of"), "must be equal to n (", out.n, "), got ", *best_of);
  assign(out.priority, body.int32("priority"));
  if (const auto salt = body.text("cache_salt")) {
    if (salt->empty() || salt->size() > kMaxSaltBytes)
      fail_field(body.name("cache_salt"), "must have 1 to ", kMaxSaltBytes, " bytes, got ", salt->size());
    out.cache_salt = *salt;
  }

  assign(out.stream, body.boolean("stream"));
  if (const Json* stream_options = body.object("stream_options")) {
    if (!out.stream) fail_field(body.name("stream_options"), "is only allowed when stream is true");
    const Fields fields(*stream_options, body.name("stream_options."));
    assign(out.include_usage, fields.boolean("include_usage"));
    out.continuous_usage_stats = out.include_usage && fields.boolean("continuous_usage_stats").value_or(false);
  }
  if (out.stream && out.sampling.prompt_logprobs)
    fail_field(body.name("prompt_logprobs"), "is not available when stream is true (echo with logprobs is)");
  out.return_prompt_logprobs = out.sampling.prompt_logprobs;
  return out;
}

std::vector<PromptInput> parse_prompts(const Fields& body, const ServedModel& model, const ApiOptions& options) {
  const Json* prompt = body.find("prompt");
  if (!prompt) fail_field(body.name("prompt"), "is missing");
  if (prompt->is_string()) return {prompt->get<std::string>()};
  if (!prompt->is_array())
    fail_field("prompt", "must be a string, a list of strings, a list of token ids or a list of such lists, got ", show(*prompt));
  if (prompt->empty()) fail_field("prompt", "must not be an empty list");
  if (prompt->front().is_number()) return {token_list(*prompt, "prompt", model.vocab_size)};
  if (prompt->size() > static_cast<size_t>(options.max_prompts))
    fail_field("prompt", "must have at most ", options.max_prompts, " prompts, got ", prompt->size());
  std::vector<PromptInput> out;
  for (const Json& item : *prompt) {
    const std::string field = concat("prompt[", out.size(), "]");
    if (item.is_string())
      out.emplace_back(item.get<std::string>());
    else if (item.is_array())
      out.emplace_back(token_list(item, field, model.vocab_size));
    else
      fail_field(field, "must be a string or a list of token ids, got ", show(item));
  }
  return out;
}

Json parse_content_part(const Json& part, const std::string& field) {
  if (part.is_string()) return {{"type", "text"}, {"text", part}};
  const Fields fields(part, field + ".");
  const std::string type = fields.text("type").value_or(fields.find("text") ? "text" : "");
  if (type.starts_with("image") || fields.find("image") || fields.find("image_url")) fail_not_built(field, "images in messages");
  if (type.starts_with("video") || fields.find("video") || fields.find("video_url")) fail_not_built(field, "videos in messages");
  if (type.find("audio") != std::string::npos) fail_field(field, "is audio, which this model does not understand");
  if (type != "text" && type != "input_text" && type != "output_text" && type != "refusal" && type != "thinking")
    fail_field(field + ".type", "must be \"text\", got ", fields.find("type") ? show(*fields.find("type")) : "nothing");
  const char* key = type == "refusal" ? "refusal" : type == "thinking" ? "thinking" : "text";
  const auto text = fields.text(key);
  if (!text) fail_field(field + "." + key, "is missing");
  return {{"type", "text"}, {"text", *text}};
}

Json parse_content(const Json* content, const std::string& field) {
  if (!content) return "";  // an assistant turn that only calls tools
  if (content->is_string()) return *content;
  if (!content->is_array()) fail_field(field, "must be a string or a list of parts, got ", show(*content));
  Json parts = Json::array();
  for (const Json& part : *content) parts.push_back(parse_content_part(part, concat(field, "[", parts.size(), "]")));
  return parts;
}

// Templates go through the arguments by name, clients send them as JSON text.
Json parse_tool_calls(const Json& calls, const std::string& field) {
  Json out = Json::array();
  for (const Json& item : calls) {
    const std::string where = concat(field, "[", out.size(), "]");
    const Fields call(item, where + ".");
    const Json* function = call.object("function");
    if (!function) fail_field(where + ".function", "is missing");
    const Fields fields(*function, where + ".function.");
    const auto name = fields.text("name");
    if (!name) fail_field(where + ".function.name", "is missing");
    Json arguments = Json::object();
    if (const Json* given = fields.find("arguments")) {
      arguments = *given;
      if (given->is_string()) {
        const auto& text = given->get_ref<const std::string&>();
        try {
          arguments = text.empty() ? Json::object() : parse_json(text, where + ".function.arguments");
        } catch (const Error& error) {
          throw FieldError(error.code, where + ".function.arguments", error.what());
        }
      }
      if (!arguments.is_object()) fail_field(where + ".function.arguments", "must be a JSON object, got ", show(arguments));
    }
    Json one = {{"type", "function"}, {"function", {{"name", *name}, {"arguments", std::move(arguments)}}}};
    if (const auto id = call.text("id")) one["id"] = *id;
    out.push_back(std::move(one));
  }
  return out;
}

Json parse_message(const Json& item, const std::string& where) {
  const Fields message(item, where + ".");
  const auto role = message.text("role");
  if (!role || role->empty()) fail_field(where + ".role", "is missing");
  Json out = {{"role", *role}, {"content", parse_content(message.find("content"), where + ".content")}};
  for (const char* field : {"name", "tool_call_id"})
    if (const auto text = message.text(field)) out[field] = *text;
  auto reasoning = message.text("reasoning");
  if (!reasoning) reasoning = message.text("reasoning_content");
  if (reasoning) out.update({{"reasoning", *reasoning}, {"reasoning_content", *reasoning}});  // templates know either name
  const Json* calls = message.array("tool_calls");
  if (calls && !calls->empty()) out["tool_calls"] = parse_tool_calls(*calls, where + ".tool_calls");
  return out;
}

Json parse_tools(const Fields& body) {
  const Json* tools = body.array("tools");
  const Json* choice = body.find("tool_choice");
  if (choice && (!choice->is_string() || *choice == "required"))
    fail_not_built("tool_choice", "forcing a tool call (use \"auto\" or \"none\"), got ", show(*choice));
  if (choice && *choice != "auto" && *choice != "none") fail_field("tool_choice", "must be \"auto\" or \"none\", got ", show(*choice));
  if (!tools || tools->empty()) return nullptr;
  size_t position = 0;
  for (const Json& tool : *tools) {
    const std::string where = concat("tools[", position++, "]");
    const Json* function = Fields(tool, where + ".").object("function");
    if (!function) fail_field(where + ".function", "is missing");
    if (!Fields(*function, where + ".function.").text("name")) fail_field(where + ".function.name", "is missing");
  }
  return *tools;
}

}  // namespace

void check_model(const Fields& body, const ApiOptions& options) {
  const auto model = body.text("model");
  if (!model || std::ranges::find(options.served_names, *model) != options.served_names.end()) return;
  throw FieldError(ErrorCode::kNotFound, "model",
                   concat("The model ", show(*body.find("model")), " does not exist. Served here: ", Json(options.served_names).dump()));
}

CompletionRequest parse_completion_request(const Fields& body, const ServedModel& model, const ApiOptions& options) {
  check_model(body, options);
  CompletionRequest out;
  out.common = parse_common(body, model, options);
  out.common.max_tokens = body.int32("max_tokens", 0, kMaxInt);
  if (out.common.max_tokens == 0 && !out.common.echo) fail_field("max_tokens", "must be at least 1 (0 is only allowed with echo), got 0");
  out.common.sampling.logprobs = body.int32("logprobs", 0, kMaxLogprobs);
  SamplingParams& sampling = out.common.sampling;
  if (out.common.echo && sampling.logprobs) sampling.prompt_logprobs = std::max(*sampling.logprobs, sampling.prompt_logprobs.value_or(0));
  out.prompts = parse_prompts(body, model, options);
  return out;
}

Conversation parse_conversation(const Fields& body, const ApiOptions& options) {
  Conversation out;
  const Json* messages = body.array("messages");
  if (!messages) fail_field("messages", "is missing");
  if (messages->empty()) fail_field("messages", "must not be an empty list");
  out.messages = Json::array();
  for (const Json& item : *messages) out.messages.push_back(parse_message(item, concat("messages[", out.messages.size(), "]")));
  out.tools = parse_tools(body);

  if (body.find("chat_template"))
    fail_field("chat_template", "is not accepted from requests: start the server with --chat-template instead");
  if (body.find("documents")) fail_not_built("documents", "documents for retrieval");
  out.template_kwargs = options.default_chat_template_kwargs;
  if (const Json* kwargs = body.object("chat_template_kwargs"))
    for (const auto& [key, value] : kwargs->get_ref<const Json::object_t&>()) {
      if (key == "messages" || key == "tools")
        fail_field("chat_template_kwargs", "must not contain \"", key, "\": it has a field of its own");
      out.template_kwargs[key] = value;
    }
  out.continue_final_message = body.boolean("continue_final_message").value_or(false);
  const auto add_generation_prompt = body.boolean("add_generation_prompt");
  if (out.continue_final_message && add_generation_prompt.value_or(false))
    fail_field("continue_final_message", "and add_generation_prompt must not both be true");
  out.add_generation_prompt = add_generation_prompt.value_or(!out.continue_final_message);
  return out;
}

ChatRequest parse_chat_request(const Fields& body, const ServedModel& model, const ApiOptions& options) {
  check_model(body, options);
  ChatRequest out;
  out.common = parse_common(body, model, options);
  const auto completion_tokens = body.int32("max_completion_tokens", 1, kMaxInt);
  out.common.max_tokens = completion_tokens ? completion_tokens : body.int32("max_tokens", 1, kMaxInt);  // the old name of the field
  const bool logprobs = body.boolean("logprobs").value_or(false);
  const auto top_logprobs = body.int32("top_logprobs", 0, kMaxLogprobs);
  if (top_logprobs && *top_logprobs > 0 && !logprobs) fail_field("top_logprobs", "is only allowed when logprobs is true");
  if (logprobs) out.common.sampling.logprobs = top_logprobs.value_or(0);
  out.conversation = parse_conversation(body, options);
  out.include_reasoning = body.boolean("include_reasoning").value_or(true);
  return out;
}

}  // namespace weir
