#include "weir/nn/stored_linear.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "weir/base/error.h"
#include "weir/weights/names.h"

namespace weir {
namespace {

constexpr std::string_view kWeight = ".weight";

template <class T>
T load(const Tensor& t, int64_t i) {
  T value;
  std::memcpy(&value, static_cast<const std::byte*>(t.raw()) + i * static_cast<int64_t>(sizeof(T)), sizeof(value));
  return value;
}

bool is_float(DType type) { return type == DType::kF32 || type == DType::kBF16 || type == DType::kF16; }

// E4M3: no infinities, 0x7f and 0xff are NaN.
float f8_to_f32(uint8_t bits) {
  const int exponent = bits >> 3 & 15, fraction = bits & 7;
  const float sign = (bits & 0x80) != 0 ? -1.0f : 1.0f;
  if (exponent == 15 && fraction == 7) return std::nanf("");
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -9);
  return sign * std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
}

const std::array<float, 256>& f8_values() {
  static const std::array<float, 256> values = [] {
    std::array<float, 256> out{};
    for (size_t i = 0; i < out.size(); ++i) out[i] = f8_to_f32(static_cast<uint8_t>(i));
    return out;
  }();
  return values;
}

// Reads the tensors that belong to one matrix.
class Parts {
 public:
  Parts(WeightReader& reader, const std::string& name) : reader_(reader), stem_(name.substr(0, name.size() - kWeight.size())) {}

  bool has(const char* part) const { return reader_.has(stem_ + part); }

  // `count` values, whether stored as [count], as [count, 1] or, when it is one, as a scalar.
  Tensor take(const char* part, int64_t count) {
    const std::string name = stem_ + part;
    const Checkpoint::Entry* entry = reader_.checkpoint().find(name);
    Shape shape{count};
    if (entry != nullptr && entry->tensor.shape() == (Shape{count, 1})) shape = Shape{count, 1};
    if (entry != nullptr && count == 1 && entry->tensor.rank() == 0) shape = Shape{};
    return reader_.take(name, shape);
  }

  std::vector<float> floats(const char* part, int64_t count) {
    const Tensor t = take(part, count);
    if (!is_float(t.dtype())) bad(part, "has dtype ", weir::name(t.dtype()), "; F32, BF16 or F16 is allowed");
    return read_floats(t);
  }

  std::vector<float> scales(const char* part, int64_t count) {
    std::vector<float> out = floats(part, count);
    check_scales(part, out);
    return out;
  }

  // FP32 numbers, or what the exporter writes when it does not know the model: I64 with the FP32 pattern in the low half.
  std::vector<float> deq_scales(int64_t count) {
    const Tensor t = take(".deq_scale", count);
    if (is_float(t.dtype())) return scales(".deq_scale", count);
    if (t.dtype() != DType::kI64) bad(".deq_scale", "has dtype ", weir::name(t.dtype()), "; F32 or I64 is allowed");
    std::vector<float> out;
    for (int64_t i = 0; i < count; ++i) out.push_back(std::bit_cast<float>(static_cast<uint32_t>(load<uint64_t>(t, i))));
    check_scales(".deq_scale", out);
    return out;
  }

  // The integer that a static scheme adds to its inputs.
  float offset(const char* part) {
    const Tensor t = take(part, 1);
    const float value = t.dtype() == DType::kI8    ? static_cast<float>(load<int8_t>(t, 0))
                        : t.dtype() == DType::kI32 ? static_cast<float>(load<int32_t>(t, 0))
                                                   : floats(part, 1)[0];
    if (!(std::abs(value) <= 128) || value != std::nearbyint(value)) bad(part, "holds ", value, "; an integer in [-128, 128] is allowed");
    return value;
  }

  std::vector<int32_t> ints(const char* part, int64_t count) {
    const Tensor t = take(part, count);
    if (t.dtype() != DType::kI32) bad(part, "has dtype ", weir::name(t.dtype()), "; I32 is allowed");
    std::vector<int32_t> out;
    for (int64_t i = 0; i < count; ++i) out.push_back(load<int32_t>(t, i));
    return out;
  }

  // Symmetric weights have offsets of zero only.
  void take_zeros(const char* part, int64_t count) {
    if (!has(part)) return;
    const std::vector<float> values = floats(part, count);
    const auto it = std::find_if(values.begin(), values.end(), [](float v) { return v != 0; });
    if (it != values.end()) bad(part, "holds ", *it, " for row ", it - values.begin(), "; weights are symmetric: only zeros are allowed");
  }

  // Tensors that some exports add and that say nothing more.
  void ignore(std::initializer_list<const char*> parts) {
    for (const char* part : parts)
      if (has(part)) reader_.ignore(stem_ + part);
  }

 private:
  template <class... Text>
  [[noreturn]] void bad(const char* part, const Text&... text) const {
    fail(ErrorCode::kInvalidArgument, "tensor ", shown(stem_ + part), " ", text...);
  }

  void check_scales(const char* part, const std::vector<float>& values) const {
    const auto it = std::find_if(values.begin(), values.end(), [](float v) { return !(v > 0) || std::isinf(v); });
    if (it != values.end()) bad(part, "holds ", *it, " for row ", it - values.begin(), "; a scale must be a finite number above zero");
  }

  WeightReader& reader_;
  std::string stem_;
};

std::vector<int32_t> offset_corrections(const Tensor& weight, float offset) {
  std::vector<int32_t> out;
  const int64_t rows = weight.dim(0), columns = weight.dim(1);
  for (int64_t r = 0; r < rows; ++r) {
    int64_t sum = 0;
    for (int64_t i = 0; i < columns; ++i) sum += load<int8_t>(weight, r * columns + i);
    out.push_back(static_cast<int32_t>(-static_cast<int64_t>(offset) * sum));  // at most 128 · 128 · kMaxInt8Columns: fits
  }
  return out;
}

void take_static(Parts& parts, StoredLinear& out, int64_t rows) {
  out.input.scale = parts.scales(".input_scale", 1)[0];
  if (parts.has(".deq_scale") || parts.has(".quant_bias")) {  // ascend
    out.input.offset = parts.offset(".input_offset");
    out.scale = parts.deq_scales(rows);
    out.bias = parts.ints(".quant_bias", rows);
    parts.ignore({".weight_scale", ".weight_offset"});
    return;
  }
  if (parts.has(".input_zero_point")) out.input.offset = parts.offset(".input_zero_point");
  out.scale = parts.scales(".weight_scale", rows);
  for (float& scale : out.scale) scale *= out.input.scale;
  out.bias = offset_corrections(out.weight, out.input.offset);
}

}  // namespace

std::vector<float> read_floats(const Tensor& t) {
  std::vector<float> out(static_cast<size_t>(t.numel()));
  for (int64_t i = 0; i < t.numel(); ++i) {
    float& value = out[static_cast<size_t>(i)];
    if (t.dtype() == DType::kF32)
      value = load<float>(t, i);
    else
      value = t.dtype() == DType::kBF16 ? bf16_to_f32(load<uint16_t>(t, i)) : f16_to_f32(load<uint16_t>(t, i));
  }
  return out;
}

int64_t int8_saving(const Checkpoint& checkpoint, DType compute, bool with_mtp) {
  int64_t saved = 0;
  for (const Checkpoint::Entry& entry : checkpoint.entries()) {
    const bool is_text = entry.name.starts_with("model.language_model.") || entry.name.starts_with("lm_head.");
    if (!is_text && !(with_mtp && entry.name.starts_with("mtp."))) continue;
    if (!entry.name.ends_with(kWeight) || entry.tensor.rank() != 2) continue;
    const LinearFormat format = checkpoint.format(entry.name);
    if (format != LinearFormat::kInt8Dynamic && format != LinearFormat::kInt8Static) continue;
    const int64_t n = entry.tensor.dim(0), k = entry.tensor.dim(1);
    saved += ops::PackedMatrix::packed_bytes(n, k, compute) - ops::PackedMatrix::packed_bytes(n, k, DType::kI8);
  }
  return saved;
}

StoredLinear StoredLinear::take(WeightReader& reader, const std::string& name, int64_t rows, int64_t columns) {
  WEIR_CHECK(name.ends_with(kWeight), name);
  StoredLinear out;
  out.name = name;
  out.weight = reader.take(name, Shape{rows, columns});
  out.format = reader.checkpoint().format(name);
  Parts parts(reader, name);
  switch (out.format) {
    case LinearFormat::kFloat: return out;
    case LinearFormat::kInt8Dynamic:
      out.scale = parts.scales(".weight_scale", rows);
      parts.take_zeros(".weight_offset", rows);
      parts.take_zeros(".weight_zero_point", rows);
      parts.ignore({".input_scale", ".input_offset", ".quant_bias", ".deq_scale"});  // of W8A8_MIX
      break;
    case LinearFormat::kInt8Static: take_static(parts, out, rows); break;
    case LinearFormat::kFp8Block: {
      const Quantization& how = reader.checkpoint().quantization();
      out.block_rows = how.block_rows();
      out.block_columns = how.block_columns();
      const std::string scale = name + "_scale_inv";
      out.block_scale =
          reader.take(scale, Shape{(rows + out.block_rows - 1) / out.block_rows, (columns + out.block_columns - 1) / out.block_columns});
      if (!is_float(out.block_scale.dtype()))
        fail(ErrorCode::kInvalidArgument, "tensor ", shown(scale), " has dtype ", weir::name(out.block_scale.dtype()),
             "; BF16 or F32 is allowed");
      for (const float value : read_floats(out.block_scale))
        if (!(value >= 0) || std::isinf(value))
          fail(ErrorCode::kInvalidArgument, "tensor ", shown(scale), " holds ", value, "; a scale must be a finite number, not negative");
      break;
    }
  }
  if (out.is_int8() && columns > ops::kMaxInt8Columns)
    fail(ErrorCode::kInvalidArgument, "tensor ", shown(name), " has ", columns, " columns; sums of int8 products are exact up to ",
         ops::kMaxInt8Columns);
  return out;
}

void StoredLinear::pack(ThreadPool& pool, ops::PackedMatrix& matrix, int64_t row) const {
  if (is_int8()) return matrix.pack_rows(pool, row, weight, {scale, bias});
  if (format == LinearFormat::kFloat) return matrix.pack_rows(pool, row, weight);
  // A million elements at a time, so that a large matrix does not exist twice.
  const int64_t step = std::max<int64_t>(1, (1 << 20) / std::max<int64_t>(1, weight.dim(1)));
  for (int64_t begin = 0; begin < weight.dim(0); begin += step)
    matrix.pack_rows(pool, row + begin, dequantised(begin, std::min(begin + step, weight.dim(0)), matrix.dtype()));
}

void StoredLinear::pack(ops::PackedMatrix& matrix, int64_t row) const {
  if (is_int8()) return matrix.pack_rows(row, weight, {scale, bias});
  matrix.pack_rows(row, format == LinearFormat::kFloat ? weight : dequantised(0, weight.dim(0), matrix.dtype()));
}

Tensor StoredLinear::dequantised(int64_t begin, int64_t end, DType type) const {
  const int64_t columns = weight.dim(1), blocks = block_scale.dim(1);
  const std::vector<float> factors = read_floats(block_scale);
  Tensor out = Tensor::zeros(Shape{end - begin, columns}, type);
  for (int64_t r = begin; r < end; ++r) {
    const float* factor = factors.data() + r / block_rows * blocks;
    for (int64_t c = 0; c < columns; ++c) {
      const float value = f8_values()[load<uint8_t>(weight, r * columns + c)] * factor[c / block_columns];
      const int64_t at = (r - begin) * columns + c;
      if (type == DType::kF32)
        out.data<float>()[at] = value;
      else
        out.data<uint16_t>()[at] = f32_to_bf16(value);
    }
  }
  return out;
}

}  // namespace weir
