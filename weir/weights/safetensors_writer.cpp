#include "weir/weights/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <numeric>

#include "weir/base/error.h"
#include "weir/base/json.h"

namespace weir {
namespace {

int64_t total_bytes(const std::vector<TensorPlan>& tensors) {
  return std::accumulate(tensors.begin(), tensors.end(), int64_t{0}, [](int64_t sum, const TensorPlan& t) { return sum + t.nbytes(); });
}

// Length, JSON and padding: data begins at a multiple of 8, as the format's own library writes it.
std::string header_of(const std::vector<TensorPlan>& tensors) {
  std::string text = R"({"__metadata__":{"format":"pt"})";
  int64_t begin = 0;
  for (const TensorPlan& t : tensors) {
    Json shape = Json::array();
    for (int i = 0; i < t.shape.rank(); ++i) shape.push_back(t.shape[i]);
    const Json entry = {{"dtype", name(t.dtype)}, {"shape", shape}, {"data_offsets", {begin, begin + t.nbytes()}}};
    text += "," + dump_json(Json(t.name)) + ":" + dump_json(entry);
    begin += t.nbytes();
  }
  text += "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(text.size() >> (8 * i) & 0xff);
  return out + text;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::string path, const std::vector<TensorPlan>& tensors)
    : path_(std::move(path)), partial_(path_ + ".partial"), left_(total_bytes(tensors)), out_(partial_, std::ios::binary) {
  const std::string header = header_of(tensors);
  out_.write(header.data(), static_cast<std::streamsize>(header.size()));
  if (!out_) fail(ErrorCode::kUnavailable, "cannot write ", partial_, ": ", std::strerror(errno));
}

SafetensorsWriter::~SafetensorsWriter() {
  if (!out_.is_open()) return;
  out_.close();
  std::error_code ignored;
  std::filesystem::remove(partial_, ignored);
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  left_ -= static_cast<int64_t>(bytes.size());
  WEIR_CHECK(left_ >= 0, path_, ": ", -left_, " bytes more than planned");
  out_.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!out_) fail(ErrorCode::kUnavailable, "cannot write ", partial_, ": ", std::strerror(errno));
}

void SafetensorsWriter::finish() {
  WEIR_CHECK(left_ == 0, path_, ": ", left_, " bytes fewer than planned");
  out_.flush();
  // The name must not reach the disk before the bytes do.
  const int file = ::open(partial_.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = file >= 0 && ::fsync(file) == 0;
  const int error = errno;
  if (file >= 0) ::close(file);
  if (!out_ || !synced) fail(ErrorCode::kUnavailable, "cannot write ", partial_, ": ", std::strerror(error));
  out_.close();
  std::filesystem::rename(partial_, path_);
}

bool SafetensorsWriter::is_written(const std::string& path, const std::vector<TensorPlan>& tensors) {
  const std::string header = header_of(tensors);
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error || size != header.size() + static_cast<uint64_t>(total_bytes(tensors))) return false;
  std::string found(header.size(), '\0');
  std::ifstream in(path, std::ios::binary);
  return in.read(found.data(), static_cast<std::streamsize>(found.size())) && found == header;
}

}  // namespace weir
