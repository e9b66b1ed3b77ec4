#include "weir/runtime/touch_ahead.h"

#include <algorithm>
#include <utility>

#include "weir/core/config.h"

namespace weir {
namespace {

constexpr int64_t kSmallPage = 4096, kPieceBytes = int64_t{2} << 20;

// A request takes a slot, and one for the snapshot at the end of its prompt.
constexpr int64_t kSlotsAhead = 2 * 2;
// What a step of the usual size can fill.
constexpr int64_t kPagesAhead = pages_for(2048);

int64_t ids_per_piece(const std::vector<Tensor>& tensors) {
  int64_t widest = 1;
  for (const Tensor& tensor : tensors) widest = std::max(widest, tensor.nbytes() / std::max<int64_t>(1, tensor.dim(0)));
  return std::max<int64_t>(1, kPieceBytes / widest);
}

// What it holds stays as it is.
void touch(const Tensor& memory) {
  auto* const bytes = static_cast<volatile std::byte*>(const_cast<void*>(memory.raw()));
  for (int64_t at = 0; at < memory.nbytes(); at += kSmallPage) bytes[at] = bytes[at];
  if (memory.nbytes() > 0) bytes[memory.nbytes() - 1] = bytes[memory.nbytes() - 1];
}

}  // namespace

TouchAhead::Pool::Pool(std::vector<Tensor> tensors, int64_t margin)
    : tensors_(std::move(tensors)),
      size_(tensors_.empty() ? 0 : tensors_.front().dim(0)),
      margin_(margin),
      ids_per_piece_(ids_per_piece(tensors_)) {}

void TouchAhead::Pool::use(int64_t id) { used_ = std::max(used_, id + 1); }

int64_t TouchAhead::Pool::wanted(int64_t margin) const { return std::min(size_, used_ + margin); }

bool TouchAhead::Pool::is_short() const { return (next_ == 0 ? end_ : begin_) < wanted(margin_ / 2); }

bool TouchAhead::Pool::touch_piece() {
  if (next_ == 0) {
    begin_ = std::max(end_, used_);  // whoever used an id has touched what it needed
    end_ = std::max(begin_, std::min(begin_ + ids_per_piece_, wanted(margin_)));
    if (begin_ == end_) return false;
  }
  touch(tensors_[next_].rows(begin_, end_));
  next_ = (next_ + 1) % tensors_.size();
  return true;
}

TouchAhead::TouchAhead(std::vector<Tensor> slots, std::vector<Tensor> pages, const Tensor& activations)
    : slots_(std::move(slots), kSlotsAhead), pages_(std::move(pages), kPagesAhead), activations_({activations}, activations.dim(0)) {}

void TouchAhead::note(const StepPlan& plan) {
  for (const SeqStep& row : plan.rows) {
    slots_.use(index(row.state_write));
    for (const Snapshot& snapshot : row.snapshots) slots_.use(index(snapshot.slot));
    // Those before were seen when they were written.
    for (size_t i = static_cast<size_t>(row.start / kPageTokens); i < row.pages.size(); ++i) pages_.use(index(row.pages[i]));
  }
}

bool TouchAhead::touch_piece() { return slots_.touch_piece() || pages_.touch_piece() || activations_.touch_piece(); }

}  // namespace weir
