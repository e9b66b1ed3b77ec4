#include "weir/kernels/cpu/attention_simd.h"

namespace weir::cpu::avx2 {
const AttentionKernels kAttention = {segment<StepBF16>, segment<StepF32>, segment_i8<segment<StepBF16>>, merge};
}
