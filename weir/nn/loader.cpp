#include "weir/nn/loader.h"

#include <algorithm>
#include <cstring>

#include "weir/base/error.h"
#include "weir/weights/names.h"
#include "weir/weights/quantize_rows.h"
#include "weir/weights/safetensors.h"

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
  if (reader_.checkpoint().format(name) != LinearFormat::kFloat)
    fail(ErrorCode::kInvalidArgument, "not built: tensor ", shown(name), " has dtype ", weir::name(t.dtype()),
         "; weir loads it as F32, BF16 or F16 only");
  return t;
}

void Loader::done(const Tensor& source) {
  release_pages(source);
  if (progress_) progress_(source.nbytes());
}

template <class Fill>
void Loader::cached(const std::string& name, std::span<std::byte> bytes, const Fill& fill) {
  if (packed_cache_ != nullptr && packed_cache_->read(pool_, name, bytes)) return;
  fill();
  if (packed_cache_ != nullptr) packed_cache_->keep(pool_, name, bytes);
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
  const auto convert = [&](int64_t begin, int64_t end, int) {
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
  };
  cached(concat(name, ", a table of ", weir::name(compute_)), {static_cast<std::byte*>(out.raw()), static_cast<size_t>(out.nbytes())},
         [&] { pool_.parallel_for(rows, 64, convert); });
  done(source);
  return out;
}

namespace {

// Whether two matrices can be rows of one: of one type, with inputs that are rounded alike.
bool alike(const StoredLinear& a, const StoredLinear& b) {
  return a.is_int8() == b.is_int8() && a.input.scale == b.input.scale && a.input.offset == b.input.offset;
}

const char* described(const StoredLinear& linear) {
  switch (linear.format) {
    case LinearFormat::kInt8Dynamic: return "int8 with dynamic inputs";
    case LinearFormat::kInt8Static: return "int8 with an input_scale";
    case LinearFormat::kFp8Block: return linear.is_int8() ? "fp8 as int8" : "fp8 as float";
    case LinearFormat::kFloat: break;
  }
  return "float";
}

void expect_alike(const StoredLinear& a, const StoredLinear& b) {
  if (alike(a, b)) return;
  fail(ErrorCode::kInvalidArgument, "tensors ", shown(a.name), " (", described(a), ", ", a.input.scale, ") and ", shown(b.name), " (",
       described(b), ", ", b.input.scale, ") must be quantised alike, with one input_scale: they are computed together");
}

// Experts of a layer lie in one allocation; static scales may differ.
void expect_same_type(const StoredLinear& a, const StoredLinear& b) {
  if (a.is_int8() == b.is_int8()) return;
  fail(ErrorCode::kInvalidArgument, "tensors ", shown(a.name), " (", described(a), ") and ", shown(b.name), " (", described(b),
       ") must be of one type: the experts of a layer are");
}

}  // namespace

namespace {

// In the packed cache: what the matrix begins with and what it is.
std::string packed_name(const std::string& first, const ops::PackedMatrix& matrix, ops::WeightCoding coding) {
  const char* suffix = coding == ops::WeightCoding::kPlain ? "" : " in 12 bits";
  return concat(first, ", ", matrix.n(), " x ", matrix.k(), " of ", name(matrix.dtype()), suffix);
}

bool are_whole(const std::vector<ops::PackedMatrix>& matrices) {
  return std::all_of(matrices.begin(), matrices.end(), [](const ops::PackedMatrix& matrix) { return matrix.is_whole(); });
}

}  // namespace

template <class Make, class Fill>
std::vector<ops::PackedMatrix> Loader::coded(const std::string& name, DType type, const Make& make, const Fill& fill) {
  const auto plain = ops::WeightCoding::kPlain;
  std::vector<ops::PackedMatrix> out = make(type == DType::kBF16 ? coding_ : plain);
  const auto bytes = [&] { return ops::PackedMatrix::bytes(out); };
  if (out.front().coding() != plain) {
    const std::string key = packed_name(name, out.front(), coding_);
    // A start that could not code it has kept it plain. Only what is used is read: mapped memory must stay.
    if (packed_cache_ == nullptr || !packed_cache_->has(packed_name(name, out.front(), plain))) {
      if (packed_cache_ != nullptr && packed_cache_->read(pool_, key, bytes())) {
        if (are_whole(out)) return out;
        fail(ErrorCode::kInvalidArgument, "--packed-cache: ", packed_cache_->path(), " has weights that weir did not write; remove it");
      }
      fill(out);
      if (are_whole(out)) {
        if (packed_cache_ != nullptr) packed_cache_->keep(pool_, key, bytes());
        return out;
      }
    }
    ++num_not_coded_;
    out = make(plain);
  }
  cached(packed_name(name, out.front(), plain), bytes(), [&] { fill(out); });
  return out;
}

ops::PackedMatrix Loader::pack(std::span<const StoredLinear> stack) {
  int64_t rows = 0;
  for (const StoredLinear& part : stack) rows += part.weight.dim(0);
  const StoredLinear& first = stack.front();
  const DType type = first.packed_type(compute_);
  const auto make = [&](ops::WeightCoding coding) {
    return std::vector{ops::PackedMatrix(rows, first.weight.dim(1), type, first.input, coding)};
  };
  const auto fill = [&](std::vector<ops::PackedMatrix>& out) {
    int64_t row = 0;
    for (const StoredLinear& part : stack) {
      part.pack(pool_, out.front(), row);
      release_pages(part.weight);
      row += part.weight.dim(0);
    }
  };
  ops::PackedMatrix out = coded(first.name, type, make, fill).front();
  for (const StoredLinear& part : stack) done(part.weight);
  return out;
}

ops::PackedMatrix Loader::matrix(const std::vector<Part>& parts, int64_t columns) {
  std::vector<StoredLinear> stack;
  for (const Part& part : parts) {
    stack.push_back(StoredLinear::take(reader_, part.name, part.rows, columns, fp8_as_));
    expect_alike(stack.front(), stack.back());
  }
  return pack(stack);
}

std::vector<ops::PackedMatrix> Loader::matrices(const std::vector<Part>& parts, int64_t columns) {
  std::vector<StoredLinear> all;
  for (const Part& part : parts) all.push_back(StoredLinear::take(reader_, part.name, part.rows, columns, fp8_as_));
  std::vector<ops::PackedMatrix> out;
  for (size_t begin = 0, end = 0; begin < all.size(); begin = end) {
    while (end < all.size() && alike(all[begin], all[end])) ++end;
    out.push_back(pack(std::span(all).subspan(begin, end - begin)));
  }
  return out;
}

ops::PackedMatrix Loader::matrix(const Tensor& table) {
  const auto make = [&](ops::WeightCoding coding) {
    return std::vector{ops::PackedMatrix(table.dim(0), table.dim(1), compute_, {}, coding)};
  };
  const auto fill = [&](std::vector<ops::PackedMatrix>& out) { out.front().pack_rows(pool_, 0, table); };
  return coded("the table as a head", compute_, make, fill).front();
}

ops::PackedMatrix Loader::rounded(const std::string& name, const ops::PackedMatrix& matrix) {
  constexpr int64_t kBlockBytes = int64_t{16} << 20;  // of rows as F32, so that few of them exist at a time
  const int64_t n = matrix.n(), k = matrix.k(), block = std::max<int64_t>(1, kBlockBytes / (4 * k));
  ops::PackedMatrix out(n, k, DType::kI8);
  cached(packed_name(name + " rounded", out, ops::WeightCoding::kPlain), out.bytes(), [&] {
    std::vector<float> scales(static_cast<size_t>(block));
    const Tensor values = Tensor::zeros(Shape{block, k}, DType::kI8);
    for (int64_t begin = 0; begin < n; begin += block) {
      const int64_t rows = std::min(block, n - begin);
      const Tensor q = values.rows(0, rows);
      const std::span scale = std::span(scales).first(static_cast<size_t>(rows));
      try {
        quantize_rows(pool_, matrix.unpack_rows(pool_, begin, begin + rows), begin,
                      {static_cast<int8_t*>(const_cast<void*>(q.raw())), static_cast<size_t>(q.numel())}, scale);
      } catch (const Error& error) {
        fail(error.code, "tensor ", shown(name), ": ", error.what());
      }
      out.pack_rows(pool_, begin, q, {.scale = scale, .bias = {}});
    }
  });
  return out;
}

void Loader::experts(const std::string& prefix, int64_t count, int64_t hidden, int64_t intermediate, ops::ExpertWeights& out) {
  // Sources are taken first (errors belong on this thread), then packed with one expert per thread.
  struct Source {
    std::vector<StoredLinear> gate_up, down;  // stacked by rows
  };
  std::vector<Source> sources(static_cast<size_t>(count));
  std::vector<Tensor> taken;
  if (reader_.has(prefix + "gate_up_proj")) {
    const Tensor gate_up = take(prefix + "gate_up_proj", Shape{count, 2 * intermediate, hidden});
    const Tensor down = take(prefix + "down_proj", Shape{count, hidden, intermediate});
    for (int64_t e = 0; e < count; ++e) sources[static_cast<size_t>(e)] = {{{.weight = gate_up[e]}}, {{.weight = down[e]}}};
    taken = {gate_up, down};
  } else {
    for (int64_t e = 0; e < count; ++e) {
      const std::string stem = prefix + std::to_string(e) + ".";
      const auto linear = [&](const char* name, int64_t rows, int64_t columns) {
        StoredLinear stored = StoredLinear::take(reader_, stem + name, rows, columns, fp8_as_);
        taken.push_back(stored.weight);
        return stored;
      };
      Source& s = sources[static_cast<size_t>(e)];
      if (reader_.has(stem + "gate_up_proj.weight")) {
        s.gate_up.push_back(linear("gate_up_proj.weight", 2 * intermediate, hidden));
      } else {
        s.gate_up.push_back(linear("gate_proj.weight", intermediate, hidden));
        s.gate_up.push_back(linear("up_proj.weight", intermediate, hidden));
        expect_alike(s.gate_up[0], s.gate_up[1]);
      }
      s.down.push_back(linear("down_proj.weight", hidden, intermediate));
      expect_same_type(sources.front().gate_up.front(), s.gate_up.front());
      expect_same_type(sources.front().down.front(), s.down.front());
    }
  }
  const auto pack = [&](const char* what, std::vector<StoredLinear> Source::* stack, int64_t n, int64_t k) {
    const DType type = (sources.front().*stack).front().packed_type(compute_);
    const auto make = [&](ops::WeightCoding coding) { return ops::PackedMatrix::many(count, n, k, type, coding); };
    const auto fill = [&](std::vector<ops::PackedMatrix>& matrices) {
      // In runs of experts, as the threads will compute them when all are chosen.
      pool_.parallel_for(count, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t e = begin; e < end; ++e) {
          int64_t row = 0;
          for (const StoredLinear& part : sources[static_cast<size_t>(e)].*stack) {
            part.pack(matrices[static_cast<size_t>(e)], row);
            release_pages(part.weight);
            row += part.weight.dim(0);
          }
        }
      });
    };
    std::vector<ops::PackedMatrix> matrices = coded(concat(prefix, what, " of ", count), type, make, fill);
    for (size_t e = 0; e < matrices.size(); ++e) matrices[e].set_input_scale((sources[e].*stack).front().input);
    return matrices;
  };
  out.gate_up = pack("gate_up", &Source::gate_up, 2 * intermediate, hidden);
  out.down = pack("down", &Source::down, hidden, intermediate);
  for (const Tensor& t : taken) done(t);
}

}  // namespace weir
