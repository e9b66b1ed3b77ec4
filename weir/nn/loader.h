// From tensors of a checkpoint to weights of layers: one tensor at a time, packed in parallel straight from the file mapping, which is let
// go of behind the copy, so that loading never holds the model twice.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "weir/nn/packed_cache.h"
#include "weir/nn/stored_linear.h"
#include "weir/ops/linear.h"
#include "weir/weights/checkpoint.h"

namespace weir {

class Loader {
 public:
  // compute: kBF16 or kF32, the type matrices are kept in. progress(bytes) is told what has been read since the last call; may be empty.
  Loader(WeightReader& reader, DType compute, ThreadPool& pool, std::function<void(int64_t)> progress, Fp8As fp8_as = Fp8As::kFloat)
      : reader_(reader), compute_(compute), fp8_as_(fp8_as), pool_(pool), progress_(std::move(progress)) {}

  // Matrices of BF16 are kept so, if their weights allow it.
  void use(ops::WeightCoding coding) { coding_ = coding; }
  int64_t num_not_coded() const { return num_not_coded_; }  // matrices that did not, experts of a layer counted as one

  // Matrices and tables come from it if it has them, and go into it if not. It outlives the loader.
  void use(PackedCache& cache) { packed_cache_ = &cache; }

  // A small parameter as F32, each element + offset (the family's norms store w - 1).
  Tensor vector(const std::string& name, int64_t size, float offset = 0.0f);
  // conv1d.weight [channels, 1, kernel] -> F32 [kernel, channels], the order the kernel reads.
  Tensor conv(const std::string& name, int64_t channels, int64_t kernel);
  // A table read by rows (token embeddings), in the compute type.
  Tensor table(const std::string& name, int64_t rows, int64_t columns);

  // One packed matrix from tensors stacked by rows: several projections of the same input become one product. Throws Error when they are
  // not quantised alike.
  struct Part {
    std::string name;
    int64_t rows;
  };
  ops::PackedMatrix matrix(const std::vector<Part>& parts, int64_t columns);
  // The same as few matrices as it takes: parts that are stored alike and follow each other share one.
  std::vector<ops::PackedMatrix> matrices(const std::vector<Part>& parts, int64_t columns);
  // A table that is a projection as well: the head of a tied model.
  ops::PackedMatrix matrix(const Tensor& table);

  // A loaded float matrix once more, its rows rounded to I8 and its inputs dynamic: for products that need not be exact.
  ops::PackedMatrix rounded(const std::string& name, const ops::PackedMatrix& matrix);

  // The experts below `prefix` ("….mlp.experts.") in any of the three layouts: fused [E, 2I, H] + [E, H, I]; per expert gate_proj, up_proj,
  // down_proj; per expert gate_up_proj, down_proj. Chosen by the names that are there. Replaces what `out` held. All experts of a layer
  // must be stored alike.
  void experts(const std::string& prefix, int64_t count, int64_t hidden, int64_t intermediate, ops::ExpertWeights& out);

  WeightReader& reader() { return reader_; }
  DType compute() const { return compute_; }

 private:
  Tensor take(const std::string& name, const Shape& shape);  // a float tensor; anything else is an error that names it
  ops::PackedMatrix pack(std::span<const StoredLinear> stack);
  void done(const Tensor& source);  // progress, and the mapping's pages may go
  // What make(coding) gives, one allocation of alike matrices, filled by fill(it): coded if that can be.
  template <class Make, class Fill>
  std::vector<ops::PackedMatrix> coded(const std::string& name, DType type, const Make& make, const Fill& fill);
  // Fills bytes from the packed cache or, when it has none under this name (and number of bytes), by fill(), which the cache then keeps.
  template <class Fill>
  void cached(const std::string& name, std::span<std::byte> bytes, const Fill& fill);

  WeightReader& reader_;
  DType compute_;
  Fp8As fp8_as_;
  ThreadPool& pool_;
  std::function<void(int64_t)> progress_;
  PackedCache* packed_cache_ = nullptr;
  ops::WeightCoding coding_ = ops::WeightCoding::kPlain;
  int64_t num_not_coded_ = 0;
};

}  // namespace weir
