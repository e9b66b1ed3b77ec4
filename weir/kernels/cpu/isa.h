// Which instruction set the CPU kernels use. Every kernel family has one table of function pointers per Isa and picks it by active_isa().
#pragma once

#include <cstdint>
#include <vector>

namespace weir::cpu {

// Ordered: each one can run all kernels of those before it. kAvx2 includes FMA and F16C; kAvx512 means F, BW, VL, DQ, BF16
// and VNNI; kAmx adds TILE, BF16 and INT8 (Xeon from the fourth generation on): products of matrices run there, the rest on AVX-512.
enum class Isa : uint8_t { kScalar, kAvx2, kAvx512, kAmx };

const char* name(Isa isa);  // "scalar", "avx2", "avx512", "amx": also the values of WEIR_CPU_ISA

// What this processor and its operating system can run, kScalar first.
const std::vector<Isa>& available_isas();

// The best of available_isas(), or the one that the environment variable WEIR_CPU_ISA names; decided at the first call.
// Throws std::invalid_argument when WEIR_CPU_ISA is unknown or cannot run here.
Isa active_isa();

}  // namespace weir::cpu
