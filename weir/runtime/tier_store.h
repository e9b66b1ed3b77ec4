// The bytes of the second tier (core/tier.h): compressed, in segments that are files of a directory or of plain memory. Segments fill one
// after the other, and when all together are full the oldest one goes with everything in it, so nothing is ever rewritten, and a crash
// can only tear the last record. Each record has a checksum over its header and one over its content; a damaged one is lost, never wrong.
// A thread compresses, writes, reads and expands; the rank thread only queues copies and takes them.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include "weir/core/tier.h"

namespace weir {

struct TierConfig {
  int64_t capacity = 0;                     // bytes of records
  std::string dir;                          // empty: plain memory
  bool keep = false;                        // the files stay for the next start; else they vanish with the process, even one that is killed
  std::string fingerprint;                  // of all that must be equal for an entry to be of use: a name of letters and digits
  int64_t page_bytes = 0, state_bytes = 0;  // of an entry
  int64_t page_element = 2, state_element = 4;  // bytes of the numbers in it: sorted by significance they compress better
};

class TierStore {
 public:
  // Throws Error, naming the flag: kInvalidArgument when the capacity is too small, kUnavailable when the directory cannot be used.
  explicit TierStore(TierConfig config);
  ~TierStore();  // writes what waits
  TierStore(const TierStore&) = delete;
  TierStore& operator=(const TierStore&) = delete;

  const std::vector<TierEntry>& found() const { return found_; }  // what an earlier run left, oldest first
  uint64_t secret() const { return secret_; }                     // of the hashes in the labels: drawn once per directory, or per process

  // Rank thread. `bytes` has the entry's size. With too much waiting already the entry is lost, or, if `must`, the call waits.
  void save(const TierEntry& entry, std::vector<std::byte> bytes, bool must);
  void fetch(TierId id);
  void drop_fetched();
  void forget_all();
  // The bytes of an entry that was fetched, once.
  std::optional<std::vector<std::byte>> take(TierId id);
  // What has happened since the last call. `wait`: returns when there is something, if a fetch is under way.
  TierEvents events(bool wait);

 private:
  struct Save {
    TierEntry entry;
    std::vector<std::byte> bytes;
  };
  struct Fetch {
    TierId id;
  };
  struct ForgetAll {};
  using Job = std::variant<Save, Fetch, ForgetAll>;
  struct Segment {
    int file = -1;
    std::string path;  // empty: it has no name
    int64_t size = 0;
    std::vector<TierId> entries;
  };
  struct Place {
    uint64_t segment = 0;  // counted from the first one ever
    int64_t offset = 0, length = 0;
    TierLabel label;
  };

  void open_directory();
  void read_segment(const std::string& path);
  void run();
  void write(const Save& save);
  std::optional<std::vector<std::byte>> read(TierId id) const;
  void new_segment();
  void drop_segment();
  void lose(TierId id);
  int64_t raw_bytes(const TierLabel& label) const;

  TierConfig config_;
  int64_t segment_bytes_ = 0;
  int lock_ = -1;  // file whose lock says that this process has the directory
  std::string folder_;
  std::vector<TierEntry> found_;
  uint64_t secret_ = 0;

  // The worker's, and the constructor's before it.
  std::deque<Segment> segments_;
  uint64_t first_segment_ = 0;
  std::unordered_map<TierId, Place> places_;
  bool disk_is_full_ = false;

  std::mutex mu_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;                                        // guarded by mu_
  int64_t waiting_bytes_ = 0;                                   // guarded by mu_: of the saves among them
  int32_t fetches_under_way_ = 0;                               // guarded by mu_
  std::unordered_map<TierId, std::vector<std::byte>> fetched_;  // guarded by mu_
  TierEvents events_;                                           // guarded by mu_
  int64_t bytes_used_ = 0;                                      // guarded by mu_
  bool closed_ = false;                                         // guarded by mu_
  std::thread thread_;
};

}  // namespace weir
