#include "weir/weights/quantize_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "weir/base/error.h"

namespace weir {
namespace {

void read_row(const Tensor& source, int64_t row, std::vector<float>& out) {
  const int64_t columns = source.dim(1);
  const auto* bytes = static_cast<const std::byte*>(source.raw()) + row * source.row_stride() * element_size(source.dtype());
  if (source.dtype() == DType::kF32) {
    std::memcpy(out.data(), bytes, static_cast<size_t>(columns) * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < columns; ++i) {
    uint16_t bits;
    std::memcpy(&bits, bytes + 2 * i, sizeof(bits));
    out[static_cast<size_t>(i)] = source.dtype() == DType::kBF16 ? bf16_to_f32(bits) : f16_to_f32(bits);
  }
}

}  // namespace

RowsError quantize_row(std::span<const float> w, int8_t* q, float& scale) {
  float most = 0;
  bool finite = true;
  for (const float value : w) {
    finite &= std::isfinite(value);
    most = std::max(most, std::abs(value));
  }
  scale = finite ? std::max(most / 127.0f, std::numeric_limits<float>::epsilon()) : 0.0f;
  RowsError sum;
  if (!finite) return sum;
  for (size_t i = 0; i < w.size(); ++i) {
    const float value = w[i], rounded = std::clamp(std::nearbyint(value / scale), -128.0f, 127.0f);
    q[i] = static_cast<int8_t>(rounded);
    sum.error += std::pow(double(value) - double(rounded) * double(scale), 2);
    sum.size += double(value) * double(value);
  }
  return sum;
}

RowsError quantize_rows(ThreadPool& pool, const Tensor& source, int64_t first_row, std::span<int8_t> q, std::span<float> scale) {
  const int64_t rows = source.dim(0), columns = source.dim(1);
  WEIR_CHECK(static_cast<int64_t>(q.size()) == rows * columns && static_cast<int64_t>(scale.size()) == rows, q.size(), " ", scale.size());
  std::vector<RowsError> sums(static_cast<size_t>(rows));
  pool.parallel_for(rows, std::max<int64_t>(1, 65'536 / std::max<int64_t>(1, columns)), [&](int64_t begin, int64_t end, int) {
    std::vector<float> w(static_cast<size_t>(columns));
    for (int64_t r = begin; r < end; ++r) {
      read_row(source, r, w);
      sums[static_cast<size_t>(r)] = quantize_row(w, q.data() + r * columns, scale[static_cast<size_t>(r)]);
    }
  });
  RowsError total;
  for (int64_t r = 0; r < rows; ++r) {
    if (scale[static_cast<size_t>(r)] == 0)
      fail(ErrorCode::kInvalidArgument, "row ", first_row + r, " holds NaN or infinity, which int8 cannot express");
    total.error += sums[static_cast<size_t>(r)].error;
    total.size += sums[static_cast<size_t>(r)].size;
  }
  return total;
}

}  // namespace weir
