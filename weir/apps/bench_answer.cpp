#include "weir/apps/bench_answer.h"

#include <algorithm>
#include <limits>

#include "weir/base/error.h"
#include "weir/base/json.h"

namespace weir {
namespace {

constexpr size_t kMaxLineBytes = size_t{16} << 20;  // no event of a sane server is longer; a hostile one must not fill the memory

const Json* member(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

std::string text_of(const Json& object, const char* name) {
  const Json* value = member(object, name);
  return value && value->is_string() ? value->get<std::string>() : std::string();
}

void read_count(const Json& usage, const char* name, int32_t& into) {
  const Json* value = member(usage, name);
  if (!value || !value->is_number_integer()) return;
  into = static_cast<int32_t>(std::clamp<int64_t>(value->get<int64_t>(), 0, std::numeric_limits<int32_t>::max()));
}

// The chunk with which some servers open a chat answer at once, long before the first token: {"role": "assistant", "content": ""}.
bool only_names_the_role(const Json& choice) {
  const Json* delta = member(choice, "delta");
  if (!delta || !member(*delta, "role") || member(choice, "finish_reason") || member(*delta, "tool_calls")) return false;
  return text_of(*delta, "content").empty() && text_of(*delta, "reasoning").empty() && text_of(*delta, "reasoning_content").empty();
}

}  // namespace

AnswerReader::AnswerReader(BenchApi api, double start_s) : api_(api) { answer_.start_s = start_s; }

bool AnswerReader::feed(std::string_view bytes, double now_s) {
  const size_t searched = pending_.size();
  pending_ += bytes;
  size_t begin = 0;
  for (size_t end = pending_.find('\n', searched); end != std::string::npos && !done_; end = pending_.find('\n', begin)) {
    read_line(std::string_view(pending_).substr(begin, end - begin), now_s);
    begin = end + 1;
  }
  pending_.erase(0, begin);
  if (!done_ && pending_.size() > kMaxLineBytes) {
    answer_.error = concat("a line of the event stream is longer than ", kMaxLineBytes, " bytes");
    done_ = true;
  }
  return !done_;
}

void AnswerReader::read_line(std::string_view line, double now_s) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (!line.starts_with("data:")) return;  // empty lines, comments (pings) and other fields
  line.remove_prefix(5);
  if (line.starts_with(' ')) line.remove_prefix(1);
  if (line == "[DONE]") {
    done_ = true;
    return;
  }
  try {
    read_event(line, now_s);
  } catch (const Error& error) {
    answer_.error = error.what();
  }
  done_ = done_ || broken();
}

void AnswerReader::read_event(std::string_view data, double now_s) {
  const Json event = parse_json(data, "event of the stream");
  if (const Json* error = member(event, "error")) {
    const std::string message = text_of(*error, "message");
    answer_.error = concat("the server broke off: ", message.empty() ? dump_json(*error) : message);
    return;
  }
  if (const Json* usage = member(event, "usage")) {
    read_count(*usage, "prompt_tokens", answer_.input_tokens);
    read_count(*usage, "completion_tokens", answer_.output_tokens);
  }
  const Json* choices = member(event, "choices");
  if (!choices || !choices->is_array() || choices->empty()) return;
  const Json& choice = (*choices)[0];
  if (api_ == BenchApi::kChat && only_names_the_role(choice)) return;

  const double since_start = now_s - answer_.start_s;
  if (started_)
    answer_.itl_s.push_back(since_start - answer_.latency_s);
  else
    answer_.ttft_s = since_start;
  answer_.latency_s = since_start;
  started_ = true;
  if (api_ == BenchApi::kCompletions) {
    answer_.text += text_of(choice, "text");
  } else if (const Json* delta = member(choice, "delta")) {
    answer_.text += text_of(*delta, "reasoning");
    answer_.text += text_of(*delta, "reasoning_content");
    answer_.text += text_of(*delta, "content");
  }
}

BenchAnswer AnswerReader::finish() {
  if (!started_ && !broken()) answer_.error = "the answer had no event with a choice";
  return std::move(answer_);
}

}  // namespace weir
