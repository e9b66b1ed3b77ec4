#include "weir/tensor/huge_pages.h"

#include <sys/mman.h>

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
    const auto first = reinterpret_cast<uintptr_t>(base), aligned = (first + kHugePage - 1) / kHugePage * kHugePage;
    const uintptr_t last = first + bytes + kHugePage, end = (aligned + bytes + 4095) / 4096 * 4096;
    if (aligned > first) ::munmap(base, aligned - first);
    if (last > end) ::munmap(reinterpret_cast<void*>(end), last - end);
    address = reinterpret_cast<void*>(aligned);
  }
  ::madvise(address, bytes, MADV_HUGEPAGE);
  return address;
}

}  // namespace weir
