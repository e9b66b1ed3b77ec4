// Tensor: a typed view of memory, row-major, with the storage it keeps alive (if any). Copying a Tensor copies the view.
// All dimensions but the first are dense; the first has a stride, so rows and column ranges of a matrix are views too.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "weir/base/check.h"
#include "weir/tensor/dtype.h"

namespace weir {

enum class DeviceKind : uint8_t { kCpu, kCuda, kNpu };

class Shape {
 public:
  static constexpr int kMaxRank = 5;
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);
  explicit Shape(std::span<const int64_t> dims);
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[static_cast<size_t>(i)]; }
  int64_t numel() const;  // 1 for rank 0
  bool operator==(const Shape&) const = default;
  std::string str() const;  // "[2, 3]"

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

class Tensor {
 public:
  Tensor() = default;
  // Borrows `data`; `owner` (may be null) is kept alive with the view.
  Tensor(void* data, Shape shape, DType type, std::shared_ptr<const void> owner = nullptr, DeviceKind device = DeviceKind::kCpu);

  // New memory on the CPU, 64-byte aligned. Large blocks come straight from mmap (zero pages, huge pages advised).
  static Tensor zeros(Shape shape, DType type);

  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const { return shape_[i]; }
  int rank() const { return shape_.rank(); }
  int64_t numel() const { return shape_.numel(); }
  DType dtype() const { return type_; }
  DeviceKind device() const { return device_; }
  int64_t row_stride() const { return row_stride_; }  // elements between consecutive indices of dimension 0
  bool dense() const;                                 // rows follow each other without gaps
  bool defined() const { return data_ != nullptr; }
  int64_t nbytes() const { return numel() * element_size(type_); }

  // T must have the size of the element type; uint16_t for BF16 and F16.
  template <class T>
  T* data() const {
    WEIR_CHECK(static_cast<int64_t>(sizeof(T)) == element_size(type_), "element type ", name(type_));
    return static_cast<T*>(data_);
  }
  const void* raw() const { return data_; }
  void* raw() { return data_; }

  Tensor rows(int64_t begin, int64_t end) const;     // [begin, end) of dimension 0
  Tensor columns(int64_t begin, int64_t end) const;  // of a matrix: [T, N] -> [T, end - begin], same rows
  Tensor reshape(Shape shape) const;                 // dense tensors only, same number of elements
  Tensor operator[](int64_t i) const;                // dimension 0 removed

 private:
  void* data_ = nullptr;
  Shape shape_;
  int64_t row_stride_ = 0;
  DType type_ = DType::kF32;
  DeviceKind device_ = DeviceKind::kCpu;
  std::shared_ptr<const void> owner_;
};

}  // namespace weir
