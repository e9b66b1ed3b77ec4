// How the matrices of a checkpoint are stored, as its directory says: quant_model_description.json ("ascend", msmodelslim), or the
// quantization_config of config.json (compressed-tensors, fp8). Both are untrusted; spec/w8a8.md describes the formats.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "weir/tensor/dtype.h"
#include "weir/weights/compressed_tensors.h"

namespace weir {

enum class LinearFormat : uint8_t {
  kFloat,
  kInt8Dynamic,  // I8 rows with a scale each; inputs are rounded by a scale per token
  kInt8Static,   // the same with one input scale of the checkpoint
  kFp8Block,     // E4M3 with a scale per block
};

class Quantization {
 public:
  enum class Method : uint8_t { kNone, kAscend, kCompressedTensors, kFp8, kUnknown };

  Quantization() = default;  // nothing is quantised
  // The method that `dir` names and, for "ascend", the types of its tensors. Throws Error for a file that is not what it should be;
  // what weir cannot compute is kept as an obstacle, so that it can be shown.
  static Quantization read(const std::string& dir);

  Method method() const { return method_; }
  const std::string& method_name() const { return method_name_; }  // "none", "ascend", "compressed-tensors", …
  const std::string& obstacle() const { return obstacle_; }        // why nothing quantised like that is served; empty: it is

  // A matrix of a checkpoint.
  struct StoredAs {
    std::string_view name;       // "….q_proj.weight", canonical
    std::string_view file_name;  // as the file spells it: patterns may mean either
    DType dtype = DType::kF32;
    bool has_input_scale = false;  // "….input_scale" is there too
  };
  // How it is stored. Throws Error naming the tensor when its type is not built or when description and dtype disagree.
  LinearFormat format(const StoredAs& tensor) const;

  // Throws Error saying what was found unless `wanted`, the value of --quantization, names this method; empty: any.
  void expect(std::string_view wanted) const;

  int64_t block_rows() const { return block_rows_; }  // of kFp8Block
  int64_t block_columns() const { return block_columns_; }
  // Type -> tensors with it, of "ascend"; by canonical name.
  const std::map<std::string, std::string, std::less<>>& types() const { return types_; }

 private:
  void read_description(const std::string& file);
  void read_config(const std::string& file);
  LinearFormat compressed_format(const StoredAs& tensor) const;

  Method method_ = Method::kNone;
  std::string method_name_ = "none", source_, obstacle_;
  std::map<std::string, std::string, std::less<>> types_;  // name of a weight -> type, those of FLOAT left out
  CompressedTensors compressed_;
  int64_t block_rows_ = 0, block_columns_ = 0;
};

}  // namespace weir
