// Ids that cannot be mixed up, and the token type.
#pragma once

#include <cstdint>

namespace weir {

using Token = int32_t;  // index into the vocabulary

enum class RequestId : uint64_t {};  // one per generated sequence; an HTTP request with n = 4 makes four
enum class SeqId : uint64_t {};      // a request while the engine knows it
enum class StepId : uint64_t {};     // counts plans of one engine
enum class PageId : int32_t {};      // index into the attention page pool
enum class TierId : uint64_t {};     // an entry of the second tier; never used twice
enum class SlotId : int32_t {};      // index into the delta-net state pool

constexpr uint64_t index(RequestId id) { return static_cast<uint64_t>(id); }
constexpr uint64_t index(SeqId id) { return static_cast<uint64_t>(id); }
constexpr uint64_t index(StepId id) { return static_cast<uint64_t>(id); }
constexpr uint64_t index(TierId id) { return static_cast<uint64_t>(id); }
constexpr int32_t index(PageId id) { return static_cast<int32_t>(id); }
constexpr int32_t index(SlotId id) { return static_cast<int32_t>(id); }

}  // namespace weir
