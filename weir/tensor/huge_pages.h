// Memory in pages of 2 MiB, where the system has them. Of this module only.
#pragma once

#include <cstddef>

namespace weir {

inline constexpr size_t kHugePage = size_t{2} << 20;

// `bytes` of zero memory, not yet touched, that begins at a multiple of kHugePage: at `address` (replacing what is mapped there) or, when
// that is nullptr, where there is room. nullptr: there is none. Given back by munmap() of exactly these bytes.
void* map_huge_pages(void* address, size_t bytes);

}  // namespace weir
