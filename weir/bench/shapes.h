// The sizes of models whose operators are measured without their weights.
#pragma once

#include <string>
#include <vector>

#include "weir/models/config.h"

namespace weir::bench {

// "mini", "35B-A3B", "122B-A10B", "397B-A17B", smallest first.
const std::vector<std::string>& known_shapes();

// One of known_shapes(), in any case of letters, or a directory with a config.json. Throws Error naming what was given and what is known.
ModelConfig model_shape(const std::string& name_or_dir);

}  // namespace weir::bench
