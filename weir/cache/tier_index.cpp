#include "weir/cache/tier_index.h"

#include <algorithm>

namespace weir {

TierEntry TierIndex::add(const TierLabel& label) {
  const TierEntry entry{TierId{next_id_++}, label};
  add(entry);
  return entry;
}

void TierIndex::add(const TierEntry& entry) {
  entries_[entry.id] = {entry, Nearness::kFar};
  Names& names = entry.label.kind == TierLabel::Kind::kPage ? pages_ : states_;
  names[entry.label.key] = entry.id;
  if (entry.label.before) names.emplace(*entry.label.before, entry.id);  // one that ends there is better
}

void TierIndex::forget_name(Names& names, const PageKey& key, TierId id) {
  const auto found = names.find(key);
  if (found != names.end() && found->second == id) names.erase(found);
}

void TierIndex::remove(TierId id) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  const TierLabel& label = found->second.entry.label;
  Names& names = label.kind == TierLabel::Kind::kPage ? pages_ : states_;
  forget_name(names, label.key, id);
  if (label.before) forget_name(names, *label.before, id);
  if (found->second.nearness == Nearness::kHere) --num_here_;
  entries_.erase(found);
}

void TierIndex::clear() {
  entries_.clear();
  pages_.clear();
  states_.clear();
  num_here_ = 0;
}

const TierEntry* TierIndex::find(TierLabel::Kind kind, const PageKey& key) const {
  const Names& names = kind == TierLabel::Kind::kPage ? pages_ : states_;
  const auto name = names.find(key);
  return name == names.end() ? nullptr : &entries_.at(name->second).entry;
}

const TierEntry* TierIndex::find_page(const PageKey& key, std::span<const Token> tokens) const {
  const TierEntry* const entry = find(TierLabel::Kind::kPage, key);
  return entry && std::equal(tokens.begin(), tokens.end(), entry->label.tokens.begin(), entry->label.tokens.end()) ? entry : nullptr;
}

Nearness TierIndex::nearness(TierId id) const {
  const auto found = entries_.find(id);
  return found == entries_.end() ? Nearness::kFar : found->second.nearness;
}

void TierIndex::set_nearness(TierId id, Nearness nearness) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  num_here_ += (nearness == Nearness::kHere) - (found->second.nearness == Nearness::kHere);
  found->second.nearness = nearness;
}

void TierIndex::set_all_here_far() {
  for (auto& [id, known] : entries_)
    if (known.nearness == Nearness::kHere) known.nearness = Nearness::kFar;
  num_here_ = 0;
}

}  // namespace weir
