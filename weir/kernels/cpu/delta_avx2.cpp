#include "weir/kernels/cpu/delta_simd.h"

namespace weir::cpu::avx2 {
const DeltaKernels kDelta = {dots, block, fold_keys, fold, nullptr};
}
