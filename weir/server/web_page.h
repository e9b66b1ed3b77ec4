// The chat page served at "/": one HTML document, embedded in the binary by the build.
#pragma once

#include <string_view>

namespace weir {

std::string_view web_page();

}  // namespace weir
