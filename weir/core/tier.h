// The second tier: a store behind the pages and slots, in plain memory or in files, which keeps what the prefix cache evicts. These are the
// messages about it between the engine, which knows the names, and the ranks, which have the bytes. An entry comes back in two steps: a
// *fetch* brings its bytes near while steps run, a *load* copies them into a page or slot at the beginning of a step.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "weir/core/config.h"
#include "weir/core/ids.h"

namespace weir {

// The name of a prefix that ends with a full page: a hash of all its tokens.
struct PageKey {
  uint64_t a = 0, b = 0;  // two independent hashes
  bool operator==(const PageKey&) const = default;
};

// What an entry holds. Enough to find it again in another run.
struct TierLabel {
  enum class Kind : uint8_t { kPage, kState };
  Kind kind = Kind::kPage;
  PageKey key;                              // of the prefix whose last page this is, or after which this state is readable
  std::array<Token, kPageTokens> tokens{};  // of that page
  std::optional<PageKey> before;            // states: also readable a page earlier, after this prefix
  bool operator==(const TierLabel&) const = default;
};

struct TierEntry {
  TierId id{};
  TierLabel label;
};

struct TierSave {
  TierEntry entry;
  int32_t from = 0;  // index of the page or slot
};
struct TierLoad {
  TierEntry entry;
  int32_t to = 0;
};

// Of one step, in this order.
struct TierOps {
  bool forget_all = false;
  std::vector<TierSave> saves;  // copied before anything is written in this step
  std::vector<TierId> fetches;  // answered by TierEvents of this step or a later one
  std::vector<TierLoad> loads;  // of entries whose fetch has been answered by `fetched`; once per fetch
  bool drop_fetched = false;    // bytes fetched so far that nobody has loaded are not wanted any more
  bool wait = false;            // the plan has no rows: return when a fetch is answered, and drop no save for want of time
  bool empty() const { return !forget_all && saves.empty() && fetches.empty() && !drop_fetched && loads.empty() && !wait; }
};

struct TierEvents {
  std::vector<TierId> fetched;
  int64_t bytes_used = 0;    // of the store
  std::vector<TierId> lost;  // pushed out by newer ones, damaged, or never written: these ids mean nothing any more
};

}  // namespace weir
