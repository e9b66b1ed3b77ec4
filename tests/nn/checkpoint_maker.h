// Checkpoints of a few tensors for tests: values in, a directory out.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "tests/weights/safetensors_files.h"
#include "weir/weights/checkpoint.h"
#include "weir/weights/safetensors_writer.h"

namespace weir {

class CheckpointMaker {
 public:
  template <class T>
  CheckpointMaker& add(const std::string& name, DType type, Shape shape, const std::vector<T>& values) {
    remove(name);
    tensors_.push_back({name, type, shape});
    bytes_.emplace_back(values.size() * sizeof(T), '\0');
    std::memcpy(bytes_.back().data(), values.data(), bytes_.back().size());
    return *this;
  }
  CheckpointMaker& remove(const std::string& name) {
    for (size_t i = 0; i < tensors_.size(); ++i)
      if (tensors_[i].name == name) {
        tensors_.erase(tensors_.begin() + static_cast<ptrdiff_t>(i));
        bytes_.erase(bytes_.begin() + static_cast<ptrdiff_t>(i));
        break;
      }
    return *this;
  }

  // Beside `file` with `text`: quant_model_description.json or config.json.
  Checkpoint open(const std::string& file, const std::string& text) const {
    const TempDir dir;
    dir.write(file, text);
    SafetensorsWriter writer(dir.file("model.safetensors"), tensors_);
    for (const std::string& bytes : bytes_) writer.write(std::as_bytes(std::span(bytes)));
    writer.finish();
    return Checkpoint::open(dir.path());  // mapped files outlive their names
  }

 private:
  std::vector<TensorPlan> tensors_;
  std::vector<std::string> bytes_;
};

}  // namespace weir
