// Reads the fields of a JSON object with exact types: a wrong one throws FieldError, which names the field, what is allowed and what
// was seen. null counts as absent, as it does for OpenAI's clients. Unknown fields are the caller's to ignore.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "weir/base/error.h"
#include "weir/base/json.h"

namespace weir {

// An Error that belongs to one field of the request: "param" of the OpenAI error.
struct FieldError : Error {
  FieldError(ErrorCode error_code, std::string field, const std::string& message) : Error(error_code, message), param(std::move(field)) {}
  std::string param;
};

template <class... Parts>
[[noreturn]] void fail_field(const std::string& field, const Parts&... parts) {
  throw FieldError(ErrorCode::kInvalidArgument, field, concat(field, " ", parts...));
}
// A feature that weir knows of but does not have yet: never ignored silently.
template <class... Parts>
[[noreturn]] void fail_not_built(const std::string& field, const Parts&... parts) {
  throw FieldError(ErrorCode::kInvalidArgument, field, concat(field, ": not built: ", parts...));
}

// The value as a client would recognise it, shortened, with its type: `"hot" (string)`.
std::string show(const Json& value);

class Fields {
 public:
  // object is borrowed. path is put before the names in errors, e.g. "messages[2].". Throws when it is not an object.
  explicit Fields(const Json& object, std::string path = {});

  const Json* find(std::string_view name) const;  // nullptr when absent or null
  std::string name(std::string_view field) const { return path_ + std::string(field); }

  std::optional<bool> boolean(std::string_view field) const;
  std::optional<int64_t> integer(std::string_view field, int64_t min, int64_t max) const;
  std::optional<int32_t> int32(std::string_view field, int32_t min = std::numeric_limits<int32_t>::min(),
                               int32_t max = std::numeric_limits<int32_t>::max()) const;
  std::optional<float> number(std::string_view field) const;
  std::optional<std::string> text(std::string_view field) const;
  const Json* object(std::string_view field) const;  // nullptr when absent
  const Json* array(std::string_view field) const;   // nullptr when absent

  // A string or a list of strings; empty when absent.
  std::vector<std::string> texts(std::string_view field) const;
  // A list of token ids in [0, vocab_size); empty when absent.
  std::vector<int32_t> tokens(std::string_view field, int32_t vocab_size) const;

 private:
  std::string path_;
  std::unordered_map<std::string_view, const Json*> values_;  // a hostile object may have a million keys
};

std::optional<int32_t> token_in(const Json& value, int32_t vocab_size);  // nullopt: not an id in [0, vocab_size)
// list is an array; `field` names it in errors.
std::vector<int32_t> token_list(const Json& list, const std::string& field, int32_t vocab_size);

}  // namespace weir
