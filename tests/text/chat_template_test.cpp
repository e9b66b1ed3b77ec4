#include "weir/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "weir/base/error.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::HasSubstr;

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "(no error)";
}

Json golden() { return read_json_file(std::string(WEIR_SOURCE_DIR) + "/tests/text/golden/chat_template.json"); }

// What Jinja2 rendered, or that it refused; the text of raise_exception() must arrive whole.
void expect_as_jinja(const ChatTemplate* tmpl, const std::string& source, const Json& variables, const Json& want) {
  std::string got, error;
  try {
    got = tmpl != nullptr ? tmpl->render(variables) : ChatTemplate(source).render(variables);
  } catch (const Error& e) {
    EXPECT_EQ(e.code, ErrorCode::kInvalidArgument);
    error = e.what();
  }
  if (want.contains("text"))
    EXPECT_EQ(got, want["text"].get<std::string>()) << source << "\n" << variables.dump() << "\n" << error;
  else
    EXPECT_TRUE(!error.empty() && error.find(want["error"].get<std::string>()) != error.npos) << source << "\n"
                                                                                              << want.dump() << "\n"
                                                                                              << error << got;
}

TEST(ChatTemplate, RendersEveryConstructAsJinja2Does) {
  const Json file = golden();
  for (const Json& c : file["snippets"]) expect_as_jinja(nullptr, c["template"].get<std::string>(), file["variables"], c);
  EXPECT_GT(file["snippets"].size(), 700u);
}

TEST(ChatTemplate, RendersConversationsAsJinja2Does) {
  const Json file = golden();
  std::map<std::string, ChatTemplate> templates;
  for (const auto& [name, text] : file["templates"].items()) templates.emplace(name, ChatTemplate(text.get<std::string>(), name));
  for (const Json& c : file["chats"]) {
    const std::string name = c["template"].get<std::string>();
    expect_as_jinja(&templates.at(name), name, c["variables"], c);
  }
  EXPECT_EQ(file["chats"].size(), 150u);
}

TEST(ChatTemplate, RendersTheBundledModelsPrompt) {
  const ChatTemplate tmpl = ChatTemplate::load(std::string(WEIR_SOURCE_DIR) + "/models/weir-tiny");
  const Json messages = Json::array({{{"role", "user"}, {"content", "What is 7 plus 5?"}}});
  EXPECT_EQ(tmpl.render({{"messages", messages}, {"add_generation_prompt", true}}),
            "<|im_start|>user\nWhat is 7 plus 5?<|im_end|>\n<|im_start|>assistant\n<think>\n");
  EXPECT_EQ(tmpl.render({{"messages", messages}, {"add_generation_prompt", true}, {"enable_thinking", false}}),
            "<|im_start|>user\nWhat is 7 plus 5?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
}

TEST(ChatTemplate, ServesManyThreads) {
  const ChatTemplate tmpl("{% for m in messages %}{{ loop.index }}:{{ m | upper }};{% endfor %}");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&tmpl, t] {
      const std::string word(1, static_cast<char>('a' + t)), capital(1, static_cast<char>('A' + t));
      for (int i = 0; i < 200; ++i) EXPECT_EQ(tmpl.render({{"messages", {word, word}}}), "1:" + capital + ";2:" + capital + ";");
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(ChatTemplate, ErrorsNameTemplateAndLine) {
  EXPECT_THAT(error_of([] { ChatTemplate("a\n{% if x %}\n{{ 1 + }}", "my.jinja"); }),
              AllOf(HasSubstr("my.jinja, line 3"), HasSubstr("unexpected '}}'")));
  EXPECT_THAT(error_of([] { ChatTemplate("a\n{{ x | nofilter }}", "my.jinja"); }),
              AllOf(HasSubstr("line 2"), HasSubstr("no filter named 'nofilter'")));
  EXPECT_THAT(error_of([] { ChatTemplate("{% if x %}", "my.jinja"); }), AllOf(HasSubstr("not closed"), HasSubstr("{% endif %}")));
  const ChatTemplate tmpl("\n\n{{ raise_exception('no ' ~ what) }}", "my.jinja");
  EXPECT_THAT(error_of([&] { tmpl.render({{"what", "luck"}}); }), HasSubstr("my.jinja, line 3: no luck"));
  EXPECT_THAT(error_of([] { ChatTemplate("{{ a.b.c }}").render({{"a", Json::object()}}); }),
              HasSubstr("'dict object' has no attribute 'b'"));
  EXPECT_THAT(error_of([] { ChatTemplate("{{ a.b }}").render(Json::object()); }), HasSubstr("'a' is undefined"));
  EXPECT_THAT(error_of([] { ChatTemplate("x").render(Json::array()); }), HasSubstr("variables must be an object"));
}

TEST(ChatTemplate, KnowsTheDate) {
  const std::string year = ChatTemplate("{{ strftime_now('%Y') }}").render(Json::object());
  EXPECT_EQ(year.size(), 4u);
  EXPECT_GE(std::stoi(year), 2026);
  EXPECT_EQ(ChatTemplate("{{ strftime_now('%f') | length }}").render(Json::object()), "6");
}

// ---- where a model keeps its template

class TemplateDir : public testing::Test {
 protected:
  TemplateDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "weir_template_XXXXXX").string();
    dir_ = ::mkdtemp(pattern.data());
  }
  ~TemplateDir() override { std::filesystem::remove_all(dir_); }
  void write(const std::string& name, const std::string& text) const { std::ofstream(dir_ + "/" + name) << text; }
  std::string rendered() const { return ChatTemplate::load(dir_).render(Json::object()); }
  std::string error() const {
    return error_of([this] { ChatTemplate::load(dir_); });
  }
  std::string dir_;
};

TEST_F(TemplateDir, PrefersTheFileOfItsOwn) {
  write("tokenizer_config.json", R"({"chat_template": "third"})");
  EXPECT_EQ(rendered(), "third");
  write("chat_template.json", R"({"chat_template": "second"})");
  EXPECT_EQ(rendered(), "second");
  write("chat_template.jinja", "first");
  EXPECT_EQ(rendered(), "first");
}

TEST_F(TemplateDir, TakesTheDefaultOfAList) {
  write("tokenizer_config.json", R"({"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]})");
  EXPECT_EQ(rendered(), "d");
}

TEST_F(TemplateDir, NamesWhatIsMissingOrMalformed) {
  EXPECT_THAT(error(), AllOf(HasSubstr(dir_), HasSubstr("has no chat template")));
  write("tokenizer_config.json", R"({"chat_template": 5})");
  EXPECT_THAT(error(), AllOf(HasSubstr("tokenizer_config.json: chat_template"), HasSubstr("must be a string")));
  write("tokenizer_config.json", R"({"chat_template": [{"name": "tool_use", "template": "t"}]})");
  EXPECT_THAT(error(), HasSubstr("without a template named \"default\""));
  write("tokenizer_config.json", R"({"chat_template": [{"name": "default"}]})");
  EXPECT_THAT(error(), HasSubstr("must hold objects"));
  write("tokenizer_config.json", R"({"chat_template": null})");
  EXPECT_THAT(error(), HasSubstr("has no chat template"));
  write("chat_template.jinja", "{% for %}");
  EXPECT_THAT(error(), AllOf(HasSubstr("chat_template.jinja, line 1"), HasSubstr("expected")));
}

}  // namespace
}  // namespace weir
