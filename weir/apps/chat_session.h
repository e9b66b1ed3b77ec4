// A conversation with /v1/chat/completions of any OpenAI-compatible server: what is sent, and what a streamed answer says. No sockets, no
// terminal.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "weir/base/json.h"
#include "weir/text/reasoning.h"

namespace weir {

struct ChatSettings {
  std::string model;
  std::string system;            // empty: none
  std::optional<bool> thinking;  // nullopt: as the model's template does
  std::optional<double> temperature, top_p;
  std::optional<int64_t> top_k, max_tokens, seed;
};

class ChatSession {
 public:
  explicit ChatSession(ChatSettings settings) : settings_(std::move(settings)) {}

  ChatSettings& settings() { return settings_; }
  void ask(const std::string& text);  // the next user turn
  // The turn's answer. Empty (stopped before it began, or failed): the question is forgotten too, so that turns keep alternating.
  void answered(const std::string& text);
  void reset() { turns_ = Json::array(); }
  size_t num_turns() const { return turns_.size(); }

  std::string request_body() const;

 private:
  ChatSettings settings_;
  Json turns_ = Json::array();  // {"role", "content"} each, without the system message
};

// Reads the lines of a streamed answer.
class ChatStream {
 public:
  struct Delta {
    std::string reasoning;
    std::string content;
  };
  // One line, without its line end. Throws Error(kUnavailable) for an error that the server sends inside the stream.
  Delta push(std::string_view line);
  // At the end of the stream: what was held back as a possible marker.
  Delta finish();

  bool done() const { return done_; }                                  // "[DONE]" was seen
  const std::string& finish_reason() const { return finish_reason_; }  // empty while it runs
  std::optional<int64_t> completion_tokens() const { return completion_tokens_; }

 private:
  // A server without a reasoning parser sends thoughts as part of the content.
  ReasoningParser inline_thoughts_{false};
  bool done_ = false;
  std::string finish_reason_;
  std::optional<int64_t> completion_tokens_;
};

// The message of an OpenAI error body, or the status when there is none.
std::string error_message(int status, std::string_view body);

}  // namespace weir
