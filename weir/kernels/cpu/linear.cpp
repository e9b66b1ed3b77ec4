#include "weir/kernels/cpu/linear.h"

#include "weir/kernels/cpu/isa.h"
#include "weir/kernels/cpu/linear_steps.h"

namespace weir::cpu {

bool prefetches_past_caches() {
  static const bool is_intel = __builtin_cpu_is("intel") != 0;
  return !is_intel;
}

const LinearKernels& linear_kernels(Isa isa) {
  switch (isa) {
    case Isa::kAmx: return kLinearAmx;
    case Isa::kAvx512: return kLinearAvx512;
    case Isa::kAvx2: return kLinearAvx2;
    case Isa::kScalar: break;
  }
  return kLinearScalar;
}

const LinearKernels& linear_kernels() {
  static const LinearKernels& kernels = linear_kernels(active_isa());
  return kernels;
}

}  // namespace weir::cpu
