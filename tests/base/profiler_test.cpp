#include "weir/base/profiler.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "weir/base/error.h"
#include "weir/base/json.h"

namespace weir {
namespace {

const Profile::Work& work(const Profile& profile, const std::string& kind, const std::string& name) {
  for (const Profile::Kind& k : profile.kinds)
    for (const Profile::Work& w : k.work)
      if (k.name == kind && w.name == name) return w;
  throw std::runtime_error("no " + name + " in " + kind);
}

Json read_trace(const Profile& profile) {
  const std::string path = std::filesystem::temp_directory_path() / ("weir-profiler-test-" + std::to_string(::getpid()) + ".json");
  profile.write_trace(path);
  Json out = read_json_file(path);
  std::filesystem::remove(path);
  return out;
}

void one_step(Profiler& profiler, const char* kind, int experts) {
  StepSpan step(&profiler, "step");
  step.describe(kind, 2, 3);
  const Span forward(&profiler, "forward");
  for (int i = 0; i < experts; ++i) const Span span(&profiler, "experts");
}

TEST(Profiler, AddsUpByKindOfStepAndName) {
  Profiler profiler;
  profiler.start();
  for (int i = 0; i < 5; ++i) one_step(profiler, "decode", 3);
  one_step(profiler, "prompt", 1);
  const Profile profile = profiler.stop();
  ASSERT_EQ(profile.kinds.size(), 2u);
  EXPECT_EQ(profile.kinds[0].steps, 5);
  EXPECT_EQ(profile.kinds[0].rows, 10);
  EXPECT_EQ(profile.kinds[0].tokens, 15);
  EXPECT_EQ(work(profile, "decode", "experts").count, 15);
  EXPECT_EQ(work(profile, "decode", "forward").count, 5);
  EXPECT_EQ(work(profile, "prompt", "experts").count, 1);
  EXPECT_EQ(profile.events.size(), 5u * 5 + 3);
  for (const Profile::Kind& kind : profile.kinds) {
    int64_t self = 0;
    for (const Profile::Work& w : kind.work) {
      EXPECT_GE(w.total_ns, w.self_ns);
      self += w.self_ns;
    }
    EXPECT_EQ(self, work(profile, kind.name, kind.name).total_ns) << "what the parts take themselves is the time of the steps";
  }
  EXPECT_NE(profile.table().find("decode: 5 steps of 2.0 rows and 3.0 tokens"), std::string::npos) << profile.table();
}

TEST(Profiler, ARestingOneRecordsNothing) {
  Profiler profiler;
  one_step(profiler, "decode", 1);
  {
    const Span span(nullptr, "experts");
  }
  EXPECT_TRUE(profiler.stop().kinds.empty()) << "it was not recording";
  profiler.start();
  {
    const Span outside(&profiler, "experts");
  }
  EXPECT_TRUE(profiler.stop().events.empty()) << "spans outside of steps are no steps";
}

TEST(Profiler, AStepThatBeganBeforeTheRecordingDoesNotCount) {
  Profiler profiler;
  {
    const StepSpan step(&profiler, "step");
    profiler.start();
    const Span span(&profiler, "experts");
  }
  one_step(profiler, "decode", 1);
  Profile profile;
  {
    const StepSpan step(&profiler, "step");
    const Span span(&profiler, "experts");
    profile = profiler.stop();
  }
  ASSERT_EQ(profile.kinds.size(), 1u);
  EXPECT_EQ(profile.kinds[0].steps, 1);
  EXPECT_EQ(profile.events.size(), 3u);
  profiler.start();
  one_step(profiler, "decode", 1);
  EXPECT_EQ(profiler.stop().events.size(), 3u) << "a new recording begins empty";
}

TEST(Profiler, TheTraceKeepsTheLastEventsAndSaysWhereItWasCut) {
  Profiler profiler;
  profiler.start();
  const auto experts = static_cast<int>(Profiler::kMaxEvents / 8);
  for (int i = 0; i < 9; ++i) one_step(profiler, "decode", experts);
  const Profile profile = profiler.stop();
  EXPECT_EQ(profile.events.size(), Profiler::kMaxEvents);
  EXPECT_EQ(profile.num_cut, experts + 9 * 2);
  EXPECT_EQ(work(profile, "decode", "experts").count, 9 * experts) << "the table counts all";
  EXPECT_TRUE(std::is_sorted(profile.events.begin(), profile.events.end(),
                             [](const auto& a, const auto& b) { return a.begin_ns + a.duration_ns < b.begin_ns + b.duration_ns; }));
  EXPECT_NE(profile.table().find("before them had no room"), std::string::npos);
  const Json trace = read_trace(profile);
  const auto& events = trace["traceEvents"];
  EXPECT_EQ(std::count_if(events.begin(), events.end(), [](const Json& e) { return e["ph"] == "i"; }), 1);
}

TEST(Profiler, WritesWhatPerfettoReads) {
  Profiler profiler;
  profiler.start();
  one_step(profiler, "decode", 2);
  const Json trace = read_trace(profiler.stop());
  int steps = 0;
  for (const Json& event : trace["traceEvents"]) {
    EXPECT_EQ(event["pid"], 1);
    if (event["ph"] != "X") continue;
    EXPECT_TRUE(event["ts"].is_number() && event["dur"].is_number());
    if (event["name"] == "decode") {
      EXPECT_EQ(event["args"]["rows"], 2);
      ++steps;
    }
  }
  EXPECT_EQ(steps, 1);
  EXPECT_THROW(Profile{}.write_trace("/no/such/dir/trace.json"), Error);
}

TEST(Profiler, ThreadsRecordBesideEachOtherWhileItStartsAndStops) {
  Profiler profiler;
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&] {
      while (!done) one_step(profiler, "decode", 2);
    });
  for (int round = 0; round < 50; ++round) {
    profiler.start();
    std::this_thread::yield();
    const Profile profile = profiler.stop();
    for (const Profile::Event& event : profile.events) {
      ASSERT_LT(static_cast<size_t>(event.thread), profile.threads.size());
      ASSERT_GE(event.duration_ns, 0);
    }
  }
  done = true;
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace weir
