// Symmetric int8 of matrix rows, as msmodelslim computes it: scale = max|w| / 127, q = w / scale rounded to nearest even.
#pragma once

#include <span>

#include "weir/base/thread_pool.h"
#include "weir/tensor/tensor.h"

namespace weir {

// Squared sums over what was quantised so far: the relative error is sqrt(error / size).
struct RowsError {
  double error = 0, size = 0;
};

// One row w -> q [w.size()] and its scale; scale 0, and q untouched, when it holds NaN or infinity.
RowsError quantize_row(std::span<const float> w, int8_t* q, float& scale);

// Rows of `source` [m, k] (F32, BF16 or F16 at any address) -> q [m · k] and scale [m]. Returns the sums of these rows.
// Throws Error with the row's number, `first_row` + its index, when it holds NaN or infinity.
RowsError quantize_rows(ThreadPool& pool, const Tensor& source, int64_t first_row, std::span<int8_t> q, std::span<float> scale);

}  // namespace weir
