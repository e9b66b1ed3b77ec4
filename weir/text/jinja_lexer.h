// Cuts template text into tokens as Jinja2's lexer does with trim_blocks and lstrip_blocks on, the settings of transformers.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "weir/text/jinja_value.h"

namespace weir::jinja {

enum class TokenKind : uint8_t {
  kData,
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 1;
  std::string text;  // of data, names, operators and (unescaped) strings
  Value number;      // of kInteger and kFloat
};

// The last token is kEnd. Throws Error(kInvalidArgument) with `where` and the line; comments and raw blocks are gone from the result.
std::vector<Token> tokenize(std::string_view source, std::string_view where);

}  // namespace weir::jinja
