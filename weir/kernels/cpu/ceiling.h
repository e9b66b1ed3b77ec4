// What one core can do at most: loops that do nothing but read memory, or nothing but multiply-adds in registers. Benchmarks set the
// kernels beside them.
#pragma once

#include <cstdint>

namespace weir::cpu {

enum class Isa : uint8_t;

struct CoreCeilings {
  uint64_t (*read)(const void* data, int64_t bytes);  // returns a sum, so that the reads are needed; bytes a multiple of 512
  // Operations done (a multiply-add is two), with the instructions that the product kernels of that type use.
  double (*bf16)(int64_t rounds);
  double (*f32)(int64_t rounds);
  double (*i8)(int64_t rounds);
};

extern const CoreCeilings kCeilingsScalar, kCeilingsAvx2, kCeilingsAvx512, kCeilingsAmx;
const CoreCeilings& core_ceilings(Isa isa);

}  // namespace weir::cpu
