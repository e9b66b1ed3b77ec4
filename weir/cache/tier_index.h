// What the second tier (core/tier.h) has, by name, and how near it is. Engine thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>

#include "weir/core/tier.h"

namespace weir {

enum class Nearness { kFar, kFetching, kHere };

class TierIndex {
 public:
  // Ids are given out from `next_id` on.
  explicit TierIndex(uint64_t next_id = 0) : next_id_(next_id) {}

  bool has(const TierLabel& label) const { return find(label.kind, label.key) != nullptr; }
  // A new entry of this name; an older one of the same name is not found any more.
  TierEntry add(const TierLabel& label);
  void add(const TierEntry& entry);  // one from an earlier run
  void remove(TierId id);            // if it is there
  void clear();

  // nullptr: there is none. Good until the next call that is not const.
  const TierEntry* find(TierLabel::Kind kind, const PageKey& key) const;
  const TierEntry* find_page(const PageKey& key, std::span<const Token> tokens) const;

  Nearness nearness(TierId id) const;
  void set_nearness(TierId id, Nearness nearness);  // of an entry that is there; else nothing happens
  void set_all_here_far();
  int32_t num_here() const { return num_here_; }
  int32_t num_entries() const { return static_cast<int32_t>(entries_.size()); }

 private:
  struct KeyHash {
    size_t operator()(const PageKey& key) const { return static_cast<size_t>(key.a); }
  };
  struct Known {
    TierEntry entry;
    Nearness nearness = Nearness::kFar;
  };
  using Names = std::unordered_map<PageKey, TierId, KeyHash>;

  void forget_name(Names& names, const PageKey& key, TierId id);

  uint64_t next_id_;
  std::unordered_map<TierId, Known> entries_;
  Names pages_, states_;  // a state has two names when it is readable a page earlier, too
  int32_t num_here_ = 0;
};

}  // namespace weir
