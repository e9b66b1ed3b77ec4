// Byte-level BPE as tokenizer.json describes it: added tokens are cut out first, the rest is NFC-normalised, split by Qwen's pattern
// (Unicode 16 classes) and merged by rank. Identical to Hugging Face `tokenizers` for the Qwen2/3/3.5 family. Immutable: any thread.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weir {

class Tokenizer {
 public:
  // Reads DIR/tokenizer.json. Throws Error naming the file and the field for anything missing, malformed, hostile or not supported.
  static std::shared_ptr<const Tokenizer> load(const std::string& dir);
  // The same from the text of a tokenizer.json; `where` names it in errors.
  static std::shared_ptr<const Tokenizer> parse(std::string_view json, const std::string& where = "tokenizer.json");
  ~Tokenizer();

  // Invalid UTF-8 is replaced by U+FFFD. With parse_special, added tokens inside the text become their ids (as HF does).
  // O(n log n) whatever the text; texts of 1 GiB and more are an Error(kInvalidArgument).
  std::vector<int32_t> encode(std::string_view text, bool parse_special = true) const;

  // Bytes of the tokens joined; invalid UTF-8 replaced by U+FFFD. Unknown ids give nothing.
  std::string decode(std::span<const int32_t> tokens, bool skip_special) const;

  std::string_view bytes(int32_t token) const;  // raw bytes; empty for ids without a token
  std::string token_text(int32_t token) const;  // for logprobs: the decoded text, U+FFFD for partial characters
  bool is_special(int32_t token) const;         // flagged special (skipped by skip_special)
  int32_t size() const;                         // largest id + 1; the model's vocab_size may be larger (padding rows)

  // Id of an added token or vocabulary entry, by its plain text (" the", not "Ġthe").
  std::optional<int32_t> find(std::string_view token) const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace weir
