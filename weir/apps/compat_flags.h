// Flags of vLLM and vllm-ascend that weir knows without having built what they ask for, in one table: each row says whether the flag is
// harmless here, changes less than its user expects, or must be refused. An issue that builds a feature removes its row.
#pragma once

#include <string>
#include <vector>

#include "weir/apps/flags.h"

namespace weir {

std::vector<FlagSpec> compat_flags();

enum class CompatVerdict : uint8_t {
  kNote,    // nothing is lost: one INFO line says what weir does instead
  kWarn,    // answers stay right, but something asked for does not happen
  kRefuse,  // answers or topology would differ from what was asked for
};

struct CompatRemark {
  CompatVerdict verdict;
  std::string text;
};

// What is to be said about the flags given, in the table's order. Throws nothing: the caller logs and refuses.
std::vector<CompatRemark> review_compat_flags(const Flags& flags);

// enable_cpu_binding of --additional-config, as vllm-ascend has it: on unless it says no. Throws UsageError when it is no boolean.
bool wants_cpu_binding(const Flags& flags);

// Logs notes and warnings; throws UsageError that lists every refusal.
void apply_compat_flags(const Flags& flags);

}  // namespace weir
