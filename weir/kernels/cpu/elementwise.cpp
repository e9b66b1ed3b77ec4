#include "weir/kernels/cpu/elementwise.h"

namespace weir::cpu {

const ElementwiseKernels& elementwise_kernels(Isa) { return scalar::kElementwise; }

}  // namespace weir::cpu
