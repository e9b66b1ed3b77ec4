#include "weir/kernels/cpu/ceiling.h"

#include <cstring>

#include "weir/kernels/cpu/isa.h"

namespace weir::cpu {
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

// The empty asm makes each round need the sums of the one before.
template <class Number>
double multiply_add(int64_t rounds, Number factor, Number term) {
  Number sums[32];
  for (int i = 0; i < 32; ++i) sums[i] = static_cast<Number>(i);
  for (int64_t n = 0; n < rounds; ++n) {
    for (Number& s : sums) s = s * factor + term;
    asm volatile("" : : "r"(sums) : "memory");
  }
  return static_cast<double>(rounds) * 32 * 2;
}

double floats(int64_t rounds) { return multiply_add<float>(rounds, 0.999f, 1e-3f); }
double integers(int64_t rounds) { return multiply_add<uint32_t>(rounds, 3, 1); }

}  // namespace

const CoreCeilings kCeilingsScalar = {read, floats, floats, integers};

const CoreCeilings& core_ceilings(Isa isa) {
  switch (isa) {
    case Isa::kAmx: return kCeilingsAmx;
    case Isa::kAvx512: return kCeilingsAvx512;
    case Isa::kAvx2: return kCeilingsAvx2;
    case Isa::kScalar: break;
  }
  return kCeilingsScalar;
}

}  // namespace weir::cpu
