#include "weir/base/profiler.h"

#include <pthread.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <utility>

#include "weir/base/error.h"

namespace weir {
namespace {

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string thread_name() {
  char name[16] = {};
  pthread_getname_np(pthread_self(), name, sizeof name);
  std::string out = name;
  std::replace_if(out.begin(), out.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '-');  // as it is written into JSON
  return out;
}

bool same(const char* a, const char* b) { return a == b || std::strcmp(a, b) == 0; }

template <class Named>
Named& find_or_add(std::vector<Named>& all, const char* name) {
  for (Named& one : all)
    if (same(one.name, name)) return one;
  return all.emplace_back(Named{.name = name});
}

double ms(int64_t ns) { return static_cast<double>(ns) * 1e-6; }

template <class... Values>
std::string printed(const char* format, Values... values) {
  char text[256];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

}  // namespace

void Profiler::start() {
  const std::lock_guard lock(mu_);
  ++number_;
  lanes_.clear();
  next_event_ = 0;
  profile_ = Profile{};
  profile_.events.reserve(kMaxEvents);
  start_ns_ = now_ns();
  recording_.store(true, std::memory_order_relaxed);
}

Profile Profiler::stop() {
  const std::lock_guard lock(mu_);
  if (!recording_.exchange(false, std::memory_order_relaxed)) return {};
  ++number_;  // spans that are still open belong to nothing
  profile_.seconds = static_cast<double>(now_ns() - start_ns_) * 1e-9;
  std::rotate(profile_.events.begin(), profile_.events.begin() + static_cast<std::ptrdiff_t>(next_event_), profile_.events.end());
  return std::exchange(profile_, {});
}

Profiler::Lane& Profiler::lane() {
  const std::thread::id self = std::this_thread::get_id();
  for (Lane& lane : lanes_)
    if (lane.id == self) return lane;
  profile_.threads.push_back(thread_name());
  Lane& lane = lanes_.emplace_back();
  lane.id = self;
  lane.open.reserve(kMaxDepth);
  return lane;
}

uint64_t Profiler::begin(const char* name, bool is_step) {
  const std::lock_guard lock(mu_);
  if (!recording()) return 0;
  Lane& lane = this->lane();
  if (lane.open.empty() && !is_step) return 0;  // of a step that began before the recording, or outside of steps
  lane.open.push_back({name, now_ns(), 0, -1, -1});
  return number_;
}

void Profiler::describe(uint64_t recording, const char* kind, int32_t rows, int32_t tokens) {
  const std::lock_guard lock(mu_);
  if (recording != number_) return;
  Open& open = lane().open.back();
  open.name = kind, open.rows = rows, open.tokens = tokens;
}

void Profiler::end(uint64_t recording) {
  const std::lock_guard lock(mu_);
  if (recording != number_) return;  // the recording ended, or another one began, while it was open
  Lane& lane = this->lane();
  const Open open = lane.open.back();
  lane.open.pop_back();
  const int64_t took = now_ns() - open.begin_ns;
  add({open.name, open.begin_ns - start_ns_, took, static_cast<int32_t>(&lane - lanes_.data()), open.rows, open.tokens});
  Profile::Work& work = find_or_add(lane.work, open.name);
  ++work.count;
  work.total_ns += took;
  work.self_ns += took - open.inside_ns;
  if (lane.open.empty())
    close_step(lane, open);
  else
    lane.open.back().inside_ns += took;
}

void Profiler::add(const Profile::Event& event) {
  std::vector<Profile::Event>& events = profile_.events;
  if (events.size() < kMaxEvents) {
    events.push_back(event);
    return;
  }
  events[next_event_] = event;
  next_event_ = (next_event_ + 1) % kMaxEvents;
  ++profile_.num_cut;
}

void Profiler::close_step(Lane& lane, const Open& step) {
  Profile::Kind& kind = find_or_add(profile_.kinds, step.name);
  ++kind.steps;
  kind.rows += std::max(step.rows, 0);
  kind.tokens += std::max(step.tokens, 0);
  for (const Profile::Work& done : lane.work) {
    Profile::Work& work = find_or_add(kind.work, done.name);
    work.count += done.count;
    work.total_ns += done.total_ns;
    work.self_ns += done.self_ns;
  }
  lane.work.clear();
}

std::string Profile::table() const {
  std::string out = printed("Profile of %.3f s:", seconds);
  if (kinds.empty()) out += " no step was run";
  for (const Kind& kind : kinds) {
    const auto steps = static_cast<double>(kind.steps);
    int64_t all_ns = 0;
    for (const Work& work : kind.work) all_ns += work.self_ns;
    out += printed("\n%s: %lld steps of %.1f rows and %.1f tokens, %.3f ms each, %.1f %% of the time\n", kind.name,
                   static_cast<long long>(kind.steps), static_cast<double>(kind.rows) / steps, static_cast<double>(kind.tokens) / steps,
                   ms(all_ns) / steps, seconds > 0 ? ms(all_ns) / seconds / 10 : 0.0);
    out += printed("  %-22s %12s %14s %14s %8s\n", "", "calls/step", "ms/step, all", "itself", "share");
    std::vector<Work> sorted = kind.work;
    std::stable_sort(sorted.begin(), sorted.end(), [](const Work& a, const Work& b) { return a.self_ns > b.self_ns; });
    for (const Work& work : sorted)
      out += printed("  %-22s %12.1f %14.4f %14.4f %6.1f %%\n", same(work.name, kind.name) ? "(between the others)" : work.name,
                     static_cast<double>(work.count) / steps, ms(work.total_ns) / steps, ms(work.self_ns) / steps,
                     all_ns > 0 ? 100.0 * static_cast<double>(work.self_ns) / static_cast<double>(all_ns) : 0.0);
  }
  if (num_cut > 0)
    out += printed("\nThe trace holds the last %zu events; %lld before them had no room. The table counts all.", events.size(),
                   static_cast<long long>(num_cut));
  return out;
}

void Profile::write_trace(const std::string& path) const {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "we"), [](std::FILE* f) { return std::fclose(f); });
  if (!file) fail(ErrorCode::kInvalidArgument, "cannot write the trace to ", path, ": ", std::strerror(errno));
  std::fputs(
      "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"weir\"}}",
      file.get());
  for (size_t i = 0; i < threads.size(); ++i)
    std::fprintf(file.get(), ",\n{\"ph\":\"M\",\"pid\":1,\"tid\":%zu,\"name\":\"thread_name\",\"args\":{\"name\":\"%s\"}}", i + 1,
                 threads[i].c_str());
  if (num_cut > 0)
    std::fprintf(file.get(),
                 ",\n{\"ph\":\"i\",\"s\":\"g\",\"pid\":1,\"tid\":1,\"ts\":%.3f,\"name\":\"the trace was cut here\",\"args\":{\"events "
                 "before that had no room\":%lld,\"room for\":%zu}}",
                 static_cast<double>(events.front().begin_ns) * 1e-3, static_cast<long long>(num_cut), events.size());
  for (const Event& event : events) {
    std::fprintf(file.get(), ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,\"name\":\"%s\"", event.thread + 1,
                 static_cast<double>(event.begin_ns) * 1e-3, static_cast<double>(event.duration_ns) * 1e-3, event.name);
    if (event.rows >= 0) std::fprintf(file.get(), ",\"args\":{\"rows\":%d,\"tokens\":%d}", event.rows, event.tokens);
    std::fputc('}', file.get());
  }
  std::fputs("\n]}\n", file.get());
  if (std::fflush(file.get()) != 0 || std::ferror(file.get()) != 0)
    fail(ErrorCode::kInvalidArgument, "cannot write the trace to ", path, ": ", std::strerror(errno));
}

}  // namespace weir
