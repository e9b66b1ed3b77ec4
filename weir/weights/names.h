// One spelling for every tensor: checkpoints of the family differ in the prefixes their exporters wrote.
#pragma once

#include <string>
#include <string_view>

namespace weir {

// "language_model.model.layers.0.x", "model.layers.0.x" -> "model.language_model.layers.0.x"; "visual.x" -> "model.visual.x";
// "language_model.lm_head.x" -> "lm_head.x"; "model.mtp.x" -> "mtp.x". Any other name is returned as it is.
std::string canonical_name(std::string_view file_name);

}  // namespace weir
