#include "weir/tensor/file_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "weir/tensor/tensor.h"

namespace weir {
namespace {

constexpr size_t kHuge = size_t{2} << 20;

// A file of `bytes` that hold their own index modulo 251, and is gone with the object.
class CountingFile {
 public:
  explicit CountingFile(size_t bytes) : path_(std::filesystem::temp_directory_path() / ("weir-memory-" + std::to_string(::getpid()))) {
    std::string content(bytes, '\0');
    for (size_t i = 0; i < bytes; ++i) content[i] = static_cast<char>(value(i));
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    EXPECT_EQ(::write(fd_, content.data(), bytes), static_cast<ssize_t>(bytes));
  }
  ~CountingFile() {
    ::close(fd_);
    std::filesystem::remove(path_);
  }
  CountingFile(const CountingFile&) = delete;
  CountingFile& operator=(const CountingFile&) = delete;

  static uint8_t value(size_t i) { return static_cast<uint8_t>(i % 251); }
  int fd() const { return fd_; }

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

std::span<std::byte> bytes_of(Tensor& tensor) { return {static_cast<std::byte*>(tensor.raw()), static_cast<size_t>(tensor.nbytes())}; }

Tensor tensor_of(size_t bytes) { return Tensor::zeros(Shape{static_cast<int64_t>(bytes)}, DType::kU8); }

bool counts(std::span<const std::byte> bytes, size_t from) {
  for (size_t i = 0; i < bytes.size(); ++i)
    if (std::to_integer<uint8_t>(bytes[i]) != CountingFile::value(from + i)) return false;
  return true;
}

TEST(FileMemory, OnlyMemoryOfLargeTensorsCanBeMapped) {
  Tensor large = tensor_of(kHuge), small = tensor_of(kHuge - 1);
  EXPECT_TRUE(can_be_mapped(bytes_of(large)));
  EXPECT_FALSE(can_be_mapped(bytes_of(small)));
  EXPECT_FALSE(can_be_mapped(bytes_of(large).subspan(64)));
}

TEST(FileMemory, MappedMemoryHoldsTheFileAndIsNewAgainAfterwards) {
  const CountingFile file(3 * kHuge);
  for (const size_t bytes : {kHuge, kHuge + 1, 2 * kHuge + 4097}) {
    Tensor tensor = tensor_of(bytes);
    ASSERT_TRUE(map_file_over(bytes_of(tensor), file.fd(), 8192));
    EXPECT_TRUE(read_in(bytes_of(tensor)));
    EXPECT_TRUE(counts(bytes_of(tensor), 8192)) << bytes;
    make_anew(bytes_of(tensor));
    EXPECT_TRUE(std::all_of(bytes_of(tensor).begin(), bytes_of(tensor).end(), [](std::byte b) { return b == std::byte{0}; })) << bytes;
    std::memset(tensor.raw(), 1, bytes);
  }
}

TEST(FileMemory, PagesBehindTheEndOfTheFileAreAnErrorAndNoSignal) {
  const CountingFile file(kHuge);
  Tensor tensor = tensor_of(2 * kHuge);
  ASSERT_TRUE(map_file_over(bytes_of(tensor), file.fd(), 0));
  EXPECT_TRUE(read_in(bytes_of(tensor).first(kHuge)));
  EXPECT_FALSE(read_in(bytes_of(tensor).subspan(kHuge)));
}

TEST(FileMemory, AFileThatCannotBeMappedChangesNothing) {
  Tensor tensor = tensor_of(kHuge);
  EXPECT_FALSE(map_file_over(bytes_of(tensor), /*fd=*/-1, 0));
  std::memset(tensor.raw(), 1, kHuge);
}

// The mover's part of a start: engine threads read all the while.
TEST(FileMemory, ReadersNeverNoticeThatMemoryMoves) {
  constexpr size_t kBytes = 4 * kHuge + 12345;
  const CountingFile file(kBytes);
  Tensor tensor = tensor_of(kBytes);
  std::atomic<bool> done{false};
  std::atomic<int> wrong{0}, rounds{0};
  ASSERT_TRUE(map_file_over(bytes_of(tensor), file.fd(), 0));
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 2; ++reader)
    readers.emplace_back([&] {
      do {
        if (!counts(bytes_of(tensor), 0)) ++wrong;
        ++rounds;
      } while (!done);
    });
  for (int round = 0; round < 20; ++round) {
    for (size_t at = 0; at < kBytes; at += kHuge)
      EXPECT_TRUE(copy_in_place(bytes_of(tensor).subspan(at, std::min(kHuge, kBytes - at))));  // of the file, then of the last copy
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0) << "of " << rounds;
  ASSERT_EQ(::ftruncate(file.fd(), 0), 0);
  EXPECT_TRUE(counts(bytes_of(tensor), 0)) << "nothing is the file's any more";
}

}  // namespace
}  // namespace weir
