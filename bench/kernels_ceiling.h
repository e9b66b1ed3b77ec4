// What one core can do at most: loops that do nothing but read memory, or nothing but multiply-adds in registers.
#pragma once

#include <cstdint>

namespace weir::cpu {
enum class Isa : uint8_t;
}

namespace weir::bench {

struct CoreCeilings {
  uint64_t (*read)(const void* data, int64_t bytes);  // returns a sum, so that the reads are needed; bytes a multiple of 512
  double (*bf16)(int64_t rounds);                     // floating-point operations done; multiply-adds as the BF16 product kernels do them
  double (*f32)(int64_t rounds);
};

extern const CoreCeilings kCeilingsScalar, kCeilingsAvx2, kCeilingsAvx512;
const CoreCeilings& core_ceilings(cpu::Isa isa);

}  // namespace weir::bench
