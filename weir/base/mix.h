// The finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014): every bit of x reaches every bit of the result. A bijection.
#pragma once

#include <cstdint>

namespace weir {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;  // 2^64 / golden ratio: multiples of it spread before they are mixed

constexpr uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace weir
