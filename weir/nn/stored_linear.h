// One matrix as a checkpoint stores it: found with its scales, checked, and packed into what the kernels read.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "weir/ops/linear.h"
#include "weir/weights/checkpoint.h"

namespace weir {

// What matrices of FP8 blocks become while loading: floats, or I8 rows with a scale each (a second rounding, half of BF16's bytes).
enum class Fp8As : uint8_t { kFloat, kInt8 };

struct StoredLinear {
  std::string name;  // "….weight"
  LinearFormat format = LinearFormat::kFloat;
  Tensor weight;  // [rows, columns], a view of the file

  // Of I8.
  std::vector<float> scale;   // per row: of the weight, or of weight and input together when that is static
  std::vector<int32_t> bias;  // static only: added to the sums, the correction for the input's offset included
  ops::InputScale input;

  // Of FP8: a factor per block, row after row of blocks.
  std::vector<float> block_scale;
  int64_t block_rows = 0, block_columns = 0;
  Fp8As fp8_as = Fp8As::kFloat;

  // Takes "….weight" [rows, columns] and its scales out of `reader`. Throws Error naming the tensor: missing, misshapen, of a type that is
  // not built, or with scales that are no positive numbers.
  static StoredLinear take(WeightReader& reader, const std::string& name, int64_t rows, int64_t columns, Fp8As fp8_as = Fp8As::kFloat);

  // What it is packed as when float matrices are kept in `compute`.
  DType packed_type(DType compute) const { return is_int8() ? DType::kI8 : compute; }
  bool is_int8() const {
    return format == LinearFormat::kInt8Dynamic || format == LinearFormat::kInt8Static ||
           (format == LinearFormat::kFp8Block && fp8_as == Fp8As::kInt8);
  }

  // Into rows [row, row + rows) of a matrix of packed_type(). The second form is for callers that run one matrix per thread.
  void pack(ThreadPool& pool, ops::PackedMatrix& matrix, int64_t row) const;
  void pack(ops::PackedMatrix& matrix, int64_t row) const;

 private:
  template <class ForRows, class PackRows>
  void pack_fp8(DType type, const ForRows& for_rows, const PackRows& pack_rows) const;
  void read_fp8_row(int64_t row, std::span<float> out) const;
};

// Bytes of the matrices of the text model (with_mtp: of the draft head too) that a checkpoint stores in eight bits.
struct EightBitBytes {
  struct Kind {
    int64_t stored = 0, as_compute = 0, as_int8 = 0;  // in the files; packed as floats; packed as I8
  };
  Kind int8, fp8;

  // How many bytes fewer the packed matrices take than if all were kept as floats.
  int64_t saved(Fp8As fp8_as) const { return int8.as_compute - int8.as_int8 + (fp8_as == Fp8As::kInt8 ? fp8.as_compute - fp8.as_int8 : 0); }
};
// coding: of floats. Throws Error naming a tensor of a type that is not built.
EightBitBytes eight_bit_bytes(const Checkpoint& checkpoint, DType compute, bool with_mtp,
                              ops::WeightCoding coding = ops::WeightCoding::kPlain);

// A BF16, F16 or F32 tensor at any address, as F32.
std::vector<float> read_floats(const Tensor& tensor);

}  // namespace weir
