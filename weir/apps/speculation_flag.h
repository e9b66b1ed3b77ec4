// --speculative-config: vLLM's JSON for drafting with the model's own MTP head.
#pragma once

#include "weir/apps/flags.h"
#include "weir/core/config.h"

namespace weir {

FlagSpec speculation_flag();

// Off when the flag was not given. Throws UsageError that names the key, the value seen and those allowed.
SpeculationConfig speculation_config(const Flags& flags);

}  // namespace weir
