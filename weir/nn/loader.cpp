#include "weir/nn/loader.h"

#include <sys/mman.h>

#include <cstring>

#include "weir/base/error.h"

namespace weir {
namespace {

// Element i of a float tensor that may lie at any address.
float load_float(const std::byte* data, DType type, int64_t i) {
  if (type == DType::kF32) {
    float value;
    std::memcpy(&value, data + 4 * i, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, data + 2 * i, sizeof(bits));
  return type == DType::kBF16 ? bf16_to_f32(bits) : f16_to_f32(bits);
}

const std::byte* bytes_of(const Tensor& t) { return static_cast<const std::byte*>(t.raw()); }

}  // namespace

Tensor Loader::take(const std::string& name, const Shape& shape) {
  Tensor t = reader_.take(name, shape);
  const DType type = t.dtype();
  if (type != DType::kF32 && type != DType::kBF16 && type != DType::kF16)
    fail(ErrorCode::kInvalidArgument, "not built: tensor ", name, " has dtype ", weir::name(type),
         "; weir loads F32, BF16 and F16 (quantised checkpoints are a later issue)");
  return t;
}

void Loader::done(const Tensor& source) {
  // Whole pages inside the range only: a neighbour's bytes on the edge pages stay cached. The pages are clean, so this drops memory, not
  // data.
  constexpr uintptr_t kPage = 4096;
  const auto begin = reinterpret_cast<uintptr_t>(source.raw()), end = begin + static_cast<uintptr_t>(source.nbytes());
  const uintptr_t first = (begin + kPage - 1) / kPage * kPage, last = end / kPage * kPage;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
  if (progress_) progress_(source.nbytes());
}

Tensor Loader::vector(const std::string& name, int64_t size, float offset) {
  const Tensor source = take(name, Shape{size});
  Tensor out = Tensor::zeros(Shape{size}, DType::kF32);
  for (int64_t i = 0; i < size; ++i) out.data<float>()[i] = load_float(bytes_of(source), source.dtype(), i) + offset;
  done(source);
  return out;
}

Tensor Loader::conv(const std::string& name, int64_t channels, int64_t kernel) {
  const Tensor source = take(name, Shape{channels, 1, kernel});
  Tensor out = Tensor::zeros(Shape{kernel, channels}, DType::kF32);
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t j = 0; j < kernel; ++j) out.data<float>()[j * channels + c] = load_float(bytes_of(source), source.dtype(), c * kernel + j);
  done(source);
  return out;
}

Tensor Loader::table(const std::string& name, int64_t rows, int64_t columns) {
  const Tensor source = take(name, Shape{rows, columns});
  Tensor out = Tensor::zeros(Shape{rows, columns}, compute_);
  pool_.parallel_for(rows, 64, [&](int64_t begin, int64_t end, int) {
    if (source.dtype() == compute_) {
      const int64_t row_bytes = columns * element_size(compute_);
      std::memcpy(static_cast<std::byte*>(out.raw()) + begin * row_bytes, bytes_of(source) + begin * row_bytes,
                  static_cast<size_t>((end - begin) * row_bytes));
      return;
    }
    for (int64_t i = begin * columns; i < end * columns; ++i) {
      const float value = load_float(bytes_of(source), source.dtype(), i);
      if (compute_ == DType::kF32)
        out.data<float>()[i] = value;
      else
        out.data<uint16_t>()[i] = f32_to_bf16(value);
    }
  });
  done(source);
  return out;
}

ops::PackedMatrix Loader::matrix(const std::vector<Part>& parts, int64_t columns) {
  int64_t rows = 0;
  for (const Part& part : parts) rows += part.rows;
  ops::PackedMatrix out(rows, columns, compute_);
  int64_t row = 0;
  for (const Part& part : parts) {
    const Tensor source = take(part.name, Shape{part.rows, columns});
    out.pack_rows(pool_, row, source);
    done(source);
    row += part.rows;
  }
  return out;
}

ops::PackedMatrix Loader::matrix(const Tensor& table) {
  ops::PackedMatrix out(table.dim(0), table.dim(1), compute_);
  out.pack_rows(pool_, 0, table);
  return out;
}

void Loader::experts(const std::string& prefix, int64_t count, int64_t hidden, int64_t intermediate, ops::ExpertWeights& out) {
  // Sources are taken first (errors belong on this thread), then packed with one expert per thread.
  struct Source {
    std::vector<Tensor> gate_up, down;  // stacked by rows
  };
  std::vector<Source> sources(static_cast<size_t>(count));
  std::vector<Tensor> taken;
  if (reader_.has(prefix + "gate_up_proj")) {
    const Tensor gate_up = take(prefix + "gate_up_proj", Shape{count, 2 * intermediate, hidden});
    const Tensor down = take(prefix + "down_proj", Shape{count, hidden, intermediate});
    for (int64_t e = 0; e < count; ++e) sources[static_cast<size_t>(e)] = {{gate_up[e]}, {down[e]}};
    taken = {gate_up, down};
  } else {
    for (int64_t e = 0; e < count; ++e) {
      const std::string stem = prefix + std::to_string(e) + ".";
      Source& s = sources[static_cast<size_t>(e)];
      if (reader_.has(stem + "gate_up_proj.weight")) {
        s.gate_up = {take(stem + "gate_up_proj.weight", Shape{2 * intermediate, hidden})};
      } else {
        s.gate_up = {take(stem + "gate_proj.weight", Shape{intermediate, hidden}),
                     take(stem + "up_proj.weight", Shape{intermediate, hidden})};
      }
      s.down = {take(stem + "down_proj.weight", Shape{hidden, intermediate})};
      taken.insert(taken.end(), s.gate_up.begin(), s.gate_up.end());
      taken.push_back(s.down.front());
    }
  }
  out.gate_up = ops::PackedMatrix::many(count, 2 * intermediate, hidden, compute_);
  out.down = ops::PackedMatrix::many(count, hidden, intermediate, compute_);
  pool_.parallel_items(count, [&](int64_t e, int) {
    const auto pack = [](const std::vector<Tensor>& stack, ops::PackedMatrix& matrix) {
      int64_t row = 0;
      for (const Tensor& part : stack) {
        matrix.pack_rows(row, part);
        row += part.dim(0);
      }
    };
    const Source& s = sources[static_cast<size_t>(e)];
    pack(s.gate_up, out.gate_up[static_cast<size_t>(e)]);
    pack(s.down, out.down[static_cast<size_t>(e)]);
  });
  for (const Tensor& t : taken) done(t);
}

}  // namespace weir
