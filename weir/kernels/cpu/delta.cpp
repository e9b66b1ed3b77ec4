#include "weir/kernels/cpu/delta.h"

#include "weir/kernels/cpu/isa.h"

namespace weir::cpu {

const DeltaKernels& delta_kernels(Isa isa, int64_t k_dim, int64_t v_dim) {
  switch (isa) {
    case Isa::kAmx: return k_dim % 32 == 0 && v_dim % kDeltaPanel == 0 ? amx::kDelta : avx512::kDelta;
    case Isa::kAvx512: return avx512::kDelta;
    case Isa::kAvx2: return avx2::kDelta;
    case Isa::kScalar: break;
  }
  return scalar::kDelta;
}

}  // namespace weir::cpu
