// The flags that choose the prompts of a benchmark: the same for `bench serve` and `bench throughput`, in vLLM's spelling.
#pragma once

#include <string>
#include <vector>

#include "weir/apps/bench_datasets.h"
#include "weir/apps/flags.h"

namespace weir {

std::vector<FlagSpec> dataset_flags();

// "random", "custom", "sharegpt" or "prefix_repetition"; throws UsageError where it and --dataset-path do not fit together.
std::string dataset_name(const Flags& flags);

// The prompts that these flags ask for. `tokens` may lack a tokenizer for the custom dataset only; `wrap`: see custom_prompts().
// REQUIRES: the flags came from a table that holds dataset_flags().
std::vector<BenchPrompt> make_prompts(const Flags& flags, uint64_t seed, const TokenCounter& tokens, const WrapMessage& wrap);

}  // namespace weir
