#include "weir/nn/stored_linear.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "weir/base/error.h"
#include "weir/weights/names.h"
#include "weir/weights/quantize_rows.h"

namespace weir {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr float kLargestFp8 = 448;

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

// NaN would be the same garbage in every answer.
void check_fp8(const Tensor& weight, const std::string& name) {
  const auto* bits = static_cast<const uint8_t*>(weight.raw());
  uint8_t is_nan = 0;
  for (int64_t i = 0; i < weight.numel(); ++i) is_nan |= static_cast<uint8_t>((bits[i] & 0x7f) == 0x7f);
  if (is_nan != 0) fail(ErrorCode::kInvalidArgument, "tensor ", shown(name), " holds NaN");
}

void take_fp8(WeightReader& reader, StoredLinear& out, int64_t rows, int64_t columns, Fp8As fp8_as) {
  const Quantization& how = reader.checkpoint().quantization();
  out.fp8_as = fp8_as;
  out.block_rows = how.block_rows();
  out.block_columns = how.block_columns();
  const std::string scale = out.name + "_scale_inv";
  const Tensor factors =
      reader.take(scale, Shape{(rows + out.block_rows - 1) / out.block_rows, (columns + out.block_columns - 1) / out.block_columns});
  if (!is_float(factors.dtype()))
    fail(ErrorCode::kInvalidArgument, "tensor ", shown(scale), " has dtype ", weir::name(factors.dtype()), "; BF16 or F32 is allowed");
  out.block_scale = read_floats(factors);
  for (const float value : out.block_scale)
    if (!(value >= 0) || !std::isfinite(value * kLargestFp8))
      fail(ErrorCode::kInvalidArgument, "tensor ", shown(scale), " holds ", value, "; a scale must be a finite number, not negative");
  check_fp8(out.weight, out.name);
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

EightBitBytes eight_bit_bytes(const Checkpoint& checkpoint, DType compute, bool with_mtp, ops::WeightCoding coding) {
  EightBitBytes out;
  for (const Checkpoint::Entry& entry : checkpoint.entries()) {
    const bool is_text = entry.name.starts_with("model.language_model.") || entry.name.starts_with("lm_head.");
    if (!is_text && !(with_mtp && entry.name.starts_with("mtp."))) continue;
    if (!entry.name.ends_with(kWeight) || entry.tensor.rank() != 2) continue;
    const LinearFormat format = checkpoint.format(entry.name);
    if (format == LinearFormat::kFloat) continue;
    EightBitBytes::Kind& kind = format == LinearFormat::kFp8Block ? out.fp8 : out.int8;
    const int64_t n = entry.tensor.dim(0), k = entry.tensor.dim(1);
    kind.stored += entry.tensor.nbytes();
    kind.as_compute += ops::PackedMatrix::packed_bytes(n, k, compute, coding);
    kind.as_int8 += ops::PackedMatrix::packed_bytes(n, k, DType::kI8);
  }
  return out;
}

StoredLinear StoredLinear::take(WeightReader& reader, const std::string& name, int64_t rows, int64_t columns, Fp8As fp8_as) {
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
    case LinearFormat::kFp8Block: take_fp8(reader, out, rows, columns, fp8_as); break;
  }
  if (out.is_int8() && columns > ops::kMaxInt8Columns)
    fail(ErrorCode::kInvalidArgument, "tensor ", shown(name), " has ", columns, " columns; sums of int8 products are exact up to ",
         ops::kMaxInt8Columns);
  return out;
}

void StoredLinear::pack(ThreadPool& pool, ops::PackedMatrix& matrix, int64_t row) const {
  if (format == LinearFormat::kFloat) return matrix.pack_rows(pool, row, weight);
  if (format != LinearFormat::kFp8Block) return matrix.pack_rows(pool, row, weight, {scale, bias});
  const auto for_rows = [&](int64_t count, const auto& body) { pool.parallel_for(count, 16, body); };
  pack_fp8(matrix.dtype(), for_rows,
           [&](int64_t begin, const Tensor& rows, const ops::RowScales& scales) { matrix.pack_rows(pool, row + begin, rows, scales); });
}

void StoredLinear::pack(ops::PackedMatrix& matrix, int64_t row) const {
  if (format == LinearFormat::kFloat) return matrix.pack_rows(row, weight);
  if (format != LinearFormat::kFp8Block) return matrix.pack_rows(row, weight, {scale, bias});
  const auto for_rows = [](int64_t count, const auto& body) { body(0, count, 0); };
  pack_fp8(matrix.dtype(), for_rows,
           [&](int64_t begin, const Tensor& rows, const ops::RowScales& scales) { matrix.pack_rows(row + begin, rows, scales); });
}

// A million elements at a time, so that a large matrix does not exist twice.
template <class ForRows, class PackRows>
void StoredLinear::pack_fp8(DType type, const ForRows& for_rows, const PackRows& pack_rows) const {
  const int64_t columns = weight.dim(1), step = std::max<int64_t>(1, (1 << 20) / std::max<int64_t>(1, columns));
  for (int64_t first = 0; first < weight.dim(0); first += step) {
    const int64_t count = std::min(step, weight.dim(0) - first);
    Tensor out = Tensor::zeros(Shape{count, columns}, type);
    std::vector<float> scales(type == DType::kI8 ? static_cast<size_t>(count) : 0);
    for_rows(count, [&](int64_t begin, int64_t end, int) {
      std::vector<float> values(static_cast<size_t>(columns));
      for (int64_t r = begin; r < end; ++r) {
        read_fp8_row(first + r, values);
        switch (type) {
          case DType::kI8: quantize_row(values, out.data<int8_t>() + r * columns, scales[static_cast<size_t>(r)]); break;
          case DType::kF32: std::copy(values.begin(), values.end(), out.data<float>() + r * columns); break;
          default: std::transform(values.begin(), values.end(), out.data<uint16_t>() + r * columns, f32_to_bf16);
        }
      }
    });
    pack_rows(first, out, ops::RowScales{scales, {}});
  }
}

void StoredLinear::read_fp8_row(int64_t row, std::span<float> out) const {
  const auto columns = static_cast<int64_t>(out.size()), blocks = (columns + block_columns - 1) / block_columns;
  const float* factors = block_scale.data() + row / block_rows * blocks;
  for (int64_t b = 0; b < blocks; ++b)
    for (int64_t c = b * block_columns; c < std::min(columns, (b + 1) * block_columns); ++c)
      out[static_cast<size_t>(c)] = f8_values()[load<uint8_t>(weight, row * columns + c)] * factors[b];
}

}  // namespace weir
