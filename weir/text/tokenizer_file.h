// tokenizer.json of Hugging Face `tokenizers`, read strictly: what weir would do differently from them is an error, not a guess.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "weir/text/splitter.h"
#include "weir/text/tokenizer_added.h"
#include "weir/text/tokenizer_vocabulary.h"

namespace weir {

struct TokenizerFile {
  struct Merge {
    int32_t left, right, result;
  };
  Vocabulary vocabulary;          // the model's tokens, among them one for each of the 256 bytes; added tokens that are not among them
                                  // are there by id and bytes, but find() does not know them
  std::vector<AddedToken> added;  // ids and contents differ
  std::vector<Merge> merges;      // the index is the rank
  bool ignore_merges = false;     // a piece that is in the vocabulary is one token
  bool normalize_nfc = false;
  Splitter splitter;
};

// json: the whole file. Throws Error(kInvalidArgument) naming `where`, the field, the value seen and what is allowed.
TokenizerFile read_tokenizer_file(std::string_view json, const std::string& where);

}  // namespace weir
