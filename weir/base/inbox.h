// Inbox<T>: the one queue between threads. Many producers, one consumer. Once it has held as many items as it ever will, nothing allocates.
// Closed means: no more items come; the consumer drains the rest, then pop() returns nullopt and push() returns false.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace weir {

template <class T>
class Inbox {
 public:
  // False when closed; the item is dropped.
  bool push(T item) {
    {
      const std::lock_guard lock(mu_);
      if (closed_) return false;
      items_.push_back(std::move(item));
      has_items_ = true;
    }
    ready_.notify_one();
    return true;
  }

  // The next item, if there is one; without a lock when there is none.
  std::optional<T> try_pop() {
    if (next_ < taken_.size()) return next();
    if (!has_items_) return std::nullopt;
    const std::lock_guard lock(mu_);
    return next();
  }

  // Waits for an item; nullopt once closed and empty.
  std::optional<T> pop() {
    if (next_ < taken_.size()) return next();
    std::unique_lock lock(mu_);
    ready_.wait(lock, [this] { return closed_ || has_items_; });
    return next();
  }

  // Whether there is an item or the queue is closed. The consumer only; without a lock.
  bool ready() const { return closed_ || has_items_ || next_ < taken_.size(); }

  // Waits until ready(), or the time is over.
  void wait_for(std::chrono::milliseconds timeout) {
    std::unique_lock lock(mu_);
    ready_.wait_for(lock, timeout, [this] { return ready(); });
  }

  void wait() {  // until ready()
    std::unique_lock lock(mu_);
    ready_.wait(lock, [this] { return ready(); });
  }

  void close() {
    {
      const std::lock_guard lock(mu_);
      closed_ = true;
    }
    ready_.notify_all();
  }

  bool closed() const { return closed_; }

 private:
  // The consumer's. With all taken items handed out, it needs the lock.
  std::optional<T> next() {
    if (next_ == taken_.size()) {
      taken_.clear();
      next_ = 0;
      taken_.swap(items_);
      has_items_ = false;
    }
    if (taken_.empty()) return std::nullopt;
    return std::move(taken_[next_++]);
  }

  std::mutex mu_;
  std::condition_variable ready_;
  std::vector<T> items_;                // guarded by mu_
  std::atomic<bool> has_items_{false};  // written under mu_
  std::atomic<bool> closed_{false};     // written under mu_
  std::vector<T> taken_;                // the consumer's: items that it has taken out …
  size_t next_ = 0;                     // … of which it has handed out so many
};

}  // namespace weir
