// Where the time of steps goes: spans, each inside the one that its thread has open, added up by name and kept as events for a trace.
//
//     StepSpan step(profiler, "step");           // until the end of the scope; a null or resting profiler costs two loads
//     const Span span(profiler, "experts");      // the same, inside it; without a step around it nothing is recorded
//
// What happens inside steps is added up per kind of step ("decode", "prompt"), completely, however long it records; the events of the trace
// are the last Profiler::kMaxEvents ones. Any thread may open spans, start and stop.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace weir {

// What was recorded between start and stop.
struct Profile {
  struct Work {
    const char* name;
    int64_t count = 0;
    int64_t total_ns = 0;  // with the spans inside
    int64_t self_ns = 0;   // without them
  };
  struct Kind {
    const char* name;
    int64_t steps = 0, rows = 0, tokens = 0;
    std::vector<Work> work;  // the step itself included; self_ns of all of them add up to the time of the steps
  };
  struct Event {
    const char* name;
    int64_t begin_ns, duration_ns;  // since start
    int32_t thread;                 // index into threads
    int32_t rows, tokens;           // of a step, else -1
  };

  double seconds = 0;  // from start to stop
  std::vector<Kind> kinds;
  std::vector<std::string> threads;  // names
  std::vector<Event> events;         // in the order of their ends
  int64_t num_cut = 0;               // events before them that had no room

  // For each kind of step: calls, milliseconds and share by name, most time first.
  std::string table() const;
  // Chrome's trace format, which Perfetto and chrome://tracing open. Throws Error(kInvalidArgument) naming the file if it cannot be
  // written.
  void write_trace(const std::string& path) const;
};

class Profiler {
 public:
  static constexpr size_t kMaxEvents = size_t{1} << 18;  // 10 MiB, some thousand steps of a large model

  Profiler() = default;
  Profiler(const Profiler&) = delete;
  Profiler& operator=(const Profiler&) = delete;

  void start();    // forgets what an earlier start has recorded
  Profile stop();  // empty when it was not recording
  bool recording() const { return recording_.load(std::memory_order_relaxed); }

 private:
  friend class Span;
  friend class StepSpan;
  static constexpr size_t kMaxDepth = 16;
  struct Open {
    const char* name;
    int64_t begin_ns, inside_ns;
    int32_t rows, tokens;
  };
  struct Lane {  // of one thread
    std::thread::id id;
    std::vector<Open> open;
    std::vector<Profile::Work> work;  // of the step under way
  };

  uint64_t begin(const char* name, bool is_step);  // -> which recording it belongs to; 0: none
  void describe(uint64_t recording, const char* kind, int32_t rows, int32_t tokens);
  void end(uint64_t recording);
  Lane& lane();
  void add(const Profile::Event& event);
  void close_step(Lane& lane, const Open& step);

  std::atomic<bool> recording_{false};
  std::mutex mu_;
  uint64_t number_ = 0;      // guarded by mu_: of the recording
  int64_t start_ns_ = 0;     // guarded by mu_
  std::vector<Lane> lanes_;  // guarded by mu_; lanes_[i] is profile_.threads[i]
  size_t next_event_ = 0;    // guarded by mu_: of a full ring, the oldest one
  Profile profile_;          // guarded by mu_
};

class Span {
 public:
  Span(Profiler* profiler, const char* name) : Span(profiler, name, /*is_step=*/false) {}  // name: a literal
  ~Span() {
    if (recording_ != 0) profiler_->end(recording_);
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 protected:
  Span(Profiler* profiler, const char* name, bool is_step) {
    if (profiler == nullptr || !profiler->recording()) return;
    profiler_ = profiler;
    recording_ = profiler->begin(name, is_step);
  }
  Profiler* profiler_ = nullptr;
  uint64_t recording_ = 0;  // 0: nothing is recorded
};

class StepSpan : public Span {
 public:
  StepSpan(Profiler* profiler, const char* kind) : Span(profiler, kind, /*is_step=*/true) {}

  // Its kind and size, once it is planned.
  void describe(const char* kind, int64_t rows, int64_t tokens) {
    if (recording_ != 0) profiler_->describe(recording_, kind, static_cast<int32_t>(rows), static_cast<int32_t>(tokens));
  }
};

}  // namespace weir
