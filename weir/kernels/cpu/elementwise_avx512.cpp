#include "weir/kernels/cpu/elementwise_simd.h"

namespace weir::cpu::avx512 {
const ElementwiseKernels kElementwise = {rms_norm, norm_rope, rms_norm_gated, l2_normalise, gate,
                                         silu_mul, conv_silu, delta_gates,    widen_bf16,   round_bf16};
}
