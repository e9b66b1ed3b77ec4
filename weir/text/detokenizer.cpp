#include "weir/text/detokenizer.h"

#include <utility>

#include "weir/text/unicode.h"

namespace weir {

Detokenizer::Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special)
    : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}

std::string Detokenizer::push(int32_t token) {
  if (skip_special_ && tokenizer_->is_special(token)) return {};
  pending_ += tokenizer_->bytes(token);
  std::string out;
  size_t at = 0;
  while (at < pending_.size()) {
    const auto rest = std::string_view(pending_).substr(at);
    const auto [kind, size] = unicode::scan_utf8(rest);
    if (kind == unicode::Utf8::kTruncated) break;
    out += kind == unicode::Utf8::kValid ? rest.substr(0, static_cast<size_t>(size)) : unicode::kReplacement;
    at += static_cast<size_t>(size);
  }
  pending_.erase(0, at);
  return out;
}

std::string Detokenizer::finish() {
  // What is pending is the beginning of one character, hence one bad sequence.
  const bool incomplete = !pending_.empty();
  pending_.clear();
  return incomplete ? std::string(unicode::kReplacement) : std::string();
}

}  // namespace weir
