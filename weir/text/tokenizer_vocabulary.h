// The bytes of every token and the way back, and how tokenizer.json spells them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weir {

// Byte-level files write each byte as one printable character ("Ġ" for a space). Appends the bytes that `letters` spells and returns
// true; a text with any other character stands for itself (as HF decodes it): it is appended as it is and the result is false.
// REQUIRES: letters is valid UTF-8
bool append_spelled_bytes(std::string_view letters, std::string& out);

class Vocabulary {
 public:
  static constexpr int32_t kMaxId = (1 << 21) - 1;  // the merge table packs two ids and a rank into 64 bits

  void reserve(size_t tokens);
  // spelled: append_spelled_bytes() was true for it, so find() knows it; no two such tokens may have the same bytes.
  // REQUIRES: 0 <= id <= kMaxId, !has(id)
  void add(int32_t id, std::string_view bytes, bool spelled);

  bool has(int32_t id) const { return id >= 0 && id < size() && entries_[static_cast<size_t>(id)].present; }
  bool is_spelled(int32_t id) const { return has(id) && entries_[static_cast<size_t>(id)].spelled; }
  std::string_view bytes(int32_t id) const;  // empty for ids without a token
  std::optional<int32_t> find(std::string_view bytes) const;
  int32_t size() const { return static_cast<int32_t>(entries_.size()); }  // largest id + 1

 private:
  struct Entry {
    uint32_t offset = 0;  // in text_
    uint32_t length : 30 = 0;
    bool present : 1 = false;
    bool spelled : 1 = false;
  };
  // The tag tells nearly all other tokens apart without a look at their bytes, which would be two cache misses.
  struct Slot {
    int32_t id = -1;  // -1 for free
    uint32_t tag = 0;
  };
  void insert(int32_t id);
  size_t home(uint64_t hash) const;

  std::string text_;
  std::vector<Entry> entries_;  // by id
  std::vector<Slot> slots_;     // open addressing over the spelled tokens; the size is a power of two
  size_t num_spelled_ = 0;
};

}  // namespace weir
