// Element types of weights, activations and caches.
#pragma once

#include <bit>
#include <cstdint>

namespace weir {

enum class DType : uint8_t { kF32, kBF16, kF16, kF8E4M3, kI64, kI32, kI8, kU8 };

int64_t element_size(DType type);
const char* name(DType type);  // "F32", "BF16", … as in safetensors

// Conversions that match IEEE round-to-nearest-even; NaN stays NaN.
inline float bf16_to_f32(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
inline uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
float f16_to_f32(uint16_t bits);

}  // namespace weir
