#include "weir/kernels/cpu/delta_simd.h"

namespace weir::cpu::avx512 {
const DeltaKernels kDelta = {dots, block, fold_keys, fold, nullptr};
}
