// Memory in pages of 2 MiB, where the system has them. Of this module only.
#pragma once

#include <cstddef>

namespace weir {

inline constexpr size_t kHugePage = size_t{2} << 20;

// The system gives no huge page to a part of one: what was mapped short would end in hundreds of small ones, several times slower to read.
constexpr size_t whole_huge_pages(size_t bytes) { return (bytes + kHugePage - 1) / kHugePage * kHugePage; }

// `bytes`, whole huge pages, of zero memory, not yet touched: at `address` (replacing what is mapped there) or, when that is nullptr, where
// there is room. nullptr: there is none. Given back by munmap() of exactly these bytes.
void* map_huge_pages(void* address, size_t bytes);

}  // namespace weir
