// Text of a growing token sequence, piece by piece: never half a character, and the pieces joined equal decode() of the whole.
#pragma once

#include <memory>
#include <string>

#include "weir/text/tokenizer.h"

namespace weir {

class Detokenizer {
 public:
  Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special);

  std::string push(int32_t token);  // complete characters that this token finishes; possibly empty
  std::string finish();             // what is still held back, incomplete bytes as U+FFFD

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_;
  std::string pending_;  // an unfinished UTF-8 sequence, at most 3 bytes
};

}  // namespace weir
