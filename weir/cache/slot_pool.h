// Hands out ids in [0, capacity), knowing nothing of bytes, layers or prefixes: KV pages and delta-net slots share it.
// Invariants: an id is free or has at least one owner; num_free + num_used = capacity. Ids that have been used are handed out before those
// that never were, and these in rising order: their memory is there already.
// Engine thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "weir/base/check.h"
#include "weir/core/ids.h"

namespace weir {

template <class Id>
class SlotPool {
 public:
  explicit SlotPool(int32_t capacity) : refs_(static_cast<size_t>(capacity), 0) {
    free_.reserve(refs_.size());
    for (int32_t i = capacity; i-- > 0;) free_.push_back(Id{i});  // so that the first ids handed out are 0, 1, 2, …
  }

  // One id with one owner; nullopt when empty (normal: the caller preempts or waits).
  [[nodiscard]] std::optional<Id> take() {
    if (free_.empty()) return std::nullopt;
    const Id id = free_.back();
    free_.pop_back();
    refs_[static_cast<size_t>(index(id))] = 1;
    return id;
  }

  // One more owner.  REQUIRES: id is taken.
  void retain(Id id) { ++taken(id); }

  // One owner fewer; the last one frees it.  REQUIRES: id is taken.
  void release(Id id) {
    if (--taken(id) == 0) free_.push_back(id);
  }

  int32_t num_owners(Id id) const {
    WEIR_CHECK(index(id) >= 0 && index(id) < capacity(), "id ", index(id), " of ", capacity());
    return refs_[static_cast<size_t>(index(id))];
  }
  int32_t capacity() const { return static_cast<int32_t>(refs_.size()); }
  int32_t num_free() const { return static_cast<int32_t>(free_.size()); }
  int32_t num_used() const { return capacity() - num_free(); }

 private:
  int32_t& taken(Id id) {
    WEIR_CHECK(num_owners(id) > 0, "id ", index(id), " is not taken");
    return refs_[static_cast<size_t>(index(id))];
  }

  std::vector<int32_t> refs_;  // refs_[i] == 0 exactly when i is in free_
  std::vector<Id> free_;
};

}  // namespace weir
