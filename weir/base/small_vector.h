// SmallVector<T, N>: a vector of plain values that allocates only beyond N of them. For the few tokens of a step, which travel from thread
// to thread all the time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace weir {

template <class T, size_t N>
  requires std::is_trivially_copyable_v<T>
class SmallVector {
 public:
  using value_type = T;
  using size_type = size_t;
  using iterator = T*;
  using const_iterator = const T*;

  SmallVector() = default;
  SmallVector(std::initializer_list<T> values) : SmallVector(std::span<const T>(values.begin(), values.size())) {}
  SmallVector(const std::vector<T>& values) : SmallVector(std::span<const T>(values)) {}  // NOLINT(google-explicit-constructor)
  explicit SmallVector(std::span<const T> values) { append(values); }
  SmallVector(const SmallVector& other) : SmallVector(std::span<const T>(other)) {}
  SmallVector(SmallVector&& other) noexcept { swap(other); }
  SmallVector& operator=(SmallVector other) noexcept {
    swap(other);
    return *this;
  }
  ~SmallVector() = default;

  T* data() { return more_ ? more_.get() : own_; }
  const T* data() const { return more_ ? more_.get() : own_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T* begin() { return data(); }
  T* end() { return data() + size_; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size_; }
  T& operator[](size_t i) { return data()[i]; }
  const T& operator[](size_t i) const { return data()[i]; }
  T& front() { return data()[0]; }
  T& back() { return data()[size_ - 1]; }
  const T& front() const { return data()[0]; }
  const T& back() const { return data()[size_ - 1]; }

  void clear() { size_ = 0; }
  void push_back(T value) {
    reserve(size_ + 1);
    data()[size_++] = value;
  }
  void append(std::span<const T> values) {
    reserve(size_ + values.size());
    std::copy(values.begin(), values.end(), end());
    size_ += values.size();
  }
  void resize(size_t size) {
    reserve(size);
    if (size > size_) std::fill(end(), data() + size, T{});
    size_ = size;
  }

  friend bool operator==(const SmallVector& a, const SmallVector& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }
  friend bool operator==(const SmallVector& a, const std::vector<T>& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

 private:
  void reserve(size_t size) {
    if (size <= capacity_) return;
    const size_t wanted = std::max(size, 2 * capacity_);
    auto more = std::make_unique<T[]>(wanted);
    std::copy(begin(), end(), more.get());
    more_ = std::move(more);
    capacity_ = wanted;
  }
  void swap(SmallVector& other) noexcept {
    std::swap(own_, other.own_);
    std::swap(more_, other.more_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

  T own_[N] = {};
  std::unique_ptr<T[]> more_;  // null: the values are in own_
  size_t size_ = 0, capacity_ = N;
};

}  // namespace weir
