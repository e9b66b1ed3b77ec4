#include "weir/kernels/cpu/elementwise.h"

#include "weir/kernels/cpu/isa.h"

namespace weir::cpu {

const ElementwiseKernels& elementwise_kernels(Isa isa) {
  switch (isa) {
    case Isa::kAmx:
    case Isa::kAvx512: return avx512::kElementwise;
    case Isa::kAvx2: return avx2::kElementwise;
    case Isa::kScalar: break;
  }
  return scalar::kElementwise;
}

}  // namespace weir::cpu
