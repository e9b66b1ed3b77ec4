// Errors as OpenAI's clients expect them: {"error": {"message", "type", "param", "code"}}, with vLLM's type names.
#pragma once

#include <string>

#include "weir/base/error.h"
#include "weir/base/json.h"

namespace weir {

struct ApiError {
  int status = 500;
  std::string message;
  std::string param;  // the field of the request; empty: null
};

ApiError to_api_error(const Error& error);
Json error_json(const ApiError& error);

}  // namespace weir
