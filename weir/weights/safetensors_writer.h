// Writes one safetensors file as a stream: all names, types and shapes first, then the bytes in that order. The file carries another
// name until it is complete, so that a file that is there is whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "weir/tensor/tensor.h"

namespace weir {

struct TensorPlan {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;

  int64_t nbytes() const { return shape.numel() * element_size(dtype); }
};

class SafetensorsWriter {
 public:
  // Writes the header to `path`.partial. Throws Error when the file cannot be written.
  SafetensorsWriter(std::string path, const std::vector<TensorPlan>& tensors);
  ~SafetensorsWriter();  // removes what is not finished
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  // The next bytes; a tensor may come in pieces. Throws Error when the disk is full.
  void write(std::span<const std::byte> bytes);
  // On disk under its name. REQUIRES: exactly the planned bytes were written.
  void finish();

  // Whether `path` is a finished file of just these tensors.
  static bool is_written(const std::string& path, const std::vector<TensorPlan>& tensors);

 private:
  std::string path_, partial_;
  int64_t left_ = 0;
  std::ofstream out_;
};

}  // namespace weir
