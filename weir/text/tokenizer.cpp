#include "weir/text/tokenizer.h"

#include <unordered_map>

#include "weir/base/error.h"
#include "weir/base/json.h"
#include "weir/text/normalizer.h"
#include "weir/text/tokenizer_added.h"
#include "weir/text/tokenizer_bpe.h"
#include "weir/text/tokenizer_file.h"
#include "weir/text/tokenizer_vocabulary.h"
#include "weir/text/unicode.h"

namespace weir {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{64} << 20;  // the largest published ones have about 20 MB; the parser takes a multiple of this
constexpr size_t kMaxTextBytes = size_t{1} << 30;     // positions inside a piece are 32-bit

// The tokens to look for in the text as it came, or in the normalised text.
AddedTokenFinder finder(const TokenizerFile& file, bool normalized) {
  std::vector<AddedToken> tokens;
  for (const auto& token : file.added)
    if (token.normalized == normalized) tokens.push_back(token);
  return AddedTokenFinder(std::move(tokens));
}

}  // namespace

struct Tokenizer::Impl {
  explicit Impl(TokenizerFile&& file)
      : vocabulary(std::move(file.vocabulary)),
        bpe(vocabulary, file.ignore_merges, file.merges.size()),
        splitter(file.splitter),
        normalize_nfc(file.normalize_nfc),
        added_raw(finder(file, false)),
        added_normalized(finder(file, true)),
        special(static_cast<size_t>(vocabulary.size())) {
    for (const auto& [left, right, result] : file.merges) bpe.add_merge(left, right, result);
    for (const auto& token : file.added) {
      added_ids.emplace(token.content, token.id);
      special[static_cast<size_t>(token.id)] = token.special;
    }
  }

  // text: valid UTF-8 without added tokens that are looked for in raw text.
  void encode_plain(std::string_view text, bool parse_special, std::string& storage, Bpe::Scratch& scratch,
                    std::vector<int32_t>& out) const {
    const auto encode_pieces = [&](std::string_view part) {
      for (size_t begin = 0; begin < part.size();) {
        const size_t end = splitter.piece_end(part, begin);
        bpe.encode(part.substr(begin, end - begin), scratch, out);
        begin = end;
      }
    };
    if (normalize_nfc) text = nfc(text, storage);
    if (!parse_special || added_normalized.empty()) return encode_pieces(text);
    cut_added_tokens(added_normalized, text, encode_pieces, [&](int32_t id) { out.push_back(id); });
  }

  const Vocabulary vocabulary;
  Bpe bpe;  // borrows vocabulary
  Splitter splitter;
  bool normalize_nfc;
  AddedTokenFinder added_raw, added_normalized;
  std::vector<bool> special;  // by id
  std::unordered_map<std::string, int32_t> added_ids;
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

std::shared_ptr<const Tokenizer> Tokenizer::load(const std::string& dir) {
  const std::string path = dir + "/tokenizer.json";
  return parse(read_file(path, kMaxFileBytes), path);
}

std::shared_ptr<const Tokenizer> Tokenizer::parse(std::string_view json, const std::string& where) {
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::make_unique<Impl>(read_tokenizer_file(json, where))));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool parse_special) const {
  if (text.size() >= kMaxTextBytes)
    fail(ErrorCode::kInvalidArgument, "text of ", text.size(), " bytes to encode, allowed are ", kMaxTextBytes - 1);
  std::vector<int32_t> out;
  out.reserve(text.size() / 3 + 8);
  std::string valid, storage;
  Bpe::Scratch scratch;
  text = unicode::replace_invalid_utf8(text, valid);
  const auto plain = [&](std::string_view part) { impl_->encode_plain(part, parse_special, storage, scratch, out); };
  if (parse_special) {
    cut_added_tokens(impl_->added_raw, text, plain, [&](int32_t id) { out.push_back(id); });
  } else {
    plain(text);
  }
  return out;
}

std::string Tokenizer::decode(std::span<const int32_t> tokens, bool skip_special) const {
  std::string joined, storage;
  for (const int32_t token : tokens)
    if (!skip_special || !is_special(token)) joined += bytes(token);
  const std::string_view valid = unicode::replace_invalid_utf8(joined, storage);
  return valid.data() == joined.data() ? joined : storage;
}

std::string_view Tokenizer::bytes(int32_t token) const { return impl_->vocabulary.bytes(token); }

std::string Tokenizer::token_text(int32_t token) const {
  std::string storage;
  return std::string(unicode::replace_invalid_utf8(bytes(token), storage));
}

bool Tokenizer::is_special(int32_t token) const { return token >= 0 && token < size() && impl_->special[static_cast<size_t>(token)]; }

std::optional<int32_t> Tokenizer::find(std::string_view token) const {
  const auto added = impl_->added_ids.find(std::string(token));
  return added != impl_->added_ids.end() ? added->second : impl_->vocabulary.find(token);
}

int32_t Tokenizer::size() const { return impl_->vocabulary.size(); }

}  // namespace weir
