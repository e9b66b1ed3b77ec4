// Names out of checkpoint files: one spelling for every tensor, since exporters differ in the prefixes they write, and a form of any
// text that is safe to show.
#pragma once

#include <string>
#include <string_view>

namespace weir {

// "language_model.model.layers.0.x", "model.layers.0.x" -> "model.language_model.layers.0.x"; "visual.x" -> "model.visual.x";
// "language_model.lm_head.x" -> "lm_head.x"; "model.mtp.x" -> "mtp.x". Any other name is returned as it is.
std::string canonical_name(std::string_view file_name);

// Text from a file as an error may show it: in quotes, control characters as '?', cut after 200 bytes.
std::string shown(std::string_view text);

}  // namespace weir
