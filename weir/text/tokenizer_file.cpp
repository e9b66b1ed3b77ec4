#include "weir/text/tokenizer_file.h"

#include <simdjson.h>

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>

#include "weir/base/error.h"
#include "weir/base/json.h"
#include "weir/text/normalizer.h"
#include "weir/text/tokenizer_bpe.h"

namespace weir {
namespace {

namespace dom = simdjson::dom;

constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxAddedTokenBytes = 1024;  // bounds the search for added tokens at each place of a text

std::string quoted(std::string_view text) {
  constexpr size_t kShown = 200;
  return dump_json(Json(std::string(text.substr(0, kShown)))) +
         (text.size() > kShown ? "… (" + std::to_string(text.size()) + " bytes)" : "");
}

const char* type_name(dom::element e) {
  switch (e.type()) {
    case dom::element_type::OBJECT: return "an object";
    case dom::element_type::ARRAY: return "an array";
    case dom::element_type::STRING: return "a string";
    case dom::element_type::BOOL: return "a boolean";
    case dom::element_type::NULL_VALUE: return "null";
    default: return "a number";
  }
}

class Reader {
 public:
  explicit Reader(const std::string& where) : where_(where) {}
  TokenizerFile read(dom::element root);

 private:
  template <class... Parts>
  [[noreturn]] void bad(std::string_view field, const Parts&... parts) const {
    fail(ErrorCode::kInvalidArgument, where_, ": ", field, ": ", parts...);
  }
  template <class T>
  T as(dom::element e, std::string_view field, const char* wanted) const {
    T value;
    if (e.get(value)) bad(field, "must be ", wanted, ", is ", type_name(e));
    return value;
  }
  dom::object object(dom::element e, std::string_view field) const { return as<dom::object>(e, field, "an object"); }
  dom::array array(dom::element e, std::string_view field) const { return as<dom::array>(e, field, "an array"); }
  std::string_view string(dom::element e, std::string_view field) const { return as<std::string_view>(e, field, "a string"); }
  // The member of an object, nullopt when it is missing or null.
  static std::optional<dom::element> find(dom::object from, std::string_view key) {
    dom::element e;
    if (from.at_key(key).get(e) || e.is_null()) return std::nullopt;
    return e;
  }
  dom::element require(dom::object from, std::string_view key, std::string_view field) const {
    if (const auto e = find(from, key)) return *e;
    bad(concat(field, ".", key), "is missing");
  }
  bool flag(dom::object from, std::string_view key, std::string_view field) const {
    return as<bool>(require(from, key, field), concat(field, ".", key), "true or false");
  }
  std::string_view type(dom::object from, std::string_view field) const {
    return string(require(from, "type", field), concat(field, ".type"));
  }
  // A member that changes the result in HF and is not built here: it may be missing, null or the one value that changes nothing.
  void must_be_off(dom::object from, std::string_view key, std::string_view field) const;
  int32_t token_id(dom::element e, std::string_view field) const;

  bool read_normalizer(dom::element e, const std::string& field) const;  // true for NFC
  Splitter read_pre_tokenizer(dom::object root) const;
  void read_vocabulary(dom::object model, Vocabulary& vocabulary) const;
  void read_merges(dom::object model, TokenizerFile& file) const;
  void read_added_tokens(dom::object root, TokenizerFile& file) const;

  const std::string& where_;
};

void Reader::must_be_off(dom::object from, std::string_view key, std::string_view field) const {
  const auto e = find(from, key);
  if (!e) return;
  const bool off = (e->is_bool() && !bool(*e)) || (e->is_string() && std::string_view(*e).empty()) || (e->is_number() && double(*e) == 0);
  if (!off) bad(concat(field, field.empty() ? "" : ".", key), "not built: must be null or absent, is ", quoted(simdjson::minify(*e)));
}

int32_t Reader::token_id(dom::element e, std::string_view field) const {
  const auto id = as<int64_t>(e, field, "an integer");
  if (id < 0 || id > Vocabulary::kMaxId) bad(field, "token id must be in [0, ", Vocabulary::kMaxId, "], is ", id);
  return static_cast<int32_t>(id);
}

bool Reader::read_normalizer(dom::element e, const std::string& field) const {
  if (e.is_null()) return false;
  const dom::object from = object(e, field);
  const std::string_view kind = type(from, field);
  if (kind == "NFC") return true;
  if (kind != "Sequence") bad(field + ".type", "not built: ", quoted(kind), "; built are \"NFC\", \"Sequence\" of it, and null");
  bool nfc = false;
  size_t i = 0;
  for (const dom::element part : array(require(from, "normalizers", field), field + ".normalizers"))
    nfc |= read_normalizer(part, concat(field, ".normalizers[", i++, "]"));
  return nfc;
}

Splitter Reader::read_pre_tokenizer(dom::object root) const {
  constexpr std::string_view kBuilt = "; built is \"Sequence\" of one \"Split\" and one \"ByteLevel\"";
  const dom::object sequence = object(require(root, "pre_tokenizer", "the top level"), "pre_tokenizer");
  if (const auto kind = type(sequence, "pre_tokenizer"); kind != "Sequence") bad("pre_tokenizer.type", "not built: ", quoted(kind), kBuilt);
  const dom::array parts = array(require(sequence, "pretokenizers", "pre_tokenizer"), "pre_tokenizer.pretokenizers");
  if (parts.size() != 2) bad("pre_tokenizer.pretokenizers", "not built: ", parts.size(), " parts", kBuilt);

  const std::string split_field = "pre_tokenizer.pretokenizers[0]", bytes_field = "pre_tokenizer.pretokenizers[1]";
  const dom::object split = object(parts.at(0), split_field), bytes = object(parts.at(1), bytes_field);
  if (const auto kind = type(split, split_field); kind != "Split") bad(split_field + ".type", "not built: ", quoted(kind), kBuilt);
  if (const auto kind = type(bytes, bytes_field); kind != "ByteLevel") bad(bytes_field + ".type", "not built: ", quoted(kind), kBuilt);
  if (flag(bytes, "add_prefix_space", bytes_field)) bad(bytes_field + ".add_prefix_space", "not built: must be false");
  if (flag(bytes, "use_regex", bytes_field)) bad(bytes_field + ".use_regex", "not built: must be false");

  if (const auto behavior = string(require(split, "behavior", split_field), split_field + ".behavior"); behavior != "Isolated")
    bad(split_field + ".behavior", "not built: must be \"Isolated\", is ", quoted(behavior));
  if (flag(split, "invert", split_field)) bad(split_field + ".invert", "not built: must be false");
  const std::string pattern_field = split_field + ".pattern";
  const dom::object pattern = object(require(split, "pattern", split_field), pattern_field);
  const std::string_view regex = string(require(pattern, "Regex", pattern_field), pattern_field + ".Regex");
  const auto splitter = Splitter::for_pattern(regex);
  if (!splitter) bad(pattern_field + ".Regex", "not built: ", quoted(regex), "; built are the patterns of Qwen2/Qwen3 and of Qwen3.5");
  return *splitter;
}

void Reader::read_vocabulary(dom::object model, Vocabulary& vocabulary) const {
  constexpr std::string_view kField = "model.vocab";
  const dom::object entries = object(require(model, "vocab", "model"), kField);
  vocabulary.reserve(std::min<size_t>(entries.size(), Vocabulary::kMaxId));
  std::string bytes;
  for (const auto [letters, value] : entries) {
    int64_t id;
    if (value.get(id) || id < 0 || id > Vocabulary::kMaxId)
      bad(kField, "the id of ", quoted(letters), " must be an integer in [0, ", Vocabulary::kMaxId, "], is ",
          quoted(simdjson::minify(value)));
    const auto token = static_cast<int32_t>(id);
    if (vocabulary.has(token)) bad(kField, "id ", id, " is given to two tokens, the second is ", quoted(letters));
    bytes.clear();
    const bool spelled = append_spelled_bytes(letters, bytes);
    if (spelled && vocabulary.find(bytes)) bad(kField, "the token ", quoted(letters), " appears twice");
    vocabulary.add(token, bytes, spelled);
  }
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    if (!vocabulary.find({&byte, 1})) bad(kField, "not byte-level: there is no token for byte ", b);
  }
}

void Reader::read_merges(dom::object model, TokenizerFile& file) const {
  constexpr std::string_view kField = "model.merges";
  const dom::array merges = array(require(model, "merges", "model"), kField);
  std::string bytes;
  size_t rank = 0;
  const auto token = [&](std::string_view letters) {
    bytes.clear();
    const auto id = append_spelled_bytes(letters, bytes) ? file.vocabulary.find(bytes) : std::nullopt;
    if (!id) bad(concat(kField, "[", rank, "]"), "the token ", quoted(letters), " is not in model.vocab");
    return *id;
  };
  for (const dom::element merge : merges) {
    if (rank == Bpe::kMaxMerges) bad(kField, "more than ", rank, " merges");
    std::string_view left, right, line;
    dom::array pair;
    if (!merge.get(line)) {
      const size_t space = line.find(' ');
      if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos)
        bad(concat(kField, "[", rank, "]"), "must be two tokens with one space between, is ", quoted(line));
      left = line.substr(0, space);
      right = line.substr(space + 1);
    } else if (merge.get(pair) || pair.size() != 2 || pair.at(0).get(left) || pair.at(1).get(right)) {
      bad(concat(kField, "[", rank, "]"), "must be \"a b\" or [\"a\", \"b\"], is ", quoted(simdjson::minify(merge)));
    }
    const int32_t left_id = token(left), right_id = token(right);
    if (left.empty() || right.empty()) bad(concat(kField, "[", rank, "]"), "a part of a merge must not be empty");
    bytes.assign(file.vocabulary.bytes(left_id));
    bytes += file.vocabulary.bytes(right_id);
    const auto result = file.vocabulary.find(bytes);
    if (!result) bad(concat(kField, "[", rank, "]"), "the result ", quoted(concat(left, right)), " is not in model.vocab");
    file.merges.push_back({left_id, right_id, *result});
    ++rank;
  }
}

void Reader::read_added_tokens(dom::object root, TokenizerFile& file) const {
  const auto list = find(root, "added_tokens");
  if (!list) return;
  std::unordered_map<std::string, size_t> seen;  // content -> index
  std::string bytes, storage;
  size_t i = 0;
  for (const dom::element e : array(*list, "added_tokens")) {
    const std::string field = concat("added_tokens[", i, "]");
    const dom::object from = object(e, field);
    AddedToken token;
    token.id = token_id(require(from, "id", field), field + ".id");
    token.content = string(require(from, "content", field), field + ".content");
    if (token.content.empty() || token.content.size() > kMaxAddedTokenBytes)
      bad(field + ".content", "must have 1 to ", kMaxAddedTokenBytes, " bytes, has ", token.content.size());
    if (flag(from, "single_word", field)) bad(field + ".single_word", "not built: must be false, token ", quoted(token.content));
    token.lstrip = flag(from, "lstrip", field);
    token.rstrip = flag(from, "rstrip", field);
    token.normalized = flag(from, "normalized", field);
    token.special = flag(from, "special", field);

    // The model's vocabulary may hold the token too: then under the same id.
    bytes.clear();
    const bool spelled = append_spelled_bytes(token.content, bytes);
    if (const auto known = spelled ? file.vocabulary.find(bytes) : std::nullopt; known && *known != token.id)
      bad(field + ".id", "the token ", quoted(token.content), " has id ", *known, " in model.vocab, here ", token.id);
    if (!file.vocabulary.has(token.id)) {
      file.vocabulary.add(token.id, bytes, false);
    } else if (file.vocabulary.bytes(token.id) != bytes || file.vocabulary.is_spelled(token.id) != spelled) {
      bad(field + ".id", token.id, " belongs to another token than ", quoted(token.content));
    }
    if (const auto [other, fresh] = seen.emplace(token.content, i); !fresh)
      bad(field + ".content", quoted(token.content), " is the same as that of added_tokens[", other->second, "]");
    // HF finds and decodes such a token by its normalised content, and then no longer knows whether it is special.
    if (token.normalized && file.normalize_nfc && nfc(token.content, storage) != token.content)
      bad(field + ".content", "not built: a token with \"normalized\": true must be in NFC, is ", quoted(token.content));
    file.added.push_back(std::move(token));
    ++i;
  }
}

TokenizerFile Reader::read(dom::element document) {
  const dom::object root = object(document, "the top level");
  if (const auto version = find(root, "version"); version && string(*version, "version") != "1.0")
    bad("version", "must be \"1.0\", is ", quoted(string(*version, "version")));
  must_be_off(root, "truncation", "");
  must_be_off(root, "padding", "");

  TokenizerFile file{.vocabulary = {}, .added = {}, .merges = {}, .splitter = read_pre_tokenizer(root)};
  if (const auto normalizer = find(root, "normalizer")) file.normalize_nfc = read_normalizer(*normalizer, "normalizer");
  if (const auto processor = find(root, "post_processor")) {
    if (const auto kind = type(object(*processor, "post_processor"), "post_processor"); kind != "ByteLevel")
      bad("post_processor.type", "not built: ", quoted(kind), "; built are \"ByteLevel\" and null");
  }
  const dom::object decoder = object(require(root, "decoder", "the top level"), "decoder");
  if (const auto kind = type(decoder, "decoder"); kind != "ByteLevel")
    bad("decoder.type", "not built: ", quoted(kind), "; built is \"ByteLevel\"");

  const dom::object model = object(require(root, "model", "the top level"), "model");
  if (const auto kind = type(model, "model"); kind != "BPE") bad("model.type", "not built: ", quoted(kind), "; built is \"BPE\"");
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}) must_be_off(model, key, "model");
  if (const auto ignore = find(model, "ignore_merges")) file.ignore_merges = as<bool>(*ignore, "model.ignore_merges", "true or false");
  read_vocabulary(model, file.vocabulary);
  read_merges(model, file);
  read_added_tokens(root, file);
  return file;
}

}  // namespace

TokenizerFile read_tokenizer_file(std::string_view json, const std::string& where) {
  dom::parser parser;
  if (const auto error = parser.allocate(std::max<size_t>(json.size(), 64), kMaxDepth); error)
    fail(ErrorCode::kResourceExhausted, where, ": cannot parse ", json.size(), " bytes of JSON: ", simdjson::error_message(error));
  dom::element root;
  if (const auto error = parser.parse(json.data(), json.size()).get(root); error)
    fail(ErrorCode::kInvalidArgument, where, ": not valid JSON: ", simdjson::error_message(error), " (nesting is limited to ", kMaxDepth,
         ")");
  return Reader(where).read(root);
}

}  // namespace weir
