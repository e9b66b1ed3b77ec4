#include "weir/api/fields.h"

#include <cmath>

namespace weir {
namespace {

constexpr size_t kShownBytes = 80;

[[noreturn]] void wrong_type(const std::string& field, const char* wanted, const Json& seen) {
  fail_field(field, "must be ", wanted, ", got ", show(seen));
}

// Containers are not printed: one of 30 MB must not be written out to show its first 80 bytes.
std::string shown_text(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return concat("a list of ", value.size());
  if (!value.is_string()) return dump_json(value);
  const auto& text = value.get_ref<const std::string&>();
  if (text.size() <= kShownBytes) return dump_json(value);
  size_t end = kShownBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // not inside a character
  return dump_json(text.substr(0, end)) + "…";
}

}  // namespace

std::string show(const Json& value) {
  if (value.is_object() || value.is_array() || value.is_null()) return shown_text(value);
  return concat(shown_text(value), " (", value.type_name(), ")");
}

Fields::Fields(const Json& object, std::string path) : path_(std::move(path)) {
  if (!object.is_object()) {
    const std::string where = path_.empty() ? "request body" : path_.substr(0, path_.size() - 1);
    throw FieldError(ErrorCode::kInvalidArgument, path_.empty() ? "" : where, concat(where, " must be a JSON object, got ", show(object)));
  }
  values_.reserve(object.size());
  for (const auto& [key, value] : object.get_ref<const Json::object_t&>())
    if (!value.is_null()) values_.emplace(key, &value);
}

const Json* Fields::find(std::string_view name) const {
  const auto it = values_.find(name);
  return it == values_.end() ? nullptr : it->second;
}

std::optional<bool> Fields::boolean(std::string_view field) const {
  const Json* value = find(field);
  if (!value) return std::nullopt;
  if (!value->is_boolean()) wrong_type(name(field), "true or false", *value);
  return value->get<bool>();
}

std::optional<int64_t> Fields::integer(std::string_view field, int64_t min, int64_t max) const {
  const Json* value = find(field);
  if (!value) return std::nullopt;
  if (!value->is_number_integer()) wrong_type(name(field), "an integer", *value);
  const bool too_large = value->is_number_unsigned() && value->get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()};
  const auto number = too_large ? std::numeric_limits<int64_t>::max() : value->get<int64_t>();
  if (too_large || number < min || number > max) {
    if (max == std::numeric_limits<int32_t>::max() || max == std::numeric_limits<int64_t>::max())
      fail_field(name(field), "must be at least ", min, too_large || number > max ? concat(" and at most ", max) : "", ", got ",
                 value->dump());
    fail_field(name(field), "must be in [", min, ", ", max, "], got ", value->dump());
  }
  return number;
}

std::optional<int32_t> Fields::int32(std::string_view field, int32_t min, int32_t max) const {
  const auto value = integer(field, min, max);
  return value ? std::optional(static_cast<int32_t>(*value)) : std::nullopt;
}

std::optional<float> Fields::number(std::string_view field) const {
  const Json* value = find(field);
  if (!value) return std::nullopt;
  if (!value->is_number()) wrong_type(name(field), "a number", *value);
  const auto number = value->get<double>();
  if (std::abs(number) > double{std::numeric_limits<float>::max()}) wrong_type(name(field), "a number of usual size", *value);
  return static_cast<float>(number);
}

std::optional<std::string> Fields::text(std::string_view field) const {
  const Json* value = find(field);
  if (!value) return std::nullopt;
  if (!value->is_string()) wrong_type(name(field), "a string", *value);
  return value->get<std::string>();
}

const Json* Fields::object(std::string_view field) const {
  const Json* value = find(field);
  if (value && !value->is_object()) wrong_type(name(field), "an object", *value);
  return value;
}

const Json* Fields::array(std::string_view field) const {
  const Json* value = find(field);
  if (value && !value->is_array()) wrong_type(name(field), "a list", *value);
  return value;
}

std::vector<std::string> Fields::texts(std::string_view field) const {
  const Json* value = find(field);
  if (!value) return {};
  if (value->is_string()) return {value->get<std::string>()};
  if (!value->is_array()) wrong_type(name(field), "a string or a list of strings", *value);
  std::vector<std::string> out;
  out.reserve(value->size());
  for (const Json& item : *value) {
    if (!item.is_string()) wrong_type(concat(name(field), "[", out.size(), "]"), "a string", item);
    out.push_back(item.get<std::string>());
  }
  return out;
}

std::optional<int32_t> token_in(const Json& value, int32_t vocab_size) {
  if (!value.is_number_integer()) return std::nullopt;
  if (value.is_number_unsigned() && value.get<uint64_t>() >= static_cast<uint64_t>(vocab_size)) return std::nullopt;
  const auto id = value.get<int64_t>();
  return id < 0 || id >= vocab_size ? std::nullopt : std::optional(static_cast<int32_t>(id));
}

std::vector<int32_t> token_list(const Json& list, const std::string& field, int32_t vocab_size) {
  std::vector<int32_t> out;
  out.reserve(list.size());
  for (const Json& item : list) {
    const auto id = token_in(item, vocab_size);
    if (!id) wrong_type(concat(field, "[", out.size(), "]"), concat("a token id in [0, ", vocab_size - 1, "]").c_str(), item);
    out.push_back(*id);
  }
  return out;
}

std::vector<int32_t> Fields::tokens(std::string_view field, int32_t vocab_size) const {
  const Json* list = array(field);
  return list ? token_list(*list, name(field), vocab_size) : std::vector<int32_t>{};
}

}  // namespace weir
