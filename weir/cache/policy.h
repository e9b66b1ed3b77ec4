// The decisions of the prefix cache as pure functions, to be read, tested and tuned alone.
#pragma once

#include <cstdint>
#include <vector>

namespace weir {

// What decides where a row keeps snapshots of its state.
struct SnapshotWishes {
  int32_t start = 0, end = 0;  // the row computes tokens [start, end)
  int32_t num_prompt = 0;      // tokens of the whole prompt
  int32_t junction = 0;        // end of the pages known when the sequence began, if no state was known there: others share this text
  int32_t interval = 0;        // also at its multiples inside the prompt; 0: not
};

// Positions in (start, end], multiples of a page, the most useful first: the last page boundary that leaves a token of the prompt to
// compute (the same prompt again, and the next turn of a chat, begin there), the junction, the multiples of the interval.
std::vector<int32_t> snapshot_positions(const SnapshotWishes& wishes);

// What is worth keeping: the larger score stays. Benefit (the tokens that one more hit saves, for each of the hits seen and the one
// hoped for) per unit of the pool it lies in, halved with every `half_life` uses of the cache since its last one. A logarithm, so that
// the order of two entries does not change while time passes and a sorted set stays sorted.
double keep_score(int64_t tokens_saved, int64_t hits, int64_t last_use, double half_life);

}  // namespace weir
