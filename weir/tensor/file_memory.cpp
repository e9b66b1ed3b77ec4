#include "weir/tensor/file_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "weir/base/check.h"
#include "weir/base/error.h"
#include "weir/tensor/huge_pages.h"

namespace weir {
namespace {

constexpr size_t kPage = 4096;

size_t whole_pages(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

bool begins_a_huge_page(std::span<const std::byte> memory) { return reinterpret_cast<uintptr_t>(memory.data()) % kHugePage == 0; }

}  // namespace

bool can_be_mapped(std::span<const std::byte> memory) { return memory.size() >= kHugePage && begins_a_huge_page(memory); }

bool map_file_over(std::span<std::byte> memory, int fd, uint64_t offset) {
  WEIR_CHECK(can_be_mapped(memory) && offset % kPage == 0, memory.size(), " bytes at ", offset);
  if (::mmap(memory.data(), memory.size(), PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, static_cast<off_t>(offset)) != MAP_FAILED) return true;
  make_anew(memory);
  return false;
}

bool read_in(std::span<std::byte> part) {
  int result = 0;
  do {
    result = ::madvise(part.data(), whole_pages(part.size()), MADV_POPULATE_READ);
  } while (result != 0 && errno == EINTR);
  return result == 0;
}

void make_anew(std::span<std::byte> memory) {
  if (map_huge_pages(memory.data(), whole_huge_pages(memory.size())) == nullptr)
    fail(ErrorCode::kResourceExhausted, "cannot map ", memory.size(), " bytes of memory");
}

bool copy_in_place(std::span<std::byte> memory) {
  WEIR_CHECK(begins_a_huge_page(memory), memory.size(), " bytes");
  const size_t bytes = whole_huge_pages(memory.size());
  void* copy = map_huge_pages(nullptr, bytes);
  if (copy == nullptr) return false;
  std::memcpy(copy, memory.data(), memory.size());
  ::mprotect(copy, bytes, PROT_READ);
  // One call of the kernel takes the file's pages out and moves these in; whoever touches the memory in between waits for it.
  if (::mremap(copy, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, memory.data()) != MAP_FAILED) return true;
  ::munmap(copy, bytes);
  return false;
}

}  // namespace weir
