#include "weir/kernels/cpu/isa.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace weir::cpu {
namespace {

// Tile registers are 8 KB that every switch between threads may have to save, so Linux wants to be asked for them, once per process.
bool may_use_tiles() {
  constexpr int kArchReqXcompPerm = 0x1023, kTileData = 18;
  return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") && __builtin_cpu_supports("amx-int8") &&
         syscall(SYS_arch_prctl, kArchReqXcompPerm, kTileData) == 0;
}

std::vector<Isa> detect() {
  std::vector<Isa> isas{Isa::kScalar};
  __builtin_cpu_init();  // also asks the operating system whether it saves the wide registers
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("f16c")) return isas;
  isas.push_back(Isa::kAvx2);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni"))
    isas.push_back(Isa::kAvx512);
  if (isas.back() == Isa::kAvx512 && may_use_tiles()) isas.push_back(Isa::kAmx);
  return isas;
}

Isa choose() {
  const std::vector<Isa>& isas = available_isas();
  const char* wanted = std::getenv("WEIR_CPU_ISA");
  if (wanted == nullptr || *wanted == '\0') return isas.back();
  std::string known;
  for (const Isa isa : isas) {
    if (std::string(wanted) == name(isa)) return isa;
    known += (known.empty() ? "" : ", ") + std::string(name(isa));
  }
  throw std::invalid_argument("WEIR_CPU_ISA=" + std::string(wanted) + " cannot run here; this CPU can run: " + known);
}

}  // namespace

const char* name(Isa isa) {
  switch (isa) {
    case Isa::kScalar: return "scalar";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
    case Isa::kAmx: return "amx";
  }
  return "?";
}

const std::vector<Isa>& available_isas() {
  static const std::vector<Isa> isas = detect();
  return isas;
}

Isa active_isa() {
  static const Isa isa = choose();
  return isa;
}

}  // namespace weir::cpu
