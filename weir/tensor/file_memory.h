// Memory of a large tensor that is a file's for a while: its contents are there at once, without a copy, and move into memory of their own
// later, at the same address, while other threads read them.
//
// `memory` is always the whole of what Tensor::zeros() has taken from the system for one tensor, or a part that begins and ends at its huge
// pages (or where the tensor ends, behind which its last huge page is nobody else's).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace weir {

// Whether it is large enough to be memory of its own: 2 MiB, beginning at a multiple of that.
bool can_be_mapped(std::span<const std::byte> memory);

// The contents become the file's from `offset` on (a multiple of 4,096), read-only. What the file has behind memory.size() fills the last
// page. False: the system cannot; nothing has changed. Whoever shortens the file ends the process; replacing it by another is harmless.
bool map_file_over(std::span<std::byte> memory, int fd, uint64_t offset);
// Reads mapped pages, so that a disk's error shows here and is no signal later. part: begins at a page. False: they cannot be read.
bool read_in(std::span<std::byte> part);
// Zero and writable again, as Tensor::zeros() has made it.
void make_anew(std::span<std::byte> memory);

// Copies mapped memory into huge pages of this process and puts them in its place, read-only as well. Other threads may read it all the
// while: they see the same bytes before and after. False: there is no room for them; nothing has changed.
bool copy_in_place(std::span<std::byte> memory);

}  // namespace weir
