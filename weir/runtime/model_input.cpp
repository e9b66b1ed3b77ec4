#include "weir/runtime/model_input.h"

#include <algorithm>
#include <utility>

#include "weir/base/error.h"
#include "weir/core/config.h"
#include "weir/ops/delta_net.h"

namespace weir {
namespace {

static_assert(kSlotHistory == ops::kConvHistory && kSlotBlock == ops::kDeltaBlock, "what the engine believes of slots is what they are");

Tensor zero_ints(Arena& arena, Shape shape) {
  Tensor out = arena.empty(shape, DType::kI32);
  std::fill_n(out.data<int32_t>(), out.numel(), 0);
  return out;
}

void check_row(const SeqStep& row, int32_t num_pages, int32_t num_slots, int32_t vocab_size) {
  const auto bad = [&](const char* what, int64_t seen) {
    fail(ErrorCode::kInternal, "plan of sequence ", index(row.seq), ": ", what, " ", seen);
  };
  const auto slot = [&](SlotId id) {
    if (index(id) < 0 || index(id) >= num_slots) bad("slot", index(id));
  };
  const int64_t end = row.start + static_cast<int64_t>(row.tokens.size());
  if (row.tokens.empty()) bad("tokens", 0);
  if (row.start < 0) bad("start", row.start);
  if (row.num_drafts < 0 || row.num_drafts >= static_cast<int32_t>(row.tokens.size()) || (row.num_drafts > 0 && !row.sample))
    bad("num_drafts", row.num_drafts);
  if (row.want_drafts < 0 || (row.want_drafts > 0 && !row.sample)) bad("want_drafts", row.want_drafts);
  if (row.next && (*row.next < 0 || *row.next >= vocab_size)) bad("next", *row.next);
  for (const Token token : row.tokens)
    if (token < 0 || token >= vocab_size) bad("token", token);
  if (static_cast<int64_t>(row.pages.size()) * kPageTokens < end) bad("pages", static_cast<int64_t>(row.pages.size()));
  for (const PageId page : row.pages)
    if (index(page) < 0 || index(page) >= num_pages) bad("page", index(page));
  if (row.state_read.has_value() != (row.start > 0)) bad("state_read does not fit start", row.start);
  if (row.state_read) slot(*row.state_read);
  slot(row.state_write);
  for (const Snapshot& snapshot : row.snapshots) {
    slot(snapshot.slot);
    if (snapshot.position <= row.start || snapshot.position > end) bad("snapshot at", snapshot.position);
  }
  for (const Token token : row.prompt_next)
    if (token < 0 || token >= vocab_size) bad("prompt_next", token);
  if (row.prompt_next.size() > row.tokens.size()) bad("prompt_next", static_cast<int64_t>(row.prompt_next.size()));
}

// Rows run at the same time: a slot that is written belongs to one row alone. The slots are in [0, num_slots).
void check_slots(const StepPlan& plan, int32_t num_slots, Arena& arena) {
  const Arena::Scope scope(arena);
  auto* const is_written = static_cast<bool*>(arena.bytes(static_cast<size_t>(num_slots)));
  std::fill_n(is_written, num_slots, false);
  const auto write = [&](const SeqStep& row, SlotId slot) {
    if (std::exchange(is_written[index(slot)], true))
      fail(ErrorCode::kInternal, "plan of sequence ", index(row.seq), ": slot ", index(slot), " is written twice");
  };
  for (const SeqStep& row : plan.rows) {
    write(row, row.state_write);
    for (const Snapshot& snapshot : row.snapshots) write(row, snapshot.slot);
  }
  for (const SeqStep& row : plan.rows)
    if (row.state_read && row.state_read != row.state_write && is_written[index(*row.state_read)])
      fail(ErrorCode::kInternal, "plan of sequence ", index(row.seq), ": slot ", index(*row.state_read), " is read here and written too");
}

}  // namespace

ModelInput build_input(const StepPlan& plan, int32_t num_pages, int32_t num_slots, int32_t vocab_size, Arena& arena) {
  const auto ints = [&](std::initializer_list<int64_t> dims) { return zero_ints(arena, Shape(dims)); };
  int64_t num_tokens = 0, max_pages = 0, num_snapshots = 0;
  for (const SeqStep& row : plan.rows) {
    check_row(row, num_pages, num_slots, vocab_size);
    num_tokens += static_cast<int64_t>(row.tokens.size());
    max_pages = std::max(max_pages, static_cast<int64_t>(row.pages.size()));
    num_snapshots += static_cast<int64_t>(row.snapshots.size());
  }
  check_slots(plan, num_slots, arena);
  const int64_t num_rows = static_cast<int64_t>(plan.rows.size());
  ModelInput in{.ids = ints({num_tokens}),
                .positions = ints({3, num_tokens}),
                .rows = {.row_starts = ints({num_rows + 1}),
                         .starts = ints({num_rows}),
                         .page_table = ints({num_rows, max_pages}),
                         .state_read = ints({num_rows}),
                         .state_write = ints({num_rows}),
                         .snapshots = ints({num_snapshots, 3})}};
  int32_t token = 0, snapshot = 0;
  for (int32_t r = 0; r < num_rows; ++r) {
    const SeqStep& row = plan.rows[static_cast<size_t>(r)];
    const auto length = static_cast<int32_t>(row.tokens.size());
    in.rows.row_starts.data<int32_t>()[r] = token;
    in.rows.starts.data<int32_t>()[r] = row.start;
    in.rows.state_read.data<int32_t>()[r] = row.state_read ? index(*row.state_read) : -1;
    in.rows.state_write.data<int32_t>()[r] = index(row.state_write);
    for (size_t i = 0; i < row.pages.size(); ++i)
      in.rows.page_table.data<int32_t>()[r * max_pages + static_cast<int64_t>(i)] = index(row.pages[i]);
    for (const Snapshot& s : row.snapshots) {
      int32_t* entry = in.rows.snapshots.data<int32_t>() + 3 * snapshot++;
      entry[0] = r, entry[1] = s.position, entry[2] = index(s.slot);
    }
    for (int32_t i = 0; i < length; ++i) {
      in.ids.data<int32_t>()[token + i] = row.tokens[static_cast<size_t>(i)];
      for (int axis = 0; axis < 3; ++axis) in.positions.data<int32_t>()[axis * num_tokens + token + i] = row.start + i;
    }
    token += length;
  }
  in.rows.row_starts.data<int32_t>()[num_rows] = token;
  return in;
}

int64_t input_bytes(int64_t num_rows, int64_t num_tokens, int64_t max_pages, int64_t num_slots) {
  constexpr int64_t kTensors = 8, kAlignment = 64;
  return 4 * (num_rows * max_pages + 4 * num_rows + 4 * num_tokens + 3 * num_slots) + num_slots + kTensors * kAlignment;
}

}  // namespace weir
