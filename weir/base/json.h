// One way to read JSON: parse_json() is strict (UTF-8, no trailing text), bounded in depth, and never throws anything but Error.
// Objects keep the order of their keys. Very large documents (vocabularies, weight maps, safetensors headers) are read with
// simdjson directly in their module instead, because an ordered object is searched linearly.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace weir {

using Json = nlohmann::ordered_json;

// Parses text; `where` names the source ("config.json", "request body") in the error. Nesting deeper than 64 is an error.
Json parse_json(std::string_view text, std::string_view where);

// Reads a whole file. Errors: kNotFound when it cannot be opened, kInvalidArgument above max_bytes.
std::string read_file(const std::string& path, int64_t max_bytes = int64_t{256} << 20);
Json read_json_file(const std::string& path);

// Compact text; invalid UTF-8 in strings is replaced by U+FFFD, never an exception.
std::string dump_json(const Json& value);

}  // namespace weir
