// What is known of texts computed before: a tree with a node for each full page of tokens. A node owns the page that holds its K/V, and
// perhaps a share of a snapshot: a slot whose state can be read at the node's end. Matching a text walks down the pages; computing can
// only begin where there is a snapshot.
//
// Invariants: a node's parent is in the tree, so a snapshot implies all pages before it; every node and every snapshot is one owner of its
// page or slot; a sequence that holds the page of a node holds those of all its ancestors.
// Children are found by the 128-bit key of their prefix, and the tokens and the parent are compared: a hash collision is a miss, never a
// wrong text. Engine thread only.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "weir/cache/page_keys.h"
#include "weir/cache/slot_pool.h"

namespace weir {

// What is known of the beginning of a text. Good until the index changes.
struct PrefixMatch {
  std::vector<PageId> pages;   // of tokens [0, num_tokens)
  int32_t num_tokens = 0;      // a multiple of kPageTokens; 0: nothing to begin with
  std::optional<SlotId> slot;  // has the state at num_tokens
  int32_t num_known = 0;       // >= num_tokens: end of the known pages, up to the limit
};

// Something that is about to be forgotten. Its page or slot may be free from now on: what is in there must be read before it is written.
struct Evicted {
  TierLabel label;
  int32_t from = 0;  // index of the page or slot
};

class PrefixIndex {
 public:
  // Borrows the pools, of which it is one owner among others.
  PrefixIndex(SlotPool<PageId>& pages, SlotPool<SlotId>& slots);

  // The deepest snapshot at or before `limit` tokens on the way along the known pages of `text`. Changes nothing.
  PrefixMatch match(std::span<const Token> text, const PageKeys& keys, int32_t limit) const;
  // All known pages of `text` from its beginning, up to `limit` tokens, whether or not there is a state behind them.
  std::vector<PageId> known_pages(std::span<const Token> text, const PageKeys& keys, int32_t limit) const;
  // The match has been put to use: its snapshot is worth more from now on.
  void count_hit(const PrefixMatch& match);

  // Makes page `number` of `text` known, which lies in `page` and follows `before` (nullopt: it is the first one). Returns the page to be
  // used from now on: `page`, of which the index is one more owner now, or the one known already, whose content is the same. When
  // `before` is not in the index, neither can this page be, and nothing happens.
  PageId publish(std::span<const Token> text, const PageKeys& keys, int32_t number, std::optional<PageId> before, PageId page);

  // Takes over the caller's ownership of `slot`, which has the state at the end of `page`; `reaches_back`: and the one a page earlier.
  // Gives it back to the pool when the index has such a state or does not have the page.
  void add_snapshot(PageId page, bool reaches_back, SlotId slot);
  // Forgets a snapshot without giving its slot back: the caller has it now. REQUIRES: the index owns it, and nobody else.
  void hand_out(SlotId slot);

  // Sequences take and drop pages and slots that may be the index's through these, so that the number nobody else holds is known.
  void retain(PageId page);
  void release(PageId page);
  void retain(SlotId slot);
  void release(SlotId slot);

  // Forget what is worth least and held by nobody else. evict_page frees one page, and what only it kept alive; evict_snapshot one slot.
  bool evict_page();
  bool evict_snapshot();
  void clear();  // forgets everything; what sequences hold stays theirs

  // What is forgotten from now on is written down there, in order; nullptr: nowhere.
  void record_evictions(std::vector<Evicted>* evicted) { evicted_ = evicted; }

  int32_t num_pages() const { return num_nodes_; }
  int32_t num_snapshots() const { return num_snapshots_; }
  int32_t num_idle_pages() const { return idle_pages_; }  // held by the index alone: evict_page can free them all, one by one
  int32_t num_idle_snapshots() const { return idle_snapshots_; }
  bool is_idle(PageId page) const { return node_of(page) != kNone && pages_.num_owners(page) == 1; }

  // Aborts the program when an invariant is broken. O(everything).
  void check_invariants() const;

 private:
  using Id = int32_t;
  static constexpr Id kNone = -1;
  struct KeyHash {
    size_t operator()(const PageKey& key) const { return static_cast<size_t>(key.a); }
  };
  // Has a snapshot (nothing can begin at one without), worth, node: the smallest goes first.
  using LeafKey = std::tuple<bool, double, Id>;
  struct Node {
    PageKey key;
    std::array<Token, kPageTokens> tokens{};
    Id parent = kNone;
    int32_t end = 0;  // tokens from the beginning of the text
    int32_t num_children = 0;
    PageId page{};
    Id snapshot = kNone;
    int64_t last_use = 0;
    LeafKey leaf{false, 0, kNone};  // its place in leaves_; kNone: it is not there
  };
  struct Snapshot {
    SlotId slot{};
    Id at = kNone, before = kNone;  // readable at the end of these nodes, a page apart; at least one is there
    int64_t hits = 0, last_use = 0;
    double score = 0;  // its place in worth_
  };

  Id node_of(PageId page) const { return node_of_page_[static_cast<size_t>(index(page))]; }
  bool is_snapshot(SlotId slot) const;
  Id find_child(Id parent, const PageKey& key, std::span<const Token> page) const;
  void set_leaf(Id node);  // puts it into leaves_ or takes it out, as it is now
  void unset_leaf(Id node);
  void set_score(Id snapshot);
  double score_of(const Snapshot& snapshot) const;
  void remove_snapshot(Id snapshot);  // from the tree; the slot's owner is not touched
  void drop_snapshot(Id snapshot);    // and gives the slot back
  void drop_leaf(Id node);
  double half_life() const;
  void record(Id snapshot);

  SlotPool<PageId>& pages_;
  SlotPool<SlotId>& slots_;
  std::vector<Node> nodes_;  // those in free_nodes_ are not in the tree
  std::vector<Id> free_nodes_;
  std::unordered_map<PageKey, Id, KeyHash> by_key_;
  std::vector<Snapshot> snapshots_;        // by slot
  std::vector<Id> node_of_page_;           // kNone: not in the index
  std::set<LeafKey> leaves_;               // nodes without children
  std::set<std::pair<double, Id>> worth_;  // snapshots, the least worth first
  int32_t num_nodes_ = 0, num_snapshots_ = 0, idle_pages_ = 0, idle_snapshots_ = 0;
  int64_t clock_ = 0;  // uses
  std::vector<Evicted>* evicted_ = nullptr;
};

}  // namespace weir
