#include "weir/tensor/tensor.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "weir/base/error.h"
#include "weir/tensor/arena.h"
#include "weir/tensor/huge_pages.h"

namespace weir {

int64_t element_size(DType type) {
  switch (type) {
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kBF16:
    case DType::kF16: return 2;
    case DType::kI64: return 8;
    case DType::kF8E4M3:
    case DType::kI8:
    case DType::kU8: return 1;
  }
  return 0;
}

const char* name(DType type) {
  switch (type) {
    case DType::kF32: return "F32";
    case DType::kBF16: return "BF16";
    case DType::kF16: return "F16";
    case DType::kF8E4M3: return "F8_E4M3";
    case DType::kI64: return "I64";
    case DType::kI32: return "I32";
    case DType::kI8: return "I8";
    case DType::kU8: return "U8";
  }
  return "?";
}

float f16_to_f32(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu, mantissa = bits & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float tiny = std::ldexp(static_cast<float>(mantissa), -24);
  return sign != 0 ? -tiny : tiny;
}

Shape::Shape(std::initializer_list<int64_t> dims) : Shape(std::span<const int64_t>(dims.begin(), dims.size())) {}

Shape::Shape(std::span<const int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  WEIR_CHECK(rank_ <= kMaxRank, "rank ", rank_);
  for (size_t i = 0; i < dims.size(); ++i) dims_[i] = dims[i];
}

int64_t Shape::numel() const {
  int64_t n = 1;
  for (int i = 0; i < rank_; ++i) n *= dims_[static_cast<size_t>(i)];
  return n;
}

std::string Shape::str() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) text += (i > 0 ? ", " : "") + std::to_string((*this)[i]);
  return text + "]";
}

namespace {

int64_t dense_row(const Shape& shape) {
  int64_t n = 1;
  for (int i = 1; i < shape.rank(); ++i) n *= shape[i];
  return n;
}

std::shared_ptr<void> allocate(size_t bytes) {
  if (bytes <= kHugePage / 2) {
    const size_t rounded = (bytes + 63) / 64 * 64;
    void* data = std::aligned_alloc(64, rounded == 0 ? 64 : rounded);
    if (data == nullptr) throw std::bad_alloc();
    std::memset(data, 0, rounded);
    return {data, std::free};
  }
  // Zero pages come on first touch, so the thread that packs or fills a weight also places it.
  const size_t mapped = whole_huge_pages(bytes);
  void* data = map_huge_pages(nullptr, mapped);
  if (data == nullptr) fail(ErrorCode::kResourceExhausted, "cannot map ", bytes, " bytes of memory");
  return {data, [mapped](void* p) { ::munmap(p, mapped); }};
}

}  // namespace

Tensor::Tensor(void* data, Shape shape, DType type, std::shared_ptr<const void> owner, DeviceKind device)
    : data_(data), shape_(shape), row_stride_(dense_row(shape)), type_(type), device_(device), owner_(std::move(owner)) {}

Tensor Tensor::zeros(Shape shape, DType type) {
  const auto memory = allocate(static_cast<size_t>(shape.numel() * element_size(type)));
  return Tensor(memory.get(), shape, type, memory);
}

bool Tensor::dense() const { return rank() == 0 || dim(0) <= 1 || row_stride_ == dense_row(shape_); }

Tensor Tensor::rows(int64_t begin, int64_t end) const {
  WEIR_CHECK(rank() >= 1 && 0 <= begin && begin <= end && end <= dim(0), "rows ", begin, " to ", end, " of ", shape_.str());
  std::array<int64_t, Shape::kMaxRank> dims{};
  for (int i = 0; i < rank(); ++i) dims[static_cast<size_t>(i)] = dim(i);
  dims[0] = end - begin;
  Tensor out = *this;
  out.shape_ = Shape(std::span<const int64_t>(dims.data(), static_cast<size_t>(rank())));
  out.data_ = static_cast<std::byte*>(data_) + begin * row_stride_ * element_size(type_);
  return out;
}

Tensor Tensor::columns(int64_t begin, int64_t end) const {
  WEIR_CHECK(rank() == 2 && 0 <= begin && begin <= end && end <= dim(1), "columns ", begin, " to ", end, " of ", shape_.str());
  Tensor out = *this;
  out.shape_ = Shape{dim(0), end - begin};
  out.data_ = static_cast<std::byte*>(data_) + begin * element_size(type_);
  return out;
}

Tensor Tensor::reshape(Shape shape) const {
  WEIR_CHECK(dense() && shape.numel() == numel(), shape_.str(), " to ", shape.str());
  Tensor out = *this;
  out.shape_ = shape;
  out.row_stride_ = dense_row(shape);
  return out;
}

Tensor Tensor::operator[](int64_t i) const {
  WEIR_CHECK(rank() >= 1 && 0 <= i && i < dim(0), "index ", i, " of ", shape_.str());
  std::array<int64_t, Shape::kMaxRank> dims{};
  for (int d = 1; d < rank(); ++d) dims[static_cast<size_t>(d - 1)] = dim(d);
  Tensor out = *this;
  out.shape_ = Shape(std::span<const int64_t>(dims.data(), static_cast<size_t>(rank() - 1)));
  out.data_ = static_cast<std::byte*>(data_) + i * row_stride_ * element_size(type_);
  out.row_stride_ = dense_row(out.shape_);
  return out;
}

Arena::Arena(size_t bytes) : capacity_(whole_huge_pages(bytes)) {
  base_ = static_cast<std::byte*>(map_huge_pages(nullptr, capacity_));
  if (base_ == nullptr) fail(ErrorCode::kResourceExhausted, "cannot reserve ", bytes, " bytes for activations");
}

Arena::~Arena() { ::munmap(base_, capacity_); }

void* Arena::bytes(size_t size) {
  const size_t rounded = (size + 63) / 64 * 64;
  WEIR_CHECK(used_ + rounded <= capacity_, "activations need ", used_ + rounded, " bytes, the arena has ", capacity_);
  void* out = base_ + used_;
  used_ += rounded;
  peak_ = used_ > peak_ ? used_ : peak_;
  return out;
}

Tensor Arena::first(size_t size) {
  const auto pages = static_cast<int64_t>(std::min(size, capacity_) / kHugePage);
  return Tensor(base_, {pages, static_cast<int64_t>(kHugePage)}, DType::kU8);
}

Tensor Arena::empty(Shape shape, DType type) { return Tensor(bytes(static_cast<size_t>(shape.numel() * element_size(type))), shape, type); }

}  // namespace weir
