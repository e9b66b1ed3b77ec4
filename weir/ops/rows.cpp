#include "weir/ops/rows.h"

#include "weir/base/check.h"

namespace weir::ops {

Row row_of(const Rows& rows, int64_t r) {
  const auto* first = rows.row_starts.data<int32_t>();
  return Row{first[r], first[r + 1] - first[r], rows.starts.data<int32_t>()[r]};
}

void check_rows(const Rows& rows, int64_t num_tokens) {
  const int64_t num_rows = rows.num_rows();
  WEIR_CHECK(rows.row_starts.rank() == 1 && rows.row_starts.dim(0) == num_rows + 1, "row_starts ", rows.row_starts.shape().str(), " for ",
             num_rows, " rows");
  const auto* first = rows.row_starts.data<int32_t>();
  WEIR_CHECK(first[0] == 0 && first[num_rows] == num_tokens, "rows hold tokens ", first[0], " to ", first[num_rows], ", the step has ",
             num_tokens);
  for (int64_t r = 0; r < num_rows; ++r) {
    const Row row = row_of(rows, r);
    WEIR_CHECK(row.count >= 1 && row.start >= 0, "row ", r, " has ", row.count, " tokens from position ", row.start);
  }
}

void check_pages(const Rows& rows, int64_t num_pages, int64_t page_tokens) {
  if (rows.num_rows() == 0) return;
  WEIR_CHECK(rows.page_table.rank() == 2 && rows.page_table.dim(0) == rows.num_rows(), "page_table ", rows.page_table.shape().str());
  for (int64_t r = 0; r < rows.num_rows(); ++r) {
    const int64_t needed = (row_of(rows, r).end() + page_tokens - 1) / page_tokens;
    WEIR_CHECK(needed <= rows.page_table.dim(1), "row ", r, " needs ", needed, " pages, the table has ", rows.page_table.dim(1));
    const auto* pages = rows.page_table.data<int32_t>() + r * rows.page_table.row_stride();
    for (int64_t i = 0; i < needed; ++i)
      WEIR_CHECK(pages[i] >= 0 && pages[i] < num_pages, "row ", r, " page ", i, ": id ", pages[i], " of ", num_pages);
  }
}

void check_slots(const Rows& rows, int64_t num_slots) {
  const int64_t num_rows = rows.num_rows();
  WEIR_CHECK(rows.state_read.dim(0) == num_rows && rows.state_write.dim(0) == num_rows, "slots of ", rows.state_read.dim(0), " and ",
             rows.state_write.dim(0), " rows for ", num_rows);
  for (int64_t r = 0; r < num_rows; ++r) {
    const Row row = row_of(rows, r);
    const int32_t read = rows.state_read.data<int32_t>()[r], write = rows.state_write.data<int32_t>()[r];
    WEIR_CHECK(read < num_slots && (read >= 0 || row.start == 0), "row ", r, " at position ", row.start, " reads slot ", read, " of ",
               num_slots);
    WEIR_CHECK(write >= 0 && write < num_slots, "row ", r, " writes slot ", write, " of ", num_slots);
  }
  for (int64_t s = 0; s < rows.snapshots.dim(0); ++s) {
    const auto* snapshot = rows.snapshots.data<int32_t>() + 3 * s;
    WEIR_CHECK(snapshot[0] >= 0 && snapshot[0] < num_rows, "snapshot of row ", snapshot[0], " of ", num_rows);
    const Row row = row_of(rows, snapshot[0]);
    WEIR_CHECK(snapshot[1] > row.start && snapshot[1] <= row.end(), "snapshot at position ", snapshot[1], " of a row over ", row.start,
               " to ", row.end());
    WEIR_CHECK(snapshot[2] >= 0 && snapshot[2] < num_slots, "snapshot into slot ", snapshot[2], " of ", num_slots);
  }
}

}  // namespace weir::ops
