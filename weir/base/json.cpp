#include "weir/base/json.h"

#include <simdjson.h>

#include <fstream>
#include <optional>
#include <string>
#include <unordered_map>

#include "weir/base/error.h"

namespace weir {
namespace {

constexpr size_t kMaxDepth = 64;

Json convert(simdjson::dom::element e) {
  using simdjson::dom::element_type;
  switch (e.type()) {
    case element_type::OBJECT: {
      // An ordered object is searched linearly, so inserting a million keys one by one would take hours: equal keys are found by hash.
      Json::object_t out;
      std::unordered_map<std::string_view, size_t> seen;
      const simdjson::dom::object object(e);
      out.reserve(object.size());
      for (auto [key, value] : object) {
        const auto [at, is_new] = seen.emplace(key, out.size());
        if (is_new)
          out.Container::emplace_back(std::string(key), convert(value));
        else
          out.Container::operator[](at->second).second = convert(value);  // the last of equal keys wins
      }
      return out;
    }
    case element_type::ARRAY: {
      Json::array_t out;
      for (auto value : simdjson::dom::array(e)) out.push_back(convert(value));
      return out;
    }
    case element_type::STRING: return std::string(std::string_view(e));
    case element_type::INT64: return int64_t(e);
    case element_type::UINT64: return uint64_t(e);
    case element_type::DOUBLE: return double(e);
    case element_type::BOOL: return bool(e);
    case element_type::NULL_VALUE: return nullptr;
  }
  return nullptr;
}

// simdjson refuses integers beyond 64 bits. The reader of a field can say more about such a value than the parser, so short texts get a
// second chance with nlohmann, where they become doubles. Short, because its ordered objects take quadratic time to build.
constexpr size_t kSecondChanceBytes = 64 << 10;

std::optional<Json> parse_with_huge_numbers(std::string_view text) {
  if (text.size() > kSecondChanceBytes) return std::nullopt;
  bool too_deep = false;
  const auto limit_depth = [&](int depth, Json::parse_event_t, Json&) {
    too_deep |= depth > static_cast<int>(kMaxDepth);
    return !too_deep;
  };
  Json out = Json::parse(text, limit_depth, /*allow_exceptions=*/false);
  if (too_deep || out.is_discarded()) return std::nullopt;
  return out;
}

}  // namespace

Json parse_json(std::string_view text, std::string_view where) {
  simdjson::dom::parser parser;
  if (const auto error = parser.allocate(std::max<size_t>(text.size(), 64), kMaxDepth); error)
    fail(ErrorCode::kResourceExhausted, where, ": cannot parse ", text.size(), " bytes of JSON: ", simdjson::error_message(error));
  simdjson::dom::element root;
  if (const auto error = parser.parse(simdjson::padded_string(text)).get(root); error) {
    if (error == simdjson::NUMBER_ERROR)
      if (auto json = parse_with_huge_numbers(text)) return *std::move(json);
    fail(ErrorCode::kInvalidArgument, where, ": not valid JSON: ", simdjson::error_message(error), " (nesting is limited to ", kMaxDepth,
         ")");
  }
  return convert(root);
}

std::string read_file(const std::string& path, int64_t max_bytes) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) fail(ErrorCode::kNotFound, "cannot open ", path);
  const auto size = static_cast<int64_t>(in.tellg());
  if (size < 0) fail(ErrorCode::kInvalidArgument, "cannot read ", path, ": not a regular file");
  if (size > max_bytes) fail(ErrorCode::kInvalidArgument, path, " has ", size, " bytes, at most ", max_bytes, " are read");
  std::string text(static_cast<size_t>(size), '\0');
  in.seekg(0);
  in.read(text.data(), static_cast<std::streamsize>(size));
  if (!in) fail(ErrorCode::kInvalidArgument, "cannot read ", path);
  return text;
}

Json read_json_file(const std::string& path) { return parse_json(read_file(path), path); }

std::string dump_json(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace weir
