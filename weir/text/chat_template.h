// The model's chat template (Jinja), rendered by an own interpreter of the subset these templates use, so that nothing needs Python.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "weir/base/json.h"

namespace weir {

class ChatTemplate {
 public:
  // Parses template text; `where` names it in errors. Throws Error with line and construct for what is malformed or not supported.
  explicit ChatTemplate(std::string_view text, std::string where = "chat_template");
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // DIR/chat_template.jinja, else chat_template.json, else "chat_template" of tokenizer_config.json (a string, or a list with "default").
  // kNotFound when the model has none.
  static ChatTemplate load(const std::string& dir);

  // variables: an object with messages, tools, add_generation_prompt, enable_thinking, bos_token …; missing ones are undefined.
  // Throws Error(kInvalidArgument) for raise_exception() and for faults inside the template; bounded in output size and in steps,
  // so a hostile template cannot hang or exhaust the server. Const and without shared state: any thread.
  std::string render(const Json& variables) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace weir
