#include "weir/kernels/cpu/delta.h"

#include "weir/kernels/cpu/isa.h"

namespace weir::cpu {

const DeltaKernels& delta_kernels(Isa isa) {
  switch (isa) {
    case Isa::kAmx:
    case Isa::kAvx512: return avx512::kDelta;
    case Isa::kAvx2: return avx2::kDelta;
    case Isa::kScalar: break;
  }
  return scalar::kDelta;
}

}  // namespace weir::cpu
