// A directory of safetensors files as one table of named tensors. Files are mapped, never read whole; headers are untrusted input:
// every offset, length, shape and dtype is checked against the file before it is used.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "weir/tensor/tensor.h"

namespace weir {

class Checkpoint {
 public:
  // Reads model.safetensors.index.json (or quant_model_weights.safetensors.index.json) when there is one, else every *.safetensors file.
  // Throws Error naming the file and the field: missing shard, truncated file, header that lies, duplicate tensor, unknown dtype.
  static Checkpoint open(const std::string& dir);

  struct Entry {
    std::string name;  // canonical: "model.language_model.…", "model.visual.…", "lm_head.weight", "mtp.…" whatever prefix the file uses
    std::string file_name;  // as the file spells it
    Tensor tensor;          // a view of the mapping, which it keeps alive; alignment is not promised beyond 1 byte
    std::string path;       // file it lies in
  };
  const std::vector<Entry>& entries() const { return entries_; }  // sorted by canonical name
  const Entry* find(std::string_view canonical_name) const;       // nullptr when absent
  int64_t total_bytes() const;

 private:
  std::vector<Entry> entries_;
};

// Hands out tensors by name and remembers what was taken, so that a load ends with nothing missing and nothing left over.
class WeightReader {
 public:
  explicit WeightReader(const Checkpoint& checkpoint) : checkpoint_(checkpoint), taken_(checkpoint.entries().size()) {}

  bool has(std::string_view name) const { return checkpoint_.find(name) != nullptr; }
  // Throws Error naming the tensor with the shape seen and wanted, its file, and close names when it is missing.
  Tensor take(std::string_view name, const Shape& shape);
  // Marks everything below a prefix ("model.visual.", "mtp.") as known but not loaded by this run.
  void ignore(std::string_view prefix);
  // Throws Error that lists tensors nobody took (the first ten and how many).
  void expect_all_taken() const;

 private:
  const Checkpoint& checkpoint_;
  std::vector<bool> taken_;
};

}  // namespace weir
