#include "weir/runtime/tier_store.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <random>
#include <utility>

#include "weir/base/check.h"
#include "weir/base/error.h"
#include "weir/base/log.h"

namespace weir {
namespace {

constexpr uint32_t kMagic = 0x31544557;  // "WET1"
constexpr int kLevel = 1;                // zstd: as fast as the disk
constexpr int64_t kLargestSegment = int64_t{256} << 20;
constexpr int64_t kMostWaiting = int64_t{256} << 20;  // bytes of saves, beyond one entry

// What lies before the content of an entry in a segment.
struct RecordHeader {
  uint32_t magic = kMagic;
  uint8_t kind = 0, has_before = 0;
  uint16_t reserved = 0;
  PageKey key, before;
  std::array<Token, kPageTokens> tokens{};
  int64_t length = 0;  // of the content as it lies in the file
  uint64_t checksum = 0;
};
static_assert(sizeof(RecordHeader) == 8 + 32 + 64 + 16 && std::has_unique_object_representations_v<RecordHeader>);

uint64_t checksum_of(RecordHeader header) {
  header.checksum = 0;
  std::array<uint64_t, sizeof(RecordHeader) / 8> words;
  std::memcpy(words.data(), &header, sizeof(header));
  uint64_t sum = 0x9e3779b97f4a7c15u;
  for (const uint64_t word : words) {
    sum = (sum ^ word) * 0xff51afd7ed558ccdu;
    sum ^= sum >> 32;
  }
  return sum;
}

RecordHeader header_of(const TierLabel& label, int64_t length) {
  RecordHeader header;
  header.kind = static_cast<uint8_t>(label.kind);
  header.key = label.key;
  if (label.before) header.has_before = 1, header.before = *label.before;
  header.tokens = label.tokens;
  header.length = length;
  header.checksum = checksum_of(header);
  return header;
}

std::optional<TierLabel> label_of(const RecordHeader& header) {
  if (header.magic != kMagic || header.checksum != checksum_of(header) || header.kind > 1 || header.has_before > 1) return std::nullopt;
  TierLabel label{static_cast<TierLabel::Kind>(header.kind), header.key, header.tokens, std::nullopt};
  if (header.has_before) label.before = header.before;
  return label;
}

// The first bytes of all numbers, then the second ones, …: signs and exponents, which are alike, come together.
void gather_bytes(std::span<const std::byte> in, int64_t element, std::byte* out) {
  const int64_t count = static_cast<int64_t>(in.size()) / element;
  for (int64_t byte = 0; byte < element; ++byte)
    for (int64_t i = 0; i < count; ++i) out[byte * count + i] = in[static_cast<size_t>(i * element + byte)];
}
void scatter_bytes(std::span<const std::byte> in, int64_t element, std::byte* out) {
  const int64_t count = static_cast<int64_t>(in.size()) / element;
  for (int64_t byte = 0; byte < element; ++byte)
    for (int64_t i = 0; i < count; ++i) out[i * element + byte] = in[static_cast<size_t>(byte * count + i)];
}

bool write_all(int file, const void* data, int64_t size, int64_t offset) {
  const char* from = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t done = pwrite(file, from, static_cast<size_t>(size), offset);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    from += done, offset += done, size -= done;
  }
  return true;
}

bool read_all(int file, void* data, int64_t size, int64_t offset) {
  char* to = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t done = pread(file, to, static_cast<size_t>(size), offset);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    to += done, offset += done, size -= done;
  }
  return true;
}

uint64_t random_number() {
  std::random_device device;
  return static_cast<uint64_t>(device()) << 32 | device();
}

std::string segment_name(uint64_t number) {
  std::string digits = std::to_string(number);
  return "segment-" + std::string(12 - std::min<size_t>(12, digits.size()), '0') + digits;
}

}  // namespace

TierStore::TierStore(TierConfig config) : config_(std::move(config)) {
  const int64_t largest = std::max(config_.page_bytes, config_.state_bytes);
  if (config_.capacity < 4 * largest)
    fail(ErrorCode::kInvalidArgument, "--kv-offload-size must be at least ", 4 * largest, " bytes (four delta-net states), got ",
         config_.capacity);
  segment_bytes_ = std::clamp(config_.capacity / 8, largest, std::max(largest, kLargestSegment));
  secret_ = random_number();
  if (!config_.dir.empty()) open_directory();
  thread_ = std::thread([this] { run(); });
}

TierStore::~TierStore() {
  {
    const std::lock_guard lock(mu_);
    closed_ = true;
  }
  changed_.notify_all();
  thread_.join();
  for (const Segment& segment : segments_) close(segment.file);
  if (lock_ >= 0) close(lock_);
}

void TierStore::open_directory() {
  const auto refuse = [&](const std::string& what) { fail(ErrorCode::kUnavailable, "--kv-offload-dir ", config_.dir, ": ", what); };
  folder_ = config_.keep ? config_.dir + "/" + config_.fingerprint : config_.dir;
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (error) refuse(error.message());
  if (!config_.keep) return;

  const std::string lock_path = folder_ + "/lock";
  lock_ = open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock_ < 0) refuse(concat(lock_path, ": ", std::strerror(errno)));
  if (flock(lock_, LOCK_EX | LOCK_NB) != 0) refuse("another server with this model keeps its cache there; give each its own directory");
  uint64_t secret = 0;
  if (read_all(lock_, &secret, sizeof(secret), 0))
    secret_ = secret;
  else if (!write_all(lock_, &secret_, sizeof(secret_), 0))
    refuse(concat(lock_path, ": ", std::strerror(errno)));

  std::vector<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(folder_, error))
    if (file.path().filename().string().starts_with("segment-")) names.push_back(file.path().filename().string());
  if (error) refuse(error.message());
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) read_segment(folder_ + "/" + name);
  // They keep their order under new numbers.
  for (size_t i = 0; i < segments_.size(); ++i) {
    const std::string path = folder_ + "/" + segment_name(i);
    if (path == segments_[i].path) continue;
    if (std::rename(segments_[i].path.c_str(), path.c_str()) != 0) refuse(concat(segments_[i].path, ": ", std::strerror(errno)));
    segments_[i].path = path;
  }
  while (bytes_used_ > config_.capacity - segment_bytes_ && !segments_.empty()) drop_segment();
  std::erase_if(found_, [&](const TierEntry& entry) { return !places_.contains(entry.id); });
  events_ = {};
}

// Takes over the records of a segment up to the first one that is not whole.
void TierStore::read_segment(const std::string& path) {
  Segment segment{.file = open(path.c_str(), O_RDWR | O_CLOEXEC), .path = path, .size = 0, .entries = {}};
  struct stat status{};
  if (segment.file < 0 || fstat(segment.file, &status) != 0) {
    log_warning("--kv-offload-dir: ", path, " is left alone: ", std::strerror(errno));
    if (segment.file >= 0) close(segment.file);
    return;
  }
  RecordHeader header;
  while (segment.size + static_cast<int64_t>(sizeof(header)) <= status.st_size &&
         read_all(segment.file, &header, sizeof(header), segment.size)) {
    const auto label = label_of(header);
    const int64_t room = status.st_size - segment.size - static_cast<int64_t>(sizeof(header));
    if (!label || header.length <= 0 || header.length > room) break;
    if (header.length > static_cast<int64_t>(ZSTD_compressBound(static_cast<size_t>(raw_bytes(*label))))) break;
    const TierId id{found_.size()};
    const int64_t length = static_cast<int64_t>(sizeof(header)) + header.length;
    places_[id] = {segments_.size(), segment.size, length, *label};
    found_.push_back({id, *label});
    segment.entries.push_back(id);
    segment.size += length;
  }
  if (segment.size < status.st_size && ftruncate(segment.file, segment.size) != 0)
    log_warning("--kv-offload-dir: ", path, ": ", std::strerror(errno));
  bytes_used_ += segment.size;
  segments_.push_back(std::move(segment));
}

int64_t TierStore::raw_bytes(const TierLabel& label) const {
  return label.kind == TierLabel::Kind::kPage ? config_.page_bytes : config_.state_bytes;
}

void TierStore::save(const TierEntry& entry, std::vector<std::byte> bytes, bool must) {
  WEIR_CHECK(static_cast<int64_t>(bytes.size()) == raw_bytes(entry.label), bytes.size(), " bytes");
  std::unique_lock lock(mu_);
  if (must) changed_.wait(lock, [&] { return waiting_bytes_ < kMostWaiting; });
  if (waiting_bytes_ >= kMostWaiting) {
    events_.lost.push_back(entry.id);
    return;
  }
  waiting_bytes_ += static_cast<int64_t>(bytes.size());
  jobs_.push_back(Save{entry, std::move(bytes)});
  lock.unlock();
  changed_.notify_all();
}

void TierStore::fetch(TierId id) {
  {
    const std::lock_guard lock(mu_);
    jobs_.push_back(Fetch{id});
    ++fetches_under_way_;
  }
  changed_.notify_all();
}

void TierStore::drop_fetched() {
  const std::lock_guard lock(mu_);
  fetched_.clear();
}

void TierStore::forget_all() {
  {
    const std::lock_guard lock(mu_);
    fetched_.clear();
    jobs_.push_back(ForgetAll{});
  }
  changed_.notify_all();
}

std::optional<std::vector<std::byte>> TierStore::take(TierId id) {
  const std::lock_guard lock(mu_);
  const auto found = fetched_.find(id);
  if (found == fetched_.end()) return std::nullopt;
  std::optional<std::vector<std::byte>> bytes = std::move(found->second);
  fetched_.erase(found);
  return bytes;
}

TierEvents TierStore::events(bool wait) {
  std::unique_lock lock(mu_);
  if (wait) changed_.wait(lock, [&] { return !events_.fetched.empty() || !events_.lost.empty() || fetches_under_way_ == 0; });
  TierEvents out = std::exchange(events_, {});
  out.bytes_used = bytes_used_;
  return out;
}

void TierStore::run() {
  pthread_setname_np(pthread_self(), "weir-tier");
  std::unique_lock lock(mu_);
  for (;;) {
    changed_.wait(lock, [&] { return closed_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    if (const Save* save = std::get_if<Save>(&job)) {
      write(*save);
      lock.lock();
      waiting_bytes_ -= static_cast<int64_t>(save->bytes.size());
    } else if (const Fetch* fetch = std::get_if<Fetch>(&job)) {
      auto bytes = read(fetch->id);
      if (!bytes) places_.erase(fetch->id);
      lock.lock();
      --fetches_under_way_;
      if (bytes) {
        fetched_[fetch->id] = std::move(*bytes);
        events_.fetched.push_back(fetch->id);
      } else {
        events_.lost.push_back(fetch->id);
      }
    } else {
      while (!segments_.empty()) drop_segment();
      lock.lock();
      fetched_.clear();
    }
    changed_.notify_all();
  }
}

void TierStore::write(const Save& save) {
  const int64_t element = save.entry.label.kind == TierLabel::Kind::kPage ? config_.page_element : config_.state_element;
  std::vector<std::byte> sorted(save.bytes.size());
  gather_bytes(save.bytes, element, sorted.data());
  std::vector<std::byte> record(sizeof(RecordHeader) + ZSTD_compressBound(sorted.size()));
  ZSTD_CCtx* const context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, kLevel);
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  const size_t length =
      ZSTD_compress2(context, record.data() + sizeof(RecordHeader), record.size() - sizeof(RecordHeader), sorted.data(), sorted.size());
  ZSTD_freeCCtx(context);
  WEIR_CHECK(!ZSTD_isError(length), ZSTD_getErrorName(length));
  const RecordHeader header = header_of(save.entry.label, static_cast<int64_t>(length));
  std::memcpy(record.data(), &header, sizeof(header));
  const auto size = static_cast<int64_t>(sizeof(header) + length);

  if (segments_.empty() || segments_.back().size + size > segment_bytes_) new_segment();
  if (segments_.empty()) return lose(save.entry.id);
  Segment& segment = segments_.back();
  if (!write_all(segment.file, record.data(), size, segment.size)) {
    if (!std::exchange(disk_is_full_, true))
      log_warning("second tier: ", std::strerror(errno), "; what does not fit is forgotten (--kv-offload-dir, --kv-offload-size)");
    return lose(save.entry.id);
  }
  places_[save.entry.id] = {first_segment_ + segments_.size() - 1, segment.size, size, save.entry.label};
  segment.entries.push_back(save.entry.id);
  segment.size += size;
  const std::lock_guard lock(mu_);
  bytes_used_ += size;
}

std::optional<std::vector<std::byte>> TierStore::read(TierId id) const {
  const auto found = places_.find(id);
  if (found == places_.end()) return std::nullopt;
  const Place& place = found->second;
  std::vector<std::byte> record(static_cast<size_t>(place.length));
  RecordHeader header;
  if (!read_all(segments_[place.segment - first_segment_].file, record.data(), place.length, place.offset)) return std::nullopt;
  std::memcpy(&header, record.data(), sizeof(header));
  if (label_of(header) != place.label || header.length != place.length - static_cast<int64_t>(sizeof(header))) return std::nullopt;
  std::vector<std::byte> sorted(static_cast<size_t>(raw_bytes(place.label)));
  const size_t length = ZSTD_decompress(sorted.data(), sorted.size(), record.data() + sizeof(header), record.size() - sizeof(header));
  if (ZSTD_isError(length) || length != sorted.size()) {
    log_warning("second tier: a damaged entry is forgotten: ", ZSTD_isError(length) ? ZSTD_getErrorName(length) : "wrong size");
    return std::nullopt;
  }
  std::vector<std::byte> bytes(sorted.size());
  scatter_bytes(sorted, place.label.kind == TierLabel::Kind::kPage ? config_.page_element : config_.state_element, bytes.data());
  return bytes;
}

// Leaves segments_ as it is, or empty, when there is no room for a file.
void TierStore::new_segment() {
  while (!segments_.empty() && static_cast<int64_t>(segments_.size() + 1) * segment_bytes_ > config_.capacity) drop_segment();
  Segment segment;
  if (config_.dir.empty()) {
    segment.file = memfd_create("weir-tier", MFD_CLOEXEC);
  } else if (config_.keep) {
    segment.path = folder_ + "/" + segment_name(first_segment_ + segments_.size());
    segment.file = open(segment.path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  } else {
    std::string name = folder_ + "/weir-tier-XXXXXX";
    segment.file = mkostemp(name.data(), O_CLOEXEC);
    if (segment.file >= 0) unlink(name.c_str());
  }
  if (segment.file < 0) {
    log_warning("second tier: no new segment: ", std::strerror(errno));
    while (!segments_.empty()) drop_segment();
    return;
  }
  segments_.push_back(std::move(segment));
}

void TierStore::drop_segment() {
  Segment& oldest = segments_.front();
  for (const TierId id : oldest.entries)
    if (places_.erase(id) > 0) lose(id);
  close(oldest.file);
  if (!oldest.path.empty()) unlink(oldest.path.c_str());
  {
    const std::lock_guard lock(mu_);
    bytes_used_ -= oldest.size;
  }
  segments_.pop_front();
  ++first_segment_;
}

void TierStore::lose(TierId id) {
  const std::lock_guard lock(mu_);
  events_.lost.push_back(id);
}

}  // namespace weir
