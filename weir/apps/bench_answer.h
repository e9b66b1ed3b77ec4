// One measured answer of an OpenAI server: server-sent events in, the times of their arrival out. Knows nothing of sockets or clocks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace weir {

enum class BenchApi : uint8_t { kCompletions, kChat };

// Times in seconds on the clock of whoever fed the reader.
struct BenchAnswer {
  std::string error;          // empty: the request succeeded
  std::string text;           // thoughts included: they were generated too
  double start_s = 0;         // when the request was sent
  double queue_s = 0;         // it waited this long in the client for its turn (--max-concurrency)
  double ttft_s = 0;          // from start to the first event with a choice
  double latency_s = 0;       // from start to the last event with a choice
  std::vector<double> itl_s;  // between such events; several tokens may share one
  int32_t input_tokens = 0;   // as the server counted them; 0: it did not say
  int32_t output_tokens = 0;

  bool ok() const { return error.empty(); }
};

class AnswerReader {
 public:
  AnswerReader(BenchApi api, double start_s);

  // Takes whatever bytes arrived. False: nothing after this matters, because the answer is complete or broken.
  bool feed(std::string_view bytes, double now_s);
  bool broken() const { return !answer_.error.empty(); }

  // Ends the answer. An answer without a single event counts as failed. Call once.
  BenchAnswer finish();

 private:
  void read_line(std::string_view line, double now_s);
  void read_event(std::string_view data, double now_s);

  BenchApi api_;
  BenchAnswer answer_;
  std::string pending_;  // the beginning of a line
  bool started_ = false, done_ = false;
};

}  // namespace weir
