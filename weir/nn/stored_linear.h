// One matrix as a checkpoint stores it: found with its scales, checked, and packed into what the kernels read.
#pragma once

#include <string>
#include <vector>

#include "weir/ops/linear.h"
#include "weir/weights/checkpoint.h"

namespace weir {

struct StoredLinear {
  std::string name;  // "….weight"
  LinearFormat format = LinearFormat::kFloat;
  Tensor weight;  // [rows, columns], a view of the file

  // Of I8.
  std::vector<float> scale;   // per row: of the weight, or of weight and input together when that is static
  std::vector<int32_t> bias;  // static only: added to the sums, the correction for the input's offset included
  ops::InputScale input;

  // Of FP8: a factor per block.
  Tensor block_scale;
  int64_t block_rows = 0, block_columns = 0;

  // Takes "….weight" [rows, columns] and its scales out of `reader`. Throws Error naming the tensor: missing, misshapen, of a type that is
  // not built, or with scales that are no positive numbers.
  static StoredLinear take(WeightReader& reader, const std::string& name, int64_t rows, int64_t columns);

  // What it is packed as when float matrices are kept in `compute`.
  DType packed_type(DType compute) const { return is_int8() ? DType::kI8 : compute; }
  bool is_int8() const { return format == LinearFormat::kInt8Dynamic || format == LinearFormat::kInt8Static; }

  // Into rows [row, row + rows) of a matrix of packed_type(). The second form is for callers that run one matrix per thread.
  void pack(ThreadPool& pool, ops::PackedMatrix& matrix, int64_t row) const;
  void pack(ops::PackedMatrix& matrix, int64_t row) const;

 private:
  Tensor dequantised(int64_t begin, int64_t end, DType type) const;  // rows of FP8
};

// How many bytes fewer the packed matrices of the text model take (with_mtp: of the draft head too) than if all were kept in `compute`,
// because the checkpoint holds some in I8. Throws Error naming a tensor of a type that is not built.
int64_t int8_saving(const Checkpoint& checkpoint, DType compute, bool with_mtp);

// A BF16, F16 or F32 tensor at any address, as F32.
std::vector<float> read_floats(const Tensor& tensor);

}  // namespace weir
