// Renders templates for tests/parity/test_chat_template.py. Each line of stdin is {"template": …, "variables": {…}}; each line of
// stdout the answer {"text": …} or {"error": …}. Templates are parsed once.
#include <iostream>
#include <map>
#include <string>

#include "weir/base/error.h"
#include "weir/text/chat_template.h"

int main() {
  std::map<std::string, weir::ChatTemplate> templates;
  for (std::string line; std::getline(std::cin, line);) {
    weir::Json answer;
    try {
      const weir::Json request = weir::parse_json(line, "stdin");
      const std::string text = request.at("template").get<std::string>();
      auto it = templates.find(text);
      if (it == templates.end()) it = templates.emplace(text, weir::ChatTemplate(text, "template")).first;
      answer["text"] = it->second.render(request.at("variables"));
    } catch (const weir::Error& e) {
      answer["error"] = e.what();
    }
    std::cout << weir::dump_json(answer) << std::endl;
  }
}
