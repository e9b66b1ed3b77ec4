#include "weir/tensor/huge_pages.h"

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

namespace weir {

void* map_huge_pages(void* address, size_t bytes) {
  constexpr int kKind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  if (address != nullptr) {
    if (::mmap(address, bytes, PROT_READ | PROT_WRITE, kKind | MAP_FIXED, -1, 0) == MAP_FAILED) return nullptr;
  } else {
    // More than is needed, of which the aligned part stays.
    void* base = ::mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, kKind, -1, 0);
    if (base == MAP_FAILED) return nullptr;
    auto* const first = static_cast<std::byte*>(base);
    const size_t before = -reinterpret_cast<uintptr_t>(base) % kHugePage;
    if (before > 0) ::munmap(first, before);
    if (before < kHugePage) ::munmap(first + before + bytes, kHugePage - before);
    address = first + before;
  }
  ::madvise(address, bytes, MADV_HUGEPAGE);
  return address;
}

}  // namespace weir
