// Packed weights kept beside the model (--packed-cache), so that the next start reads them in the kernels' layout instead of converting the
// checkpoint. One file per model and variant:
//
//   the weights, each at a multiple of 4,096 bytes | index: facts, then (key, place, checksums) of each | trailer: sizes and a checksum
//
// The facts say what the weights were made of: this format and instruction set, config.json, and of every *.safetensors file its name,
// size, time and the hash of its header. A file whose facts, sizes or checksums are not right is not used and is written anew. It is
// written under another name and renamed when whole, so nobody ever sees half of one, and several servers may share a directory.
//
// Large weights are mapped, so that nothing is copied before the first answer, and move into huge pages later (mapped_weights.h); small
// ones are read. Either way every byte is checked first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "weir/base/thread_pool.h"

namespace weir {

class PackedCache {
 public:
  // Whether large weights may be mapped. Not when several NUMA nodes read them: mapped ones lie where the file was first read.
  enum class Large : uint8_t { kRead, kMap };

  // variant: what else the packed weights depend on, e.g. "BF16 mtp". Throws Error(kInvalidArgument) naming --packed-cache when the
  // directory cannot be made. A file that cannot be used is said in the log.
  PackedCache(const std::string& dir, const std::string& model_dir, const std::string& variant, Large large);
  ~PackedCache();
  PackedCache(const PackedCache&) = delete;
  PackedCache& operator=(const PackedCache&) = delete;

  bool reading() const { return reading_; }  // there is a file from an earlier start
  bool has(const std::string& key) const { return reading_ && entries_.contains(key); }

  // Fills `to` with the bytes kept under `key`; those of 2 MiB and more must be the whole memory of a tensor, and may be read-only from now
  // on. False: there are none of that size, or they are damaged; they must come from the checkpoint, and so must all that follows.
  bool read(ThreadPool& pool, const std::string& key, std::span<std::byte> to);
  // Keeps them for the next start, unless this one is reading. Problems (a full disk) are a warning, and nothing is kept.
  void keep(ThreadPool& pool, const std::string& key, std::span<const std::byte> from);
  // All weights have been kept: the file is there for the next start.
  void finish();

  // What read() has mapped. It stays so without this object.
  std::vector<std::span<std::byte>> take_mapped() { return std::exchange(mapped_, {}); }

  const std::string& path() const { return path_; }

 private:
  struct Entry {
    uint64_t offset = 0, bytes = 0;
    std::vector<uint64_t> checksums;  // of pieces of kPiece bytes
  };
  struct File;  // an open file

  void open();
  void give_up_reading(const std::string& why);
  void give_up_writing(const std::string& why);
  void start_writing();

  std::string path_, facts_;
  Large large_;
  bool reading_ = false, writing_ = false;
  std::unique_ptr<File> file_;
  std::string partial_path_;  // of the file being written
  uint64_t written_ = 0;
  std::map<std::string, Entry> entries_;
  std::vector<std::span<std::byte>> mapped_;
};

}  // namespace weir
