#include <cstdint>

#include "weir/kernels/cpu/ceiling.h"
#include "weir/kernels/cpu/vec.h"

namespace weir::cpu {
namespace {

// Products of whole registers into four sums, which is what linear_amx.cpp keeps; the values are zero.
template <class Products>
double tiles(int64_t rounds, int products_per_sum, Products products) {
  struct alignas(64) Config {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t column_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  alignas(64) uint8_t before[64];
  asm volatile("sttilecfg %0" : "=m"(before));
  const Config config;
  asm volatile("ldtilecfg %0" : : "m"(config));
  for (int64_t n = 0; n < rounds; ++n) products();
  // The product kernels count on finding their own configuration again.
  if (before[0] != 0)
    asm volatile("ldtilecfg %0" : : "m"(before));
  else
    asm volatile("tilerelease");
  return static_cast<double>(rounds) * 4 * 16 * 16 * products_per_sum * 2;
}

double bf16(int64_t rounds) {
  return tiles(rounds, 32, [] {
    asm volatile(
        "tdpbf16ps %tmm6, %tmm4, %tmm0\n\ttdpbf16ps %tmm7, %tmm4, %tmm1\n\t"
        "tdpbf16ps %tmm6, %tmm5, %tmm2\n\ttdpbf16ps %tmm7, %tmm5, %tmm3");
  });
}

double i8(int64_t rounds) {
  return tiles(rounds, 64, [] {
    asm volatile(
        "tdpbusd %tmm6, %tmm4, %tmm0\n\ttdpbusd %tmm7, %tmm4, %tmm1\n\t"
        "tdpbusd %tmm6, %tmm5, %tmm2\n\ttdpbusd %tmm7, %tmm5, %tmm3");
  });
}

// What comes from memory is asked for 16 KB ahead, a line for each that is read: one of these cores then reads a quarter more than when
// it leaves that to the hardware.
uint64_t read(const void* data, int64_t bytes) {
  constexpr int64_t kAheadLines = 256;
  const auto* line = static_cast<const __m512i*>(data);
  const __m512i* const end = line + bytes / 64;
  __m512i sums = _mm512_setzero_si512();
#pragma GCC unroll 1
  for (; line != end; ++line) {
    asm volatile("prefetcht1 (%0)" : : "r"(line + kAheadLines));
    sums = _mm512_add_epi64(sums, _mm512_loadu_si512(line));
  }
  alignas(64) uint64_t words[8];
  _mm512_store_si512(words, sums);
  uint64_t sum = 0;
  for (const uint64_t word : words) sum += word;
  return sum;
}

double f32(int64_t rounds) { return kCeilingsAvx512.f32(rounds); }

}  // namespace

const CoreCeilings kCeilingsAmx = {read, bf16, f32, i8};

}  // namespace weir::cpu
