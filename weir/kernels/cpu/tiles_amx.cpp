#include "weir/kernels/cpu/tiles_amx.h"

namespace weir::cpu {
namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t column_bytes[16] = {};
  uint8_t rows[16] = {};

  void set(int tile, int num_rows, int bytes) {
    rows[tile] = static_cast<uint8_t>(num_rows);
    column_bytes[tile] = static_cast<uint16_t>(bytes);
  }
};

}  // namespace

void configure_tiles(TileUse use, int rows) {
  static thread_local int configured = 0;
  const int wanted = 2 * rows + static_cast<int>(use);  // never 0
  if (configured == wanted) return;
  configured = wanted;
  const int other_steps = use == TileUse::kAttention ? 8 : 16;  // of the second kind of input
  TileConfig config;
  for (int tile = 0; tile < 5; ++tile) config.set(tile, rows, 64);
  config.set(5, rows, 4 * other_steps);
  config.set(6, 16, 64);
  config.set(7, other_steps, 64);
  asm volatile("ldtilecfg %0" : : "m"(config));
}

}  // namespace weir::cpu
