#include "weir/apps/bench_metrics.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <utility>

namespace weir {
namespace {

double percentile_of_sorted(const std::vector<double>& sorted, double p) {
  if (sorted.empty()) return 0;
  const double at = p / 100 * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - static_cast<double>(below));
}

bool is_good(const Goodput& limits, double ttft_s, double tpot_s, double e2el_s) {
  const auto within = [](const std::optional<double>& limit_ms, double seconds) { return !limit_ms || seconds * 1000 <= *limit_ms; };
  return within(limits.ttft_ms, ttft_s) && within(limits.tpot_ms, tpot_s) && within(limits.e2el_ms, e2el_s);
}

double busiest_second(std::span<const BenchAnswer> answers, double first_start) {
  std::map<int64_t, int64_t> per_second;  // sparse: a slow server may take days
  for (const BenchAnswer& answer : answers) {
    if (!answer.ok()) continue;
    double at = answer.start_s + answer.ttft_s - first_start;
    ++per_second[static_cast<int64_t>(at)];
    for (const double gap : answer.itl_s) ++per_second[static_cast<int64_t>(at += gap)];
  }
  int64_t most = 0;
  for (const auto& [second, events] : per_second) most = std::max(most, events);
  return static_cast<double>(most);
}

int64_t most_at_once(std::span<const BenchAnswer> answers) {
  std::vector<std::pair<double, int>> changes;  // an end sorts before a start at the same moment
  for (const BenchAnswer& answer : answers) {
    if (!answer.ok()) continue;
    changes.emplace_back(answer.start_s, 1);
    changes.emplace_back(answer.start_s + answer.latency_s, -1);
  }
  std::sort(changes.begin(), changes.end());
  int64_t now = 0, most = 0;
  for (const auto& [at, change] : changes) most = std::max(most, now += change);
  return most;
}

}  // namespace

double percentile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  return percentile_of_sorted(values, p);
}

Distribution describe(const std::vector<double>& values, std::span<const double> percentiles) {
  Distribution out;
  std::vector<double> sorted = values;
  std::sort(sorted.begin(), sorted.end());
  for (const double p : percentiles) out.percentiles.push_back(percentile_of_sorted(sorted, p));
  if (sorted.empty()) return out;
  const auto n = static_cast<double>(sorted.size());
  out.mean = std::accumulate(sorted.begin(), sorted.end(), 0.0) / n;
  out.median = percentile_of_sorted(sorted, 50);
  double squares = 0;
  for (const double value : sorted) squares += (value - out.mean) * (value - out.mean);
  out.std = std::sqrt(squares / n);
  return out;
}

ServeMetrics measure(std::span<const BenchAnswer> answers, double duration_s, const Goodput& goodput) {
  ServeMetrics out;
  out.duration_s = duration_s;
  int64_t good = 0;
  double first_start = 0;
  for (const BenchAnswer& answer : answers) {
    if (!answer.ok()) {
      ++out.failed;
      continue;
    }
    first_start = out.completed == 0 ? answer.start_s : std::min(first_start, answer.start_s);
    ++out.completed;
    out.input_tokens += answer.input_tokens;
    out.output_tokens += answer.output_tokens;
    double tpot = 0;  // an answer of one token has none, and is good in this respect
    if (answer.output_tokens > 1) {
      tpot = (answer.latency_s - answer.ttft_s) / (answer.output_tokens - 1);
      out.tpot_s.push_back(tpot);
    }
    out.ttft_s.push_back(answer.ttft_s);
    out.e2el_s.push_back(answer.latency_s);
    out.queue_s.push_back(answer.queue_s);
    out.itl_s.insert(out.itl_s.end(), answer.itl_s.begin(), answer.itl_s.end());
    good += goodput.asked() && is_good(goodput, answer.ttft_s, tpot, answer.latency_s);
  }
  const auto per_second = [&](int64_t count) { return duration_s > 0 ? static_cast<double>(count) / duration_s : 0.0; };
  out.request_throughput = per_second(out.completed);
  out.request_goodput = per_second(good);
  out.output_throughput = per_second(out.output_tokens);
  out.total_token_throughput = per_second(out.input_tokens + out.output_tokens);
  out.max_output_tokens_per_s = busiest_second(answers, first_start);
  out.max_concurrent_requests = most_at_once(answers);
  return out;
}

std::optional<SpeculationCounters> read_speculation_counters(std::string_view text) {
  constexpr std::string_view kPrefix = "vllm:spec_decode_", kPosition = "position=\"";
  SpeculationCounters out;
  bool found = false;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.starts_with(kPrefix)) continue;
    const std::string_view name = line.substr(0, std::min(line.find_first_of("{ "), line.size()));
    const size_t space = line.rfind(' ');
    if (!name.ends_with("_total") || space == std::string_view::npos) continue;
    double number = 0;
    const std::string_view digits = line.substr(space + 1);
    const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error != std::errc() || stop != digits.data() + digits.size() || !(number >= 0 && number < 1e15)) continue;
    const auto value = static_cast<int64_t>(number);
    found = true;
    if (name.find("num_accepted_tokens_per_pos") != std::string_view::npos) {
      const size_t at = line.find(kPosition);
      if (at == std::string_view::npos) continue;
      const std::string_view rest = line.substr(at + kPosition.size());
      int64_t position = 0;
      const auto parsed = std::from_chars(rest.data(), rest.data() + rest.size(), position);
      if (parsed.ec == std::errc() && position >= 0) out.accepted_per_position[position] += value;
    } else if (name.find("num_accepted_tokens") != std::string_view::npos) {
      out.accepted_tokens += value;
    } else if (name.find("num_draft_tokens") != std::string_view::npos) {
      out.draft_tokens += value;
    } else if (name.find("num_drafts") != std::string_view::npos) {
      out.drafts += value;
    }
  }
  return found ? std::optional(out) : std::nullopt;
}

std::optional<Speculation> speculation_between(const std::optional<SpeculationCounters>& before,
                                               const std::optional<SpeculationCounters>& after) {
  if (!before || !after) return std::nullopt;
  Speculation out;
  out.counters.drafts = after->drafts - before->drafts;
  out.counters.draft_tokens = after->draft_tokens - before->draft_tokens;
  out.counters.accepted_tokens = after->accepted_tokens - before->accepted_tokens;
  if (out.counters.draft_tokens <= 0) return std::nullopt;
  const auto accepted = static_cast<double>(out.counters.accepted_tokens), drafts = static_cast<double>(out.counters.drafts);
  out.acceptance_rate = accepted / static_cast<double>(out.counters.draft_tokens) * 100;
  if (out.counters.drafts <= 0) return out;
  out.acceptance_length = 1 + accepted / drafts;
  std::map<int64_t, int64_t> per_position = after->accepted_per_position;
  for (const auto& [position, count] : before->accepted_per_position) {
    // A position that vanished (the server restarted) gained nothing.
    const auto it = per_position.emplace(position, count).first;
    it->second -= count;
  }
  for (const auto& [position, count] : per_position) out.per_position_rates.push_back(static_cast<double>(count) / drafts);
  out.counters.accepted_per_position = std::move(per_position);
  return out;
}

}  // namespace weir
