#include "weir/cache/prefix_index.h"

#include <algorithm>

#include "weir/base/check.h"
#include "weir/cache/policy.h"

namespace weir {
namespace {

size_t at(int32_t id) { return static_cast<size_t>(id); }

std::span<const Token> page_of(std::span<const Token> text, int32_t number) { return text.subspan(at(number) * kPageTokens, kPageTokens); }

}  // namespace

PrefixIndex::PrefixIndex(SlotPool<PageId>& pages, SlotPool<SlotId>& slots)
    : pages_(pages), slots_(slots), snapshots_(at(slots.capacity())), node_of_page_(at(pages.capacity()), kNone) {}

bool PrefixIndex::is_snapshot(SlotId slot) const {
  const Snapshot& snapshot = snapshots_[at(index(slot))];
  return snapshot.at != kNone || snapshot.before != kNone;
}

PrefixIndex::Id PrefixIndex::find_child(Id parent, const PageKey& key, std::span<const Token> page) const {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return kNone;
  const Node& node = nodes_[at(found->second)];
  return node.parent == parent && std::equal(page.begin(), page.end(), node.tokens.begin()) ? found->second : kNone;
}

PrefixMatch PrefixIndex::match(std::span<const Token> text, const PageKeys& keys, int32_t limit) const {
  PrefixMatch out;
  const int32_t last = std::min(keys.size(), limit / kPageTokens);
  Id node = kNone;
  std::vector<PageId> pages;
  for (int32_t number = 0; number < last; ++number) {
    node = find_child(node, keys[number], page_of(text, number));
    if (node == kNone) break;
    pages.push_back(nodes_[at(node)].page);
    out.num_known = nodes_[at(node)].end;
    if (const Id snapshot = nodes_[at(node)].snapshot; snapshot != kNone) {
      out.num_tokens = out.num_known;
      out.slot = snapshots_[at(snapshot)].slot;
    }
  }
  pages.resize(at(out.num_tokens / kPageTokens));
  out.pages = std::move(pages);
  return out;
}

std::vector<PageId> PrefixIndex::known_pages(std::span<const Token> text, const PageKeys& keys, int32_t limit) const {
  std::vector<PageId> out;
  Id node = kNone;
  for (int32_t number = 0; number < std::min(keys.size(), limit / kPageTokens); ++number) {
    node = find_child(node, keys[number], page_of(text, number));
    if (node == kNone) break;
    out.push_back(nodes_[at(node)].page);
  }
  return out;
}

void PrefixIndex::count_hit(const PrefixMatch& match) {
  if (!match.slot) return;
  Snapshot& snapshot = snapshots_[at(index(*match.slot))];
  ++snapshot.hits;
  snapshot.last_use = ++clock_;
  set_score(index(*match.slot));
}

PageId PrefixIndex::publish(std::span<const Token> text, const PageKeys& keys, int32_t number, std::optional<PageId> before, PageId page) {
  WEIR_CHECK(before.has_value() == (number > 0), "page ", number);
  const Id parent = before ? node_of(*before) : kNone;
  if (before && parent == kNone) return page;
  const auto tokens = page_of(text, number);
  if (const Id known = find_child(parent, keys[number], tokens); known != kNone) return nodes_[at(known)].page;
  if (by_key_.contains(keys[number])) return page;  // a collision of hashes: this text stays unknown from here on

  Id id = kNone;
  if (free_nodes_.empty()) {
    id = static_cast<Id>(nodes_.size());
    nodes_.emplace_back();
  } else {
    id = free_nodes_.back();
    free_nodes_.pop_back();
  }
  Node& node = nodes_[at(id)];
  node = Node{.key = keys[number], .parent = parent, .end = (number + 1) * kPageTokens, .page = page, .last_use = clock_};
  std::copy(tokens.begin(), tokens.end(), node.tokens.begin());
  by_key_.emplace(node.key, id);
  node_of_page_[at(index(page))] = id;
  pages_.retain(page);
  ++num_nodes_;
  if (parent != kNone) {
    ++nodes_[at(parent)].num_children;
    set_leaf(parent);
  }
  set_leaf(id);
  return page;
}

void PrefixIndex::add_snapshot(PageId page, bool reaches_back, SlotId slot) {
  const Id node = node_of(page);
  if (node == kNone || nodes_[at(node)].snapshot != kNone) {
    slots_.release(slot);
    return;
  }
  WEIR_CHECK(!is_snapshot(slot), "slot ", index(slot), " is a snapshot already");
  const Id id = index(slot), before = nodes_[at(node)].parent;
  Snapshot& snapshot = snapshots_[at(id)];
  snapshot = Snapshot{.slot = slot, .at = node, .last_use = ++clock_};
  nodes_[at(node)].snapshot = id;
  if (reaches_back && before != kNone && nodes_[at(before)].snapshot == kNone) {
    snapshot.before = before;
    nodes_[at(before)].snapshot = id;
    set_leaf(before);
  }
  ++num_snapshots_;
  if (slots_.num_owners(slot) == 1) ++idle_snapshots_;
  set_score(id);
}

void PrefixIndex::hand_out(SlotId slot) {
  WEIR_CHECK(slots_.num_owners(slot) == 1, "slot ", index(slot), " has ", slots_.num_owners(slot), " owners");
  record(index(slot));
  remove_snapshot(index(slot));
}

void PrefixIndex::retain(PageId page) {
  if (is_idle(page)) --idle_pages_;
  pages_.retain(page);
}

void PrefixIndex::release(PageId page) {
  pages_.release(page);
  if (is_idle(page)) ++idle_pages_;
}

void PrefixIndex::retain(SlotId slot) {
  if (is_snapshot(slot) && slots_.num_owners(slot) == 1) --idle_snapshots_;
  slots_.retain(slot);
}

void PrefixIndex::release(SlotId slot) {
  slots_.release(slot);
  if (is_snapshot(slot) && slots_.num_owners(slot) == 1) ++idle_snapshots_;
}

bool PrefixIndex::evict_page() {
  // Those held by a sequence are passed over; there are at most as many as sequences run.
  for (auto it = leaves_.begin(); it != leaves_.end(); ++it) {
    const Id id = std::get<Id>(*it);
    const Node& node = nodes_[at(id)];
    if (pages_.num_owners(node.page) > 1) continue;
    drop_leaf(id);
    return true;
  }
  return false;
}

bool PrefixIndex::evict_snapshot() {
  for (auto it = worth_.begin(); it != worth_.end();) {
    const Id id = it->second;
    if (slots_.num_owners(snapshots_[at(id)].slot) > 1) {
      ++it;
      continue;
    }
    // A snapshot gains worth when the one before it goes, which nobody told it: look again before it is too late.
    if (score_of(snapshots_[at(id)]) > it->first) {
      set_score(id);
      it = worth_.begin();
      continue;
    }
    drop_snapshot(id);
    return true;
  }
  return false;
}

void PrefixIndex::clear() {
  while (!leaves_.empty()) drop_leaf(std::get<Id>(*leaves_.begin()));
}

double PrefixIndex::half_life() const { return std::max(16.0, static_cast<double>(slots_.capacity()) / 2); }

double PrefixIndex::score_of(const Snapshot& snapshot) const {
  const Id self = snapshot.at != kNone ? snapshot.at : snapshot.before;
  const Id id = index(snapshot.slot);
  Id node = nodes_[at(self)].parent;
  while (node != kNone && (nodes_[at(node)].snapshot == kNone || nodes_[at(node)].snapshot == id)) node = nodes_[at(node)].parent;
  const int32_t saved = nodes_[at(self)].end - (node == kNone ? 0 : nodes_[at(node)].end);
  return keep_score(saved, snapshot.hits, snapshot.last_use, half_life());
}

void PrefixIndex::set_score(Id id) {
  Snapshot& snapshot = snapshots_[at(id)];
  worth_.erase({snapshot.score, id});
  snapshot.score = score_of(snapshot);
  worth_.emplace(snapshot.score, id);
  for (const Id node : {snapshot.at, snapshot.before})
    if (node != kNone) set_leaf(node);
}

// A page saves its 16 tokens for each hit on the snapshot behind it, however long the text before.
void PrefixIndex::set_leaf(Id id) {
  unset_leaf(id);
  Node& node = nodes_[at(id)];
  if (node.num_children > 0) return;
  if (node.snapshot == kNone) {
    node.leaf = {false, keep_score(kPageTokens, 0, node.last_use, half_life()), id};
  } else {
    const Snapshot& snapshot = snapshots_[at(node.snapshot)];
    node.leaf = {true, keep_score(kPageTokens, snapshot.hits, snapshot.last_use, half_life()), id};
  }
  leaves_.insert(node.leaf);
}

void PrefixIndex::unset_leaf(Id id) {
  Node& node = nodes_[at(id)];
  if (std::get<Id>(node.leaf) != kNone) leaves_.erase(node.leaf);
  node.leaf = {false, 0, kNone};
}

void PrefixIndex::remove_snapshot(Id id) {
  Snapshot& snapshot = snapshots_[at(id)];
  WEIR_CHECK(worth_.erase({snapshot.score, id}) == 1, "slot ", id, " is no snapshot");
  if (slots_.num_owners(snapshot.slot) == 1) --idle_snapshots_;
  --num_snapshots_;
  const auto nodes = {snapshot.at, snapshot.before};
  snapshot = Snapshot{};
  for (const Id node : nodes) {
    if (node == kNone) continue;
    nodes_[at(node)].snapshot = kNone;
    nodes_[at(node)].last_use = clock_;
    set_leaf(node);
  }
}

void PrefixIndex::drop_snapshot(Id id) {
  const SlotId slot = snapshots_[at(id)].slot;
  record(id);
  remove_snapshot(id);
  slots_.release(slot);
}

void PrefixIndex::record(Id id) {
  if (!evicted_) return;
  const Snapshot& snapshot = snapshots_[at(id)];
  const bool reaches_back = snapshot.at != kNone && snapshot.before != kNone;
  const Node& node = nodes_[at(snapshot.at != kNone ? snapshot.at : snapshot.before)];
  evicted_->push_back(
      {{TierLabel::Kind::kState, node.key, node.tokens, reaches_back ? std::optional(nodes_[at(snapshot.before)].key) : std::nullopt}, id});
}

void PrefixIndex::drop_leaf(Id id) {
  WEIR_CHECK(nodes_[at(id)].num_children == 0, "node ", id, " has children");
  if (const Id snapshot = nodes_[at(id)].snapshot; snapshot != kNone) {
    Snapshot& shared = snapshots_[at(snapshot)];
    const Id other = shared.at == id ? shared.before : shared.at;
    if (other == kNone) {
      drop_snapshot(snapshot);
    } else {  // still readable a page earlier; as the one it was it may live on elsewhere
      record(snapshot);
      (shared.at == id ? shared.at : shared.before) = kNone;
      nodes_[at(id)].snapshot = kNone;
      set_score(snapshot);
    }
  }
  unset_leaf(id);
  Node& node = nodes_[at(id)];
  if (evicted_) evicted_->push_back({{TierLabel::Kind::kPage, node.key, node.tokens, std::nullopt}, index(node.page)});
  const Id parent = node.parent;
  if (is_idle(node.page)) --idle_pages_;
  node_of_page_[at(index(node.page))] = kNone;
  pages_.release(node.page);
  by_key_.erase(node.key);
  free_nodes_.push_back(id);
  --num_nodes_;
  if (parent == kNone) return;
  --nodes_[at(parent)].num_children;
  set_leaf(parent);
}

void PrefixIndex::check_invariants() const {
  int32_t idle_pages = 0, idle_snapshots = 0, num_snapshots = 0, num_leaves = 0;
  std::vector<int32_t> children(nodes_.size(), 0);
  for (const auto& [key, id] : by_key_) {
    const Node& node = nodes_[at(id)];
    WEIR_CHECK(node.key == key && node_of_page_[at(index(node.page))] == id, "node ", id);
    if (node.parent != kNone) {
      const Node& parent = nodes_[at(node.parent)];
      WEIR_CHECK(by_key_.at(parent.key) == node.parent && parent.end + kPageTokens == node.end, "node ", id, " below ", node.parent);
      WEIR_CHECK(pages_.num_owners(parent.page) > 1 || pages_.num_owners(node.page) == 1, "node ", id,
                 " is held, the one before it is not");
      ++children[at(node.parent)];
    } else {
      WEIR_CHECK(node.end == kPageTokens, "node ", id);
    }
    if (node.snapshot != kNone) {
      const Snapshot& snapshot = snapshots_[at(node.snapshot)];
      WEIR_CHECK(snapshot.at == id || snapshot.before == id, "snapshot of node ", id);
    }
    idle_pages += pages_.num_owners(node.page) == 1;
  }
  for (const auto& [key, id] : by_key_) {
    const Node& node = nodes_[at(id)];
    const bool is_leaf = leaves_.contains(node.leaf);
    WEIR_CHECK(node.num_children == children[at(id)] && is_leaf == (node.num_children == 0), "node ", id);
    num_leaves += is_leaf;
  }
  for (Id id = 0; id < slots_.capacity(); ++id) {
    const Snapshot& snapshot = snapshots_[at(id)];
    if (!is_snapshot(SlotId{id})) continue;
    WEIR_CHECK(index(snapshot.slot) == id && worth_.contains({snapshot.score, id}) && slots_.num_owners(snapshot.slot) >= 1, "snapshot ",
               id);
    for (const Id node : {snapshot.at, snapshot.before}) WEIR_CHECK(node == kNone || nodes_[at(node)].snapshot == id, "snapshot ", id);
    ++num_snapshots;
    idle_snapshots += slots_.num_owners(snapshot.slot) == 1;
  }
  WEIR_CHECK(static_cast<int32_t>(by_key_.size()) == num_nodes_ && idle_pages == idle_pages_, idle_pages_, " idle pages, counted ",
             idle_pages);
  WEIR_CHECK(num_snapshots == num_snapshots_ && idle_snapshots == idle_snapshots_, idle_snapshots_, " idle snapshots, counted ",
             idle_snapshots);
  WEIR_CHECK(static_cast<int32_t>(leaves_.size()) == num_leaves && static_cast<int32_t>(worth_.size()) == num_snapshots, leaves_.size());
}

}  // namespace weir
