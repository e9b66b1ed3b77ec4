#include "weir/kernels/cpu/delta.h"

namespace weir::cpu {

const DeltaKernels& delta_kernels(Isa) { return scalar::kDelta; }

}  // namespace weir::cpu
