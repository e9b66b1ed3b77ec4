// Template text over fixed variables.
#include "fuzz_input.h"
#include "weir/text/chat_template.h"

namespace {

weir::Json variables() {
  return weir::parse_json(R"({
    "messages": [{"role": "system", "content": "be\nkind "},
                 {"role": "user", "content": [{"type": "text", "text": "Grüße 你好"}, {"type": "image"}]},
                 {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes", "reasoning_content": null,
                  "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1, "b": [true, null, 2.5], "c": {"d": "x"}}}}]},
                 {"role": "tool", "content": "42"}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "add_generation_prompt": true, "enable_thinking": false, "x": "text", "n": -7, "y": 0.1, "l": [3, "a", [1]], "big": 18446744073709551615})",
                          "variables");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const weir::Json kVariables = variables();
  weir::expect_answer_or_error([&] { weir::ChatTemplate(weir::text_of(data, size)).render(kVariables); });
  return 0;
}
