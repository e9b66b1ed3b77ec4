// Settings after flags, environment and model files have been combined; passed down, never global.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace weir {

constexpr int32_t kPageTokens = 16;  // tokens per attention page
// Pages that hold num_tokens tokens.
constexpr int32_t pages_for(int64_t num_tokens) { return static_cast<int32_t>((num_tokens + kPageTokens - 1) / kPageTokens); }
constexpr int32_t kChunkAlign = 64;  // unfinished prompt chunks end at multiples of this where possible: whole blocks are faster

constexpr int32_t kMaxDrafts = 8;  // guesses per sequence and step

// A delta-net slot that has seen N tokens, refused guesses included, can be read at any position p with N - kSlotHistory <= p <= N that is
// not before N's block: kSlotBlock * ((N - 1) / kSlotBlock) <= p. So guesses can be taken back, and the last page boundary is in reach.
constexpr int32_t kSlotHistory = kPageTokens + kMaxDrafts;
constexpr int32_t kSlotBlock = 32;

struct CacheConfig {
  int32_t num_pages = 0;
  int32_t num_slots = 0;  // of running sequences and of snapshots
  bool prefix_caching = true;
  uint64_t key_secret = 0;           // of the hashes that name prefixes
  bool has_tier = false;             // the ranks have a second tier (core/tier.h) …
  bool keep_tier = false;            // … that outlives the engine: what is known at the end goes there
  int32_t snapshot_interval = 2048;  // tokens between snapshots inside a long prompt, rounded down to whole pages; 0: none there
};

struct SchedulerConfig {
  int32_t max_num_seqs = 256;                // running at once
  int32_t max_num_batched_tokens = 2048;     // token budget of one step
  int32_t max_model_len = 0;                 // prompt + output tokens of one sequence
  int32_t long_prefill_token_threshold = 0;  // 0: off; else the most prompt tokens one sequence gets per step
  int32_t max_waiting = 4096;                // requests beyond those that can run at once; more are refused
};

struct SpeculationConfig {
  int32_t num_drafts = 0;  // most guesses per sequence and step, up to kMaxDrafts; 0: the draft head is not there
  bool adaptive = true;    // as many of them as pay, 0 included; else always num_drafts
};

struct EngineConfig {
  CacheConfig cache;
  SchedulerConfig scheduler;
  SpeculationConfig speculation;
  std::vector<int32_t> eos_token_ids;  // generation_config.json: any of them ends a sequence
  uint64_t seed = 0;                   // of requests without one
};

}  // namespace weir
