// The safetensors format: u64 header length (little-endian), JSON header, tensor data. Parsing looks at bytes only, so it can be
// tested and fuzzed without files; mapping a file is apart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "weir/tensor/tensor.h"

namespace weir {

struct TensorHeader {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  uint64_t begin = 0, end = 0;  // bytes from the start of the file; end - begin == numel * element size, end <= file size
};

// Reads the header of a whole file's bytes; `where` names the file in errors. Untrusted input: every field is checked, and a tensor
// that is returned lies inside `file` and overlaps no other. Gaps between tensors are tolerated, `__metadata__` is skipped.
// Throws Error(kInvalidArgument).
std::vector<TensorHeader> parse_safetensors(std::span<const std::byte> file, std::string_view where);

// A regular file mapped read-only; the bytes live as long as any copy of `owner`. A file that somebody truncates later gives SIGBUS.
struct MappedFile {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};
// Throws Error: kNotFound when it cannot be opened, kInvalidArgument when it is empty or not a regular file.
MappedFile map_file(const std::string& path);

}  // namespace weir
