// The tile registers of AMX: eight of up to 16 rows of 64 bytes. The intrinsics of g++ 12 do not say that they read or write memory, so
// these are our own.
#pragma once

#include <cstdint>

namespace weir::cpu {

// What the registers hold; `rows` is the number of rows of an input that are multiplied together, at most 16.
enum class TileUse : uint8_t {
  kProduct,    // 0 to 3 sums [rows][16]; 4, 5 inputs [rows][16 steps]; 6, 7 weights [16 steps][16]
  kAttention,  // 0 to 3 sums [rows][16]; 4 inputs [rows][16 steps], 5 [rows][8 steps]; 6 [16 steps][16], 7 [8 steps][16]
};

// Configures this thread's registers, which clears them, unless that is how they are. It takes as long as ten products.
void configure_tiles(TileUse use, int rows);

namespace {

template <int tile>
void load_tile(const void* from, int64_t row_bytes) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(row_bytes), "i"(tile) : "memory");
}
template <int tile>
void store_tile(void* to, int64_t row_bytes) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(row_bytes), "i"(tile) : "memory");
}
template <int tile>
void zero_tile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(tile));
}
// sum[r][c] += Σ_s a[r][s] · b[s][c], s a pair of BF16 ...
template <int sum, int a, int b>
void dot_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(a), "i"(b));
}
// ... or four bytes, those of a unsigned, those of b signed.
template <int sum, int a, int b>
void dot_i8() {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(a), "i"(b));
}

}  // namespace
}  // namespace weir::cpu
