#include "weir/text/chat_template.h"

#include <filesystem>
#include <optional>

#include "weir/base/error.h"
#include "weir/text/jinja_ast.h"
#include "weir/text/jinja_eval.h"

namespace weir {

struct ChatTemplate::Impl {
  jinja::Template parsed;
};

ChatTemplate::ChatTemplate(std::string_view text, std::string where)
    : impl_(std::make_unique<Impl>(Impl{jinja::parse(text, std::move(where))})) {}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

std::string ChatTemplate::render(const Json& variables) const { return jinja::Interpreter(impl_->parsed, variables).run(); }

namespace {

// "chat_template" of a JSON file: a string, or a list of {"name", "template"} of which "default" counts.
std::optional<ChatTemplate> from_json_file(const std::string& path) {
  const Json file = read_json_file(path);
  if (!file.is_object() || !file.contains("chat_template")) return std::nullopt;
  const Json& given = file["chat_template"];
  const std::string where = path + ": chat_template";
  if (given.is_string()) return ChatTemplate(given.get_ref<const std::string&>(), where);
  if (given.is_null()) return std::nullopt;
  if (!given.is_array()) fail(ErrorCode::kInvalidArgument, where, " must be a string or a list of named templates");
  for (const Json& entry : given) {
    if (!entry.is_object() || !entry.contains("name") || !entry.contains("template") || !entry["name"].is_string() ||
        !entry["template"].is_string())
      fail(ErrorCode::kInvalidArgument, where, " must hold objects with the strings \"name\" and \"template\"");
    if (entry["name"] == "default") return ChatTemplate(entry["template"].get_ref<const std::string&>(), where + " \"default\"");
  }
  fail(ErrorCode::kInvalidArgument, where, " is a list without a template named \"default\"");
}

}  // namespace

ChatTemplate ChatTemplate::load(const std::string& dir) {
  const auto path_of = [&](const char* file) { return (std::filesystem::path(dir) / file).string(); };
  std::error_code ignored;
  if (const std::string path = path_of("chat_template.jinja"); std::filesystem::exists(path, ignored))
    return ChatTemplate(read_file(path), path);
  for (const char* file : {"chat_template.json", "tokenizer_config.json"}) {
    const std::string path = path_of(file);
    if (!std::filesystem::exists(path, ignored)) continue;
    if (auto found = from_json_file(path)) return std::move(*found);
  }
  fail(ErrorCode::kNotFound, dir,
       " has no chat template: no chat_template.jinja, and no \"chat_template\" in chat_template.json or tokenizer_config.json");
}

}  // namespace weir
