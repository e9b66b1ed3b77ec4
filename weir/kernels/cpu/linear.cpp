#include "weir/kernels/cpu/linear.h"

#include "weir/kernels/cpu/isa.h"

namespace weir::cpu {

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
