// The flags that decide how a model is loaded, scheduled and sampled: the same for every command that starts an engine.
#pragma once

#include <string>
#include <vector>

#include "weir/apps/flags.h"
#include "weir/apps/local_engine.h"

namespace weir {

std::vector<FlagSpec> engine_flags();

// REQUIRES: the flags came from a table that holds engine_flags(). The model is the positional, which wins over --model.
// Throws UsageError without a model, and Error(kNotFound) when it is no directory on this machine.
EngineOptions engine_options(const Flags& flags);

}  // namespace weir
