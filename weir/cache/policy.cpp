#include "weir/cache/policy.h"

#include <algorithm>
#include <cmath>

#include "weir/core/config.h"

namespace weir {
namespace {

constexpr int32_t floor_page(int32_t tokens) { return tokens / kPageTokens * kPageTokens; }

}  // namespace

std::vector<int32_t> snapshot_positions(const SnapshotWishes& w) {
  std::vector<int32_t> out;
  const int32_t prompt_end = floor_page(w.num_prompt - 1);
  const auto add = [&](int32_t position) {
    if (position > w.start && position <= w.end && position <= prompt_end && std::find(out.begin(), out.end(), position) == out.end())
      out.push_back(position);
  };
  add(prompt_end);
  add(floor_page(w.junction));
  if (const int32_t interval = floor_page(w.interval); interval > 0) {
    for (int64_t at = (int64_t{w.start} / interval + 1) * interval; at <= std::min(w.end, prompt_end); at += interval)
      add(static_cast<int32_t>(at));
  }
  return out;
}

double keep_score(int64_t tokens_saved, int64_t hits, int64_t last_use, double half_life) {
  return std::log2(static_cast<double>(std::max<int64_t>(1, tokens_saved)) * static_cast<double>(hits + 1)) +
         static_cast<double>(last_use) / half_life;
}

}  // namespace weir
