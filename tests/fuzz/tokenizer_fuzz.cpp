// A tokenizer.json, and behind a NUL byte a text for it. Every token must lie inside the table.
#include <algorithm>
#include <string>

#include "fuzz_input.h"
#include "weir/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input = weir::text_of(data, size);
  const size_t end = std::min(input.find('\0'), input.size());
  const std::string_view text = end < input.size() ? input.substr(end + 1) : "Hello <|im_end|>, wörld 12\n";
  static const weir::ModelDir kDir;
  kDir.write("tokenizer.json", input.substr(0, end));
  weir::expect_answer_or_error([&] {
    const auto tokenizer = weir::Tokenizer::load(kDir.path());
    for (const bool parse_special : {false, true}) {
      const auto tokens = tokenizer->encode(text, parse_special);
      for (const int32_t token : tokens) WEIR_CHECK(0 <= token && token < tokenizer->size(), "token ", token);
      tokenizer->decode(tokens, true);
      tokenizer->decode(tokens, false);
    }
    for (const int32_t token : {-1, 0, 1, tokenizer->size() - 1, tokenizer->size()}) {
      tokenizer->bytes(token);
      tokenizer->token_text(token);
      tokenizer->is_special(token);
    }
    tokenizer->find(text);
  });
  return 0;
}
