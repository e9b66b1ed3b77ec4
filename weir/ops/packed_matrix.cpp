#include <algorithm>
#include <cstring>
#include <vector>

#include "weir/ops/linear_cpu.h"

namespace weir::ops {
namespace {

Shape storage_shape(int64_t n, int64_t k, DType type, WeightCoding coding) {
  return {num_tiles(n), tile_words(k, type, coding), 4 / element_size(type)};
}

// The steps that hold elements of rows.
int64_t sum_steps(int64_t k, DType type) { return num_steps(k, type) - (type == DType::kI8 ? weir::cpu::kInt8ExtraSteps : 0); }

// A file mapping has no alignment.
template <class T>
T load(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

float to_f32(const std::byte* p, DType type) {
  switch (type) {
    case DType::kBF16: return bf16_to_f32(load<uint16_t>(p));
    case DType::kF16: return f16_to_f32(load<uint16_t>(p));
    default: return load<float>(p);
  }
}

// One row's elements [k, k + count) as steps of the packed type.
void convert(const std::byte* source, DType from, DType to, int64_t count, uint32_t* steps) {
  if (from == to) {
    if (const int64_t per_step = 4 / element_size(to); count % per_step != 0) steps[count / per_step] = 0;
    std::memcpy(steps, source, static_cast<size_t>(count * element_size(from)));
    return;
  }
  const int64_t size = element_size(from);
  if (to == DType::kF32) {
    for (int64_t i = 0; i < count; ++i) steps[i] = std::bit_cast<uint32_t>(to_f32(source + i * size, from));
    return;
  }
  for (int64_t i = 0; i < count; i += 2) {
    const uint32_t first = f32_to_bf16(to_f32(source + i * size, from));
    const uint32_t second = i + 1 < count ? f32_to_bf16(to_f32(source + (i + 1) * size, from)) : 0;
    steps[i / 2] = first | (second << 16);
  }
}

struct Packing {
  uint32_t* storage;
  int64_t n, k, steps;
  DType type;
  WeightCoding coding;
  const std::byte* source;
  DType source_type;
  int64_t source_stride;  // bytes
  int64_t row;            // of the matrix, where source row 0 goes
  RowScales scales = {};  // of I8

  // Source rows [begin, end), all of one tile.
  void pack(int64_t begin, int64_t end) const {
    uint32_t* const tile = storage + (row + begin) / kTileColumns * tile_words(k, type, coding);
    if (coding == WeightCoding::kPlain) return pack_into(tile, begin, end);
    if (weir::cpu::is_lost_tile(tile)) return;
    thread_local std::vector<uint32_t> plain;
    plain.assign(static_cast<size_t>(steps * kTileColumns), 0);
    // Other rows of the tile may have been packed before.
    if (end - begin < std::min<int64_t>(kTileColumns, n) && weir::cpu::is_valid_tile(tile, steps))
      weir::cpu::decode_tile(tile, steps, plain.data());
    pack_into(plain.data(), begin, end);
    weir::cpu::encode_tile(plain.data(), steps, tile);
  }

  // A block of 16 rows x 64 steps is converted in L1 and then transposed: reading a column of rows that lie a power of two apart would
  // throw each line out of L1 before its next element is wanted.
  void pack_into(uint32_t* tile, int64_t begin, int64_t end) const {
    constexpr int64_t kBlock = 64;
    uint32_t block[kTileColumns][kBlock];
    const int64_t per_step = 4 / element_size(type);
    tile += (row + begin) % kTileColumns;
    const int64_t sums = sum_steps(k, type);
    for (int64_t s = 0; s < sums; s += kBlock) {
      const int64_t count = std::min(kBlock, sums - s), elements = std::min(count * per_step, k - s * per_step);
      for (int64_t r = begin; r < end; ++r)
        convert(source + r * source_stride + s * per_step * element_size(source_type), source_type, type, elements, block[r - begin]);
      for (int64_t i = 0; i < count; ++i)
        for (int64_t r = 0; r < end - begin; ++r) tile[(s + i) * kTileColumns + r] = block[r][i];
    }
    if (type == DType::kI8)
      for (int64_t r = begin; r < end; ++r) finish_row(r, tile + sums * kTileColumns + (r - begin));
  }

  // The correction and the scale of a row of I8, behind the steps of its tile. Unsigned: sums are modulo 2^32 in the kernels too.
  void finish_row(int64_t r, uint32_t* extra) const {
    const auto* values = reinterpret_cast<const int8_t*>(source + r * source_stride);
    uint32_t sum = 0;
    for (int64_t i = 0; i < k; ++i) sum += static_cast<uint32_t>(values[i]);
    const uint32_t bias = scales.bias.empty() ? 0 : static_cast<uint32_t>(scales.bias[static_cast<size_t>(r)]);
    extra[0] = bias - 128 * sum;
    extra[kTileColumns] = std::bit_cast<uint32_t>(scales.scale[static_cast<size_t>(r)]);
  }
};

// One column of a plain tile.
void unpack_row(const uint32_t* column, int64_t k, DType type, float* values) {
  for (int64_t i = 0; i < k; ++i) {
    if (type == DType::kF32) {
      values[i] = std::bit_cast<float>(column[i * kTileColumns]);
    } else {
      const uint32_t pair = column[i / 2 * kTileColumns];
      values[i] = bf16_to_f32(static_cast<uint16_t>(i % 2 == 0 ? pair : pair >> 16));
    }
  }
}

Packing prepare(const PackedMatrix& matrix, Tensor storage, int64_t row, const Tensor& source, const RowScales& scales) {
  WEIR_CHECK(source.rank() == 2 && source.dim(1) == matrix.k() && row >= 0 && row + source.dim(0) <= matrix.n(), "rows ",
             source.shape().str(), " at row ", row, " of [", matrix.n(), ", ", matrix.k(), "]");
  const DType from = source.dtype();
  if (matrix.dtype() == DType::kI8) {
    const auto rows = static_cast<size_t>(source.dim(0));
    WEIR_CHECK(from == DType::kI8 && scales.scale.size() == rows && (scales.bias.empty() || scales.bias.size() == rows), name(from), " ",
               source.shape().str(), " with ", scales.scale.size(), " scales and ", scales.bias.size(), " biases");
  } else {
    WEIR_CHECK(from == DType::kF32 || from == DType::kBF16 || from == DType::kF16, "cannot pack ", name(from));
  }
  return {static_cast<uint32_t*>(storage.raw()),
          matrix.n(),
          matrix.k(),
          num_steps(matrix.k(), matrix.dtype()),
          matrix.dtype(),
          matrix.coding(),
          static_cast<const std::byte*>(source.raw()),
          from,
          source.row_stride() * element_size(from),
          row,
          scales};
}

}  // namespace

PackedMatrix::PackedMatrix(int64_t n, int64_t k, DType type, InputScale input, WeightCoding coding)
    : n_(n), k_(k), type_(type), coding_(coding), input_(input) {
  WEIR_CHECK(type == DType::kBF16 || type == DType::kF32 || (type == DType::kI8 && k <= kMaxInt8Columns), "cannot hold ", name(type));
  WEIR_CHECK(n >= 0 && k >= 0, "[", n, ", ", k, "]");
  WEIR_CHECK(coding == WeightCoding::kPlain || (type == DType::kBF16 && num_steps(k, type) <= weir::cpu::kMaxCodedSteps), name(type),
             " of ", k, " columns");
  storage_ = Tensor::zeros(storage_shape(n, k, type, coding), type);
}

std::vector<PackedMatrix> PackedMatrix::many(int64_t count, int64_t n, int64_t k, DType type, WeightCoding coding) {
  WEIR_CHECK(count >= 0, count);
  std::vector<PackedMatrix> out;
  if (count == 0) return out;
  const PackedMatrix all(count * num_tiles(n) * kTileColumns, k, type, {}, coding);
  out.resize(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    PackedMatrix& matrix = out[static_cast<size_t>(i)];
    matrix.n_ = n;
    matrix.k_ = k;
    matrix.type_ = type;
    matrix.coding_ = coding;
    matrix.storage_ = all.storage_.rows(i * num_tiles(n), (i + 1) * num_tiles(n));
  }
  return out;
}

int64_t PackedMatrix::packed_bytes(int64_t n, int64_t k, DType type, WeightCoding coding) {
  return storage_shape(n, k, type, coding).numel() * element_size(type);
}

bool PackedMatrix::is_whole() const {
  if (coding_ == WeightCoding::kPlain) return true;
  for (int64_t t = 0; t < num_tiles(n_); ++t)
    if (!weir::cpu::is_valid_tile(tile(*this, t), num_steps(k_, type_))) return false;
  return true;
}

void PackedMatrix::pack_rows(ThreadPool& pool, int64_t row, const Tensor& source) { pack_rows(pool, row, source, {}); }

void PackedMatrix::pack_rows(int64_t row, const Tensor& source) { pack_rows(row, source, {}); }

void PackedMatrix::pack_rows(ThreadPool& pool, int64_t row, const Tensor& source, const RowScales& scales) {
  const Packing packing = prepare(*this, storage_, row, source, scales);
  const int64_t first = row / kTileColumns, tiles = ceil_div(row + source.dim(0), kTileColumns) - first;
  // At least 1 MiB of weights per thread: less is done before another thread wakes up.
  const int64_t tile_bytes = std::max<int64_t>(1, packing.steps * kTileColumns * 4);
  pool.parallel_for(tiles, std::max<int64_t>(1, (1 << 20) / tile_bytes), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = first + begin; t < first + end; ++t)
      packing.pack(std::max<int64_t>(0, t * kTileColumns - row), std::min(source.dim(0), (t + 1) * kTileColumns - row));
  });
}

void PackedMatrix::pack_rows(int64_t row, const Tensor& source, const RowScales& scales) {
  const Packing packing = prepare(*this, storage_, row, source, scales);
  for (int64_t begin = 0; begin < source.dim(0);) {
    const int64_t end = std::min(source.dim(0), begin + kTileColumns - (row + begin) % kTileColumns);
    packing.pack(begin, end);
    begin = end;
  }
}

Tensor PackedMatrix::unpack_rows(ThreadPool& pool, int64_t begin, int64_t end) const {
  WEIR_CHECK(type_ != DType::kI8 && begin >= 0 && begin <= end && end <= n_, "rows ", begin, " to ", end, " of ", n_, ", ", name(type_));
  Tensor out = Tensor::zeros(Shape{end - begin, k_}, DType::kF32);
  const int64_t steps = num_steps(k_, type_), first_tile = begin / kTileColumns;
  pool.parallel_for(num_tiles(end) - first_tile, 1, [&](int64_t first, int64_t last, int) {
    std::vector<uint32_t> plain(coding_ == WeightCoding::kPlain ? 0 : static_cast<size_t>(steps * kTileColumns));
    for (int64_t t = first_tile + first; t < first_tile + last; ++t) {
      const uint32_t* steps_of = tile(*this, t);
      if (coding_ != WeightCoding::kPlain) {
        weir::cpu::decode_tile(steps_of, steps, plain.data());
        steps_of = plain.data();
      }
      for (int64_t row = std::max(begin, t * kTileColumns); row < std::min(end, (t + 1) * kTileColumns); ++row)
        unpack_row(steps_of + row % kTileColumns, k_, type_, out.data<float>() + (row - begin) * k_);
    }
  });
  return out;
}

}  // namespace weir::ops
