#include "weir/weights/safetensors.h"

#include <fcntl.h>
#include <simdjson.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "weir/base/error.h"
#include "weir/weights/names.h"

namespace weir {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the format's own library
constexpr size_t kMaxHeaderDepth = 8;              // header -> tensor -> shape is 3
constexpr size_t kMaxNameBytes = 1024;
constexpr std::array kDTypes = {DType::kF32, DType::kBF16, DType::kF16, DType::kF8E4M3, DType::kI64, DType::kI32, DType::kI8, DType::kU8};

uint64_t read_u64_le(const std::byte* p) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | std::to_integer<uint64_t>(p[i]);
  return value;
}

// Names the tensor in every error of its fields.
struct TensorParser {
  std::string_view where;
  std::string_view name;
  uint64_t data_begin = 0, data_bytes = 0;

  template <class... Parts>
  [[noreturn]] void bad(const Parts&... parts) const {
    fail(ErrorCode::kInvalidArgument, where, ": tensor '", name, "': ", parts...);
  }

  DType dtype(simdjson::dom::element value) const {
    std::string_view text;
    if (value.get(text) != simdjson::SUCCESS) bad("\"dtype\" must be a string");
    for (const DType type : kDTypes) {
      if (text == weir::name(type)) return type;
    }
    bad("dtype ", shown(text), " is not supported (F32, BF16, F16, F8_E4M3, I64, I32, I8, U8)");
  }

  Shape shape(simdjson::dom::element value) const {
    simdjson::dom::array array;
    if (value.get(array) != simdjson::SUCCESS) bad("\"shape\" must be an array");
    if (array.size() > Shape::kMaxRank) bad("\"shape\" has ", array.size(), " dimensions, at most ", Shape::kMaxRank, " are supported");
    std::vector<int64_t> dims;
    // Zeros are left out of the product: views multiply the dimensions after the first, so those must not overflow either.
    int64_t product = 1;
    for (const simdjson::dom::element dim : array) {
      int64_t n = 0;
      if (dim.get(n) != simdjson::SUCCESS || n < 0) bad("\"shape\" must hold integers >= 0 below 2^63");
      if (__builtin_mul_overflow(product, std::max<int64_t>(n, 1), &product) || product > INT64_MAX / 8)
        bad("\"shape\" has more than 2^60 elements");
      dims.push_back(n);
    }
    return Shape(std::span<const int64_t>(dims));
  }

  std::pair<uint64_t, uint64_t> offsets(simdjson::dom::element value) const {
    simdjson::dom::array array;
    if (value.get(array) != simdjson::SUCCESS || array.size() != 2) bad("\"data_offsets\" must be an array of two integers");
    std::array<uint64_t, 2> at{};
    size_t i = 0;
    for (const simdjson::dom::element offset : array) {
      if (offset.get(at[i++]) != simdjson::SUCCESS) bad("\"data_offsets\" must be an array of two integers >= 0");
    }
    if (at[0] > at[1]) bad("\"data_offsets\" [", at[0], ", ", at[1], "] end before they begin");
    if (at[1] > data_bytes)
      bad("\"data_offsets\" [", at[0], ", ", at[1], "] leave the file, which holds ", data_bytes, " bytes of data (truncated?)");
    return {at[0], at[1]};
  }

  TensorHeader parse(simdjson::dom::element value) const {
    simdjson::dom::object fields;
    if (value.get(fields) != simdjson::SUCCESS) bad("its entry must be an object");
    std::optional<DType> type;
    std::optional<Shape> dims;
    std::optional<std::pair<uint64_t, uint64_t>> range;
    for (const auto [key, field] : fields) {
      const auto once = [&](const auto& target) {
        if (target) bad("field \"", key, "\" occurs twice");
      };
      if (key == "dtype")
        once(type), type = dtype(field);
      else if (key == "shape")
        once(dims), dims = shape(field);
      else if (key == "data_offsets")
        once(range), range = offsets(field);
      else
        bad("unknown field ", shown(key));
    }
    if (!type) bad("field \"dtype\" is missing");
    if (!dims) bad("field \"shape\" is missing");
    if (!range) bad("field \"data_offsets\" is missing");
    const auto want = static_cast<uint64_t>(dims->numel() * element_size(*type));
    if (range->second - range->first != want)
      bad("shape ", dims->str(), " of ", weir::name(*type), " needs ", want, " bytes, \"data_offsets\" give ",
          range->second - range->first);
    return {std::string(name), *type, *dims, data_begin + range->first, data_begin + range->second};
  }
};

bool printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f; });
}

void expect_distinct_names(const std::vector<TensorHeader>& tensors, std::string_view where) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorHeader& t : tensors) names.push_back(t.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) fail(ErrorCode::kInvalidArgument, where, ": tensor '", *twice, "' occurs twice in the header");
}

void expect_disjoint(const std::vector<TensorHeader>& tensors, std::string_view where) {
  std::vector<const TensorHeader*> by_begin;
  for (const TensorHeader& t : tensors) {
    if (t.begin != t.end) by_begin.push_back(&t);
  }
  std::sort(by_begin.begin(), by_begin.end(), [](const auto* a, const auto* b) { return a->begin < b->begin; });
  for (size_t i = 1; i < by_begin.size(); ++i) {
    if (by_begin[i]->begin < by_begin[i - 1]->end)
      fail(ErrorCode::kInvalidArgument, where, ": tensors '", by_begin[i - 1]->name, "' and '", by_begin[i]->name, "' overlap in the file");
  }
}

}  // namespace

std::vector<TensorHeader> parse_safetensors(std::span<const std::byte> file, std::string_view where) {
  if (file.size() < 8) fail(ErrorCode::kInvalidArgument, where, ": ", file.size(), " bytes are too few for a safetensors file");
  const uint64_t header_bytes = read_u64_le(file.data());
  if (header_bytes > kMaxHeaderBytes)
    fail(ErrorCode::kInvalidArgument, where, ": header length ", header_bytes, " is above ", kMaxHeaderBytes, "; not a safetensors file?");
  if (header_bytes > file.size() - 8)
    fail(ErrorCode::kInvalidArgument, where, ": header length ", header_bytes, " leaves the file of ", file.size(), " bytes (truncated?)");
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, header_bytes);

  simdjson::dom::parser parser;
  if (const auto error = parser.allocate(std::max<size_t>(text.size(), 64), kMaxHeaderDepth); error)
    fail(ErrorCode::kResourceExhausted, where, ": cannot parse a header of ", text.size(), " bytes: ", simdjson::error_message(error));
  simdjson::dom::element root;
  if (const auto error = parser.parse(simdjson::padded_string(text)).get(root); error)
    fail(ErrorCode::kInvalidArgument, where, ": header is not valid JSON: ", simdjson::error_message(error));
  simdjson::dom::object entries;
  if (root.get(entries) != simdjson::SUCCESS) fail(ErrorCode::kInvalidArgument, where, ": header must be a JSON object");

  std::vector<TensorHeader> tensors;
  for (const auto [key, value] : entries) {
    if (key == "__metadata__") continue;
    if (key.empty() || key.size() > kMaxNameBytes || !printable(key))
      fail(ErrorCode::kInvalidArgument, where, ": a tensor name must have 1 to ", kMaxNameBytes, " bytes and no control characters");
    tensors.push_back(TensorParser{where, key, 8 + header_bytes, file.size() - 8 - header_bytes}.parse(value));
  }
  expect_distinct_names(tensors, where);
  expect_disjoint(tensors, where);
  return tensors;
}

MappedFile map_file(const std::string& path) {
  // O_NONBLOCK: opening a FIFO must not hang; it has no effect on regular files.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail(ErrorCode::kNotFound, "cannot open ", path, ": ", std::strerror(errno));
  struct stat info{};
  const bool regular = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  if (!regular || info.st_size <= 0) {
    ::close(fd);
    fail(ErrorCode::kInvalidArgument, path, regular ? ": the file is empty" : ": not a regular file");
  }
  const auto size = static_cast<size_t>(info.st_size);
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int map_error = errno;
  ::close(fd);
  if (data == MAP_FAILED) fail(ErrorCode::kResourceExhausted, "cannot map ", path, " (", size, " bytes): ", std::strerror(map_error));
  // A load walks each tensor once, front to back.
  ::madvise(data, size, MADV_SEQUENTIAL);
  return {{static_cast<const std::byte*>(data), size},
          std::shared_ptr<const void>(data, [size](const void* p) { ::munmap(const_cast<void*>(p), size); })};
}

void release_pages(const Tensor& mapped) {
  constexpr uintptr_t kPage = 4096;
  auto* bytes = static_cast<std::byte*>(const_cast<void*>(mapped.raw()));
  const auto begin = reinterpret_cast<uintptr_t>(bytes), end = begin + static_cast<uintptr_t>(mapped.nbytes());
  const uintptr_t first = (begin + kPage - 1) / kPage * kPage, last = end / kPage * kPage;
  if (first < last) ::madvise(bytes + (first - begin), last - first, MADV_DONTNEED);
}

}  // namespace weir
