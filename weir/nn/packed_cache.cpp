#include "weir/nn/packed_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iomanip>
#include <optional>
#include <sstream>

#include "weir/base/error.h"
#include "weir/base/json.h"
#include "weir/base/log.h"
#include "weir/kernels/cpu/isa.h"
#include "weir/tensor/file_memory.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kVersion = 1;
constexpr std::array<char, 8> kMagic = {'W', 'E', 'I', 'R', 'P', 'A', 'C', 'K'};
constexpr uint64_t kAlignment = 4096;
constexpr uint64_t kPiece = uint64_t{4} << 20;
constexpr uint64_t kMostIndexBytes = uint64_t{1} << 28;
constexpr uint64_t kMostHeaderBytes = uint64_t{100} << 20;  // of a safetensors file, as its loader allows

struct Trailer {
  std::array<char, 8> magic = kMagic;
  uint64_t version = kVersion, index_offset = 0, index_bytes = 0, index_checksum = 0, file_bytes = 0;
};

// Four lanes of multiply-xor over 64-bit words: as fast as memory is read, when it is asked for in advance, beyond the page of 4 KiB at
// which the hardware stops (4.7 GB/s without, 10.3 with it). It finds accidents, not forgeries; whoever can write here can write the model
// as well.
uint64_t checksum(std::span<const std::byte> bytes) {
  constexpr uint64_t kFactor = 0x9e3779b97f4a7c15u;
  constexpr size_t kAhead = 4096;
  std::array<uint64_t, 4> lanes = {1, 2, 3, 4};
  const auto mix = [](uint64_t h, uint64_t word) {
    h = (h ^ word) * kFactor;
    return h ^ (h >> 29);
  };
  size_t at = 0;
  for (; at + 32 <= bytes.size(); at += 32) {
    __builtin_prefetch(bytes.data() + std::min(at + kAhead, bytes.size() - 1));
    std::array<uint64_t, 4> words;
    std::memcpy(words.data(), bytes.data() + at, 32);
    for (size_t i = 0; i < 4; ++i) lanes[i] = mix(lanes[i], words[i]);
  }
  for (; at < bytes.size(); ++at) lanes[at % 4] = mix(lanes[at % 4], std::to_integer<uint64_t>(bytes[at]));
  uint64_t out = bytes.size();
  for (const uint64_t lane : lanes) out = mix(out, lane);
  return out;
}

uint64_t checksum(const std::string& text) { return checksum(std::as_bytes(std::span(text))); }

std::string hex(uint64_t value) {
  std::ostringstream out;
  out << std::hex << std::setw(16) << std::setfill('0') << value;
  return out.str();
}

bool read_at(int fd, uint64_t offset, void* to, uint64_t bytes) {
  for (auto* p = static_cast<char*>(to); bytes > 0;) {
    const ssize_t got = ::pread(fd, p, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    p += got, offset += static_cast<uint64_t>(got), bytes -= static_cast<uint64_t>(got);
  }
  return true;
}

bool write_at(int fd, uint64_t offset, const void* from, uint64_t bytes) {
  for (const auto* p = static_cast<const char*>(from); bytes > 0;) {
    const ssize_t put = ::pwrite(fd, p, bytes, static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    p += put, offset += static_cast<uint64_t>(put), bytes -= static_cast<uint64_t>(put);
  }
  return true;
}

// The header of a safetensors file: the length in front of it, and so many bytes. Of a file that is none, what there is.
std::string header_hash(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(ErrorCode::kNotFound, "cannot open ", path.string(), ": ", std::strerror(errno));
  uint64_t length = 0;
  std::string text;
  if (read_at(fd, 0, &length, sizeof length)) {
    text.resize(std::min(length, kMostHeaderBytes));
    if (!read_at(fd, sizeof length, text.data(), text.size())) text.clear();
  }
  ::close(fd);
  return hex(checksum(text) ^ length);
}

// Everything that the packed weights were made of, as text.
std::string facts_of(const std::string& model_dir, const std::string& variant) {
  std::vector<std::string> files;
  for (const auto& file : fs::directory_iterator(model_dir)) {
    if (file.path().extension() != ".safetensors") continue;
    files.push_back(concat(file.path().filename().string(), " ", file.file_size(), " ", file.last_write_time().time_since_epoch().count(),
                           " ", header_hash(file.path()), "\n"));
  }
  std::sort(files.begin(), files.end());
  std::string out = concat("format ", kVersion, "\nisa ", cpu::name(cpu::active_isa()), "\nvariant ", variant, "\nconfig.json ",
                           hex(checksum(read_file(model_dir + "/config.json"))), "\n");
  const std::string description = model_dir + "/quant_model_description.json";
  if (fs::exists(description)) out += concat("quant_model_description.json ", hex(checksum(read_file(description))), "\n");
  for (const std::string& file : files) out += file;
  return out;
}

// The index as bytes, and back; nullopt when they end early or go on.
class Writer {
 public:
  void number(uint64_t value) { out_.append(reinterpret_cast<const char*>(&value), sizeof value); }
  void text(const std::string& value) {
    number(value.size());
    out_ += value;
  }
  const std::string& bytes() const { return out_; }

 private:
  std::string out_;
};

class Reader {
 public:
  explicit Reader(const std::string& bytes) : bytes_(bytes) {}
  uint64_t number() {
    uint64_t value = 0;
    if (bytes_.size() - at_ < sizeof value) return fail_number();
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::string text() {
    const uint64_t length = number();
    if (bytes_.size() - at_ < length) return fail_number(), std::string();
    at_ += length;
    return bytes_.substr(at_ - length, length);
  }
  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && at_ == bytes_.size(); }

 private:
  uint64_t fail_number() {
    ok_ = false;
    at_ = bytes_.size();
    return 0;
  }
  const std::string& bytes_;
  size_t at_ = 0;
  bool ok_ = true;
};

constexpr uint64_t pieces_of(uint64_t bytes) { return (bytes + kPiece - 1) / kPiece; }

// Files that a process which is no more has not finished: nobody holds their lock.
void remove_abandoned(const fs::path& path) {
  const std::string prefix = path.filename().string() + ".partial-";
  std::error_code error;
  for (const auto& file : fs::directory_iterator(path.parent_path(), error)) {
    if (!file.path().filename().string().starts_with(prefix)) continue;
    const int fd = ::open(file.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) fs::remove(file.path(), error);
    ::close(fd);
  }
}

}  // namespace

struct PackedCache::File {
  int fd = -1;
  ~File() {
    if (fd >= 0) ::close(fd);
  }
};

PackedCache::PackedCache(const std::string& dir, const std::string& model_dir, const std::string& variant, Large large) : large_(large) {
  std::error_code error;
  fs::create_directories(dir, error);
  if (!fs::is_directory(dir, error)) fail(ErrorCode::kInvalidArgument, "--packed-cache ", dir, " is no directory and cannot be made one");
  facts_ = facts_of(model_dir, variant);
  // One file for all states of a model directory: an older one is replaced, not kept.
  const fs::path model = fs::canonical(model_dir);
  const std::string identity = concat(model.string(), "\n", cpu::name(cpu::active_isa()), "\n", variant);
  path_ = (fs::path(dir) / (model.filename().string() + "-" + hex(checksum(identity)) + ".weirpack")).string();
  open();
  if (!reading_) start_writing();
}

PackedCache::~PackedCache() {
  if (writing_) ::unlink(partial_path_.c_str());
}

void PackedCache::open() {
  file_ = std::make_unique<File>();
  file_->fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (file_->fd < 0) {
    if (errno != ENOENT) log_warning("--packed-cache: cannot open ", path_, ": ", std::strerror(errno));
    return;
  }
  const auto unusable = [&](const char* why) { log_warning("--packed-cache: ", path_, " is not used and will be written anew: ", why); };
  struct stat status{};
  Trailer trailer;
  if (::fstat(file_->fd, &status) != 0 || !S_ISREG(status.st_mode)) return unusable("it is no file");
  const auto size = static_cast<uint64_t>(status.st_size);
  if (size < sizeof trailer || !read_at(file_->fd, size - sizeof trailer, &trailer, sizeof trailer) || trailer.magic != kMagic)
    return unusable("it does not end as such a file does");
  if (trailer.version != kVersion) return unusable("it is of another version");
  if (trailer.file_bytes != size || trailer.index_bytes > kMostIndexBytes || trailer.index_offset > size - sizeof trailer ||
      trailer.index_bytes != size - sizeof trailer - trailer.index_offset)
    return unusable("its sizes are wrong");
  std::string index(trailer.index_bytes, '\0');
  if (!read_at(file_->fd, trailer.index_offset, index.data(), index.size()) || checksum(index) != trailer.index_checksum)
    return unusable("its index is damaged");

  Reader reader(index);
  if (reader.text() != facts_) {
    log_info("--packed-cache: the model has changed since ", path_, " was written; it will be written anew");
    return;
  }
  for (uint64_t left = reader.number(); left > 0 && reader.ok(); --left) {
    const std::string key = reader.text();
    Entry entry{reader.number(), reader.number(), {}};
    if (!reader.ok() || entry.offset > trailer.index_offset || entry.bytes > trailer.index_offset - entry.offset)
      return entries_.clear(), unusable("its index is damaged");
    for (uint64_t piece = 0; piece < pieces_of(entry.bytes) && reader.ok(); ++piece) entry.checksums.push_back(reader.number());
    entries_[key] = std::move(entry);
  }
  if (!reader.at_end()) return entries_.clear(), unusable("its index is damaged");
  reading_ = true;
}

bool PackedCache::read(ThreadPool& pool, const std::string& key, std::span<std::byte> to) {
  if (!reading_) return false;
  const auto found = entries_.find(key);
  if (found == entries_.end() || found->second.bytes != to.size()) {
    give_up_reading("it lacks " + key);
    return false;
  }
  const Entry& entry = found->second;
  const bool mapped = large_ == Large::kMap && can_be_mapped(to) && map_file_over(to, file_->fd, entry.offset);
  std::atomic<bool> good{true};
  // In runs, so that each thread touches first what it will read later (base/placement.h).
  pool.parallel_for(static_cast<int64_t>(entry.checksums.size()), 1, [&](int64_t first, int64_t last, int) {
    for (auto piece = static_cast<size_t>(first); piece < static_cast<size_t>(last); ++piece) {
      const std::span<std::byte> part = to.subspan(piece * kPiece, std::min<size_t>(kPiece, to.size() - piece * kPiece));
      const bool there = mapped ? read_in(part) : read_at(file_->fd, entry.offset + piece * kPiece, part.data(), part.size());
      if (!there || checksum(part) != entry.checksums[piece]) good = false;
    }
  });
  if (!good) {
    if (mapped) make_anew(to);
    give_up_reading(key + " is damaged");
  } else if (mapped) {
    mapped_.push_back(to);
  }
  return good;
}

void PackedCache::give_up_reading(const std::string& why) {
  log_warning("--packed-cache: ", path_, ": ", why, "; the rest is read from the checkpoint, and the next start writes the file anew");
  reading_ = false;
  ::unlink(path_.c_str());
}

void PackedCache::start_writing() {
  remove_abandoned(path_);
  partial_path_ = concat(path_, ".partial-", ::getpid(), "-", hex(reinterpret_cast<uintptr_t>(this)));
  file_ = std::make_unique<File>();
  file_->fd = ::open(partial_path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file_->fd < 0 || ::flock(file_->fd, LOCK_EX | LOCK_NB) != 0) {
    log_warning("--packed-cache: cannot write to ", partial_path_, ": ", std::strerror(errno), "; nothing is kept for the next start");
    return;
  }
  writing_ = true;
}

void PackedCache::keep(ThreadPool& pool, const std::string& key, std::span<const std::byte> from) {
  if (!writing_) return;
  Entry entry{written_, from.size(), std::vector<uint64_t>(pieces_of(from.size()))};
  std::atomic<int> error{0};
  pool.parallel_items(static_cast<int64_t>(entry.checksums.size()), [&](int64_t piece, int) {
    const uint64_t begin = static_cast<uint64_t>(piece) * kPiece;
    const std::span<const std::byte> part = from.subspan(begin, std::min(kPiece, from.size() - begin));
    entry.checksums[static_cast<size_t>(piece)] = checksum(part);
    if (!write_at(file_->fd, entry.offset + begin, part.data(), part.size())) error = errno;
  });
  if (error != 0) return give_up_writing(std::strerror(error));
  written_ += (from.size() + kAlignment - 1) / kAlignment * kAlignment;
  entries_[key] = std::move(entry);
}

void PackedCache::give_up_writing(const std::string& why) {
  log_warning("--packed-cache: cannot write ", partial_path_, ": ", why, "; nothing is kept for the next start");
  ::unlink(partial_path_.c_str());
  writing_ = false;
  file_ = std::make_unique<File>();
}

void PackedCache::finish() {
  if (!writing_) return;
  Writer index;
  index.text(facts_);
  index.number(entries_.size());
  for (const auto& [key, entry] : entries_) {
    index.text(key);
    index.number(entry.offset);
    index.number(entry.bytes);
    for (const uint64_t sum : entry.checksums) index.number(sum);
  }
  const std::string& bytes = index.bytes();
  const Trailer trailer{.index_offset = written_,
                        .index_bytes = bytes.size(),
                        .index_checksum = checksum(bytes),
                        .file_bytes = written_ + bytes.size() + sizeof(Trailer)};
  const int fd = file_->fd;
  // Not waiting for the disk: what a crash leaves half-written, the checksums find.
  if (!write_at(fd, written_, bytes.data(), bytes.size()) || !write_at(fd, written_ + bytes.size(), &trailer, sizeof trailer) ||
      ::rename(partial_path_.c_str(), path_.c_str()) != 0)
    return give_up_writing(std::strerror(errno));
  writing_ = false;
  log_info("--packed-cache: packed weights are kept in ", path_, " (", (trailer.file_bytes >> 20), " MiB) for the next start");
}

}  // namespace weir
