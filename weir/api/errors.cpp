#include "weir/api/errors.h"

#include "weir/api/fields.h"

namespace weir {
namespace {

const char* type_of(int status) {
  switch (status) {
    case 400: return "BadRequestError";
    case 401: return "AuthenticationError";
    case 404: return "NotFoundError";
    case 405: return "MethodNotAllowedError";
    case 408: return "RequestTimeoutError";
    case 413: return "RequestTooLargeError";
    case 429: return "RateLimitError";
    case 431: return "HeaderTooLargeError";
    case 503: return "ServiceUnavailableError";
    default: return status < 500 ? "BadRequestError" : "InternalServerError";
  }
}

int status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument: return 400;
    case ErrorCode::kNotFound: return 404;
    case ErrorCode::kResourceExhausted: return 429;
    case ErrorCode::kUnavailable: return 503;
    case ErrorCode::kCancelled: return 503;
    case ErrorCode::kInternal: return 500;
  }
  return 500;
}

}  // namespace

ApiError to_api_error(const Error& error) {
  const auto* field = dynamic_cast<const FieldError*>(&error);
  return {status_of(error.code), error.what(), field ? field->param : ""};
}

Json error_json(const ApiError& error) {
  return {{"error",
           {{"message", error.message},
            {"type", type_of(error.status)},
            {"param", error.param.empty() ? Json() : Json(error.param)},
            {"code", error.status}}}};
}

}  // namespace weir
