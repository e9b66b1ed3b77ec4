#include "weir/apps/chat_session.h"

#include "weir/base/error.h"

namespace weir {
namespace {

// The object below `name`, or null.
const Json& member(const Json& object, const char* name) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  const auto it = object.find(name);
  return it == object.end() ? kNull : *it;
}

std::string text_of(const Json& value) { return value.is_string() ? value.get<std::string>() : ""; }

}  // namespace

void ChatSession::ask(const std::string& text) { turns_.push_back(Json{{"role", "user"}, {"content", text}}); }

void ChatSession::answered(const std::string& text) {
  if (text.empty())
    turns_.erase(turns_.size() - 1);
  else
    turns_.push_back(Json{{"role", "assistant"}, {"content", text}});
}

std::string ChatSession::request_body() const {
  Json messages = Json::array();
  if (!settings_.system.empty()) messages.push_back(Json{{"role", "system"}, {"content", settings_.system}});
  for (const Json& turn : turns_) messages.push_back(turn);
  // The usage in every chunk: an answer that is stopped never gets to the last one.
  Json body = {{"model", settings_.model},
               {"messages", std::move(messages)},
               {"stream", true},
               {"stream_options", {{"include_usage", true}, {"continuous_usage_stats", true}}}};
  if (settings_.thinking) body["chat_template_kwargs"] = Json{{"enable_thinking", *settings_.thinking}};
  if (settings_.temperature) body["temperature"] = *settings_.temperature;
  if (settings_.top_p) body["top_p"] = *settings_.top_p;
  if (settings_.top_k) body["top_k"] = *settings_.top_k;
  if (settings_.max_tokens) body["max_tokens"] = *settings_.max_tokens;
  if (settings_.seed) body["seed"] = *settings_.seed;
  return dump_json(body);
}

ChatStream::Delta ChatStream::push(std::string_view line) {
  static constexpr std::string_view kData = "data:";
  Delta out;
  if (!line.starts_with(kData)) return out;  // empty lines end an event; comments keep a connection open
  line.remove_prefix(kData.size());
  if (line.starts_with(' ')) line.remove_prefix(1);
  if (line == "[DONE]") {
    done_ = true;
    return out;
  }
  const Json chunk = parse_json(line, "answer of the server");
  if (const Json& error = member(chunk, "error"); !error.is_null()) fail(ErrorCode::kUnavailable, error_message(0, line));
  if (const Json& tokens = member(member(chunk, "usage"), "completion_tokens"); tokens.is_number_integer())
    completion_tokens_ = tokens.get<int64_t>();
  const Json& choices = member(chunk, "choices");
  if (!choices.is_array() || choices.empty()) return out;
  const Json& delta = member(choices[0], "delta");
  // vLLM's newer name first; servers that send both send the same.
  out.reasoning = text_of(member(delta, "reasoning"));
  if (out.reasoning.empty()) out.reasoning = text_of(member(delta, "reasoning_content"));
  const ReasoningParser::Delta parts = inline_thoughts_.push(text_of(member(delta, "content")));
  out.reasoning += parts.reasoning;
  out.content = parts.content;
  if (const std::string reason = text_of(member(choices[0], "finish_reason")); !reason.empty()) finish_reason_ = reason;
  return out;
}

ChatStream::Delta ChatStream::finish() {
  const ReasoningParser::Delta parts = inline_thoughts_.finish();
  return {parts.reasoning, parts.content};
}

std::string error_message(int status, std::string_view body) {
  try {
    const Json parsed = parse_json(body, "error of the server");
    const Json& error = member(parsed, "error");
    if (error.is_string()) return error.get<std::string>();
    if (const std::string message = text_of(member(error, "message")); !message.empty()) return message;
    if (const std::string message = text_of(member(parsed, "message")); !message.empty()) return message;
  } catch (const Error&) {  // not JSON: a proxy's page, perhaps
  }
  return concat("the server answered with status ", status);
}

}  // namespace weir
