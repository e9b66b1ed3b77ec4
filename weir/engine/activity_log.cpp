#include "weir/engine/activity_log.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

namespace weir {

std::optional<std::string> ActivityLog::line(Time now, const EngineStatus& status) {
  if (now - since_ < kInterval || told_everything(status)) return std::nullopt;
  const double seconds = std::chrono::duration<double>(now - since_).count();
  const double pages = std::max(1, status.pages_total);
  std::ostringstream text;
  text << std::fixed << std::setprecision(1)
       << "Engine 000: Avg prompt throughput: " << static_cast<double>(status.prompt_tokens - prompt_tokens_) / seconds
       << " tokens/s, Avg generation throughput: " << static_cast<double>(status.generation_tokens - generation_tokens_) / seconds
       << " tokens/s, Running: " << status.num_running << " reqs, Waiting: " << status.num_waiting
       << " reqs, KV cache usage: " << 100.0 * status.pages_used / pages << "%, State slots: " << status.slots_used << "/"
       << status.slots_total;
  if (const int64_t queried = status.prefix_queries - prefix_queries_; queried > 0)
    text << ", Prefix cache hit rate: " << 100.0 * static_cast<double>(status.prefix_hits - prefix_hits_) / static_cast<double>(queried)
         << "%";
  const DraftCounters speculated = status.speculation - speculation_;
  if (speculated.draft_tokens > 0)
    text << ", Mean acceptance length: " << std::setprecision(2) << speculated.mean_length()
         << ", Avg Draft acceptance rate: " << std::setprecision(1)
         << 100.0 * static_cast<double>(speculated.accepted_tokens) / static_cast<double>(speculated.draft_tokens) << "%";
  since_ = now;
  steps_ = status.steps;
  prompt_tokens_ = status.prompt_tokens;
  generation_tokens_ = status.generation_tokens;
  prefix_queries_ = status.prefix_queries;
  prefix_hits_ = status.prefix_hits;
  speculation_ = status.speculation;
  return text.str();
}

std::optional<std::chrono::milliseconds> ActivityLog::due_in(Time now, const EngineStatus& status) const {
  if (told_everything(status)) return std::nullopt;
  return std::max(std::chrono::milliseconds{0}, std::chrono::ceil<std::chrono::milliseconds>(since_ + kInterval - now));
}

void ActivityLog::resume(Time now, const EngineStatus& status) {
  if (told_everything(status)) since_ = now;
}

}  // namespace weir
