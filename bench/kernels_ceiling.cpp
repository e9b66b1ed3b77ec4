#include "bench/kernels_ceiling.h"

#include <cstring>

#include "weir/kernels/cpu/isa.h"

namespace weir::bench {
namespace {

uint64_t read(const void* data, int64_t bytes) {
  uint64_t sums[8] = {};
  for (int64_t i = 0; i < bytes; i += 64) {
    uint64_t words[8];
    std::memcpy(words, static_cast<const char*>(data) + i, sizeof(words));
    for (int j = 0; j < 8; ++j) sums[j] += words[j];
  }
  uint64_t sum = 0;
  for (const uint64_t s : sums) sum += s;
  return sum;
}

double multiply_add(int64_t rounds) {
  float sums[32];
  for (int i = 0; i < 32; ++i) sums[i] = static_cast<float>(i);
  for (int64_t n = 0; n < rounds; ++n) {
    for (float& s : sums) s = s * 0.999f + 1e-3f;
    asm volatile("" : : "r"(sums) : "memory");
  }
  return static_cast<double>(rounds) * 32 * 2;
}

}  // namespace

const CoreCeilings kCeilingsScalar = {read, multiply_add, multiply_add};

const CoreCeilings& core_ceilings(cpu::Isa isa) {
  switch (isa) {
    case cpu::Isa::kAvx512: return kCeilingsAvx512;
    case cpu::Isa::kAvx2: return kCeilingsAvx2;
    case cpu::Isa::kScalar: break;
  }
  return kCeilingsScalar;
}

}  // namespace weir::bench
