#include "weir/runtime/memory_plan.h"

#include <algorithm>
#include <fstream>
#include <iomanip>
#include <sstream>

#include "weir/base/error.h"
#include "weir/core/config.h"
#include "weir/models/qwen3_5.h"
#include "weir/runtime/draft_backlog.h"

namespace weir {
namespace {

constexpr int64_t kUnlimited = int64_t{1} << 60;
constexpr int64_t kMostChosenSnapshots = 4096;

// A number in a file of one word; kUnlimited when it is absent or "max".
int64_t read_limit(const std::string& path) {
  std::ifstream in(path);
  int64_t value = 0;
  return in >> value && value > 0 && value < kUnlimited ? value : kUnlimited;
}

int64_t cgroup_room() {
  // Version 2: every level of this process's path may have a limit. Version 1: the memory controller's.
  int64_t room = kUnlimited;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (!line.starts_with("0::")) continue;
    for (std::string path = line.substr(3);; path = path.substr(0, path.rfind('/'))) {
      const std::string dir = "/sys/fs/cgroup" + (path == "/" ? "" : path);
      const int64_t limit = read_limit(dir + "/memory.max");
      if (limit < kUnlimited) {
        const int64_t used = read_limit(dir + "/memory.current");
        room = std::min(room, limit - (used < kUnlimited ? used : 0));
      }
      if (path.empty() || path == "/") break;
    }
  }
  const int64_t limit = read_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes");
  if (limit < kUnlimited) {
    const int64_t used = read_limit("/sys/fs/cgroup/memory/memory.usage_in_bytes");
    room = std::min(room, limit - (used < kUnlimited ? used : 0));
  }
  return room;
}

int64_t machine_room() {
  std::ifstream in("/proc/meminfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("MemAvailable:")) return std::stoll(line.substr(13)) * 1024;
  return kUnlimited;
}

std::string human(int64_t bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(2);
  if (bytes >= (int64_t{1} << 30))
    out << static_cast<double>(bytes) / static_cast<double>(1 << 30) << " GiB";
  else
    out << static_cast<double>(bytes) / static_cast<double>(1 << 20) << " MiB";
  return out.str();
}

}  // namespace

int64_t available_memory() { return std::max<int64_t>(0, std::min(cgroup_room(), machine_room())); }

MemoryPlan plan_memory(const ModelConfig& config, const MemoryRequest& request) {
  MemoryPlan plan;
  plan.budget = request.budget;
  plan.weights = packed_weight_bytes(config, request.compute, request.with_mtp, request.coding) - request.int8_saving;
  const int32_t sampled = request.with_mtp ? std::max(request.max_num_seqs, 1 + kMaxDrafts) : request.max_num_seqs;
  plan.activations = activation_bytes(config, request.max_num_batched_tokens, sampled, request.threads, request.with_mtp);
  plan.page_bytes = kv_bytes_per_token(config, request.types.kv, request.with_mtp) * kPageTokens;
  plan.slot_bytes = state_bytes_per_slot(config, request.types.state);
  // With a slot goes what waits for the draft head.
  const int64_t slot_size = std::max<int64_t>(plan.slot_bytes + (request.with_mtp ? DraftBacklog::bytes_per_slot(config.hidden) : 0), 1);
  plan.types = request.types;
  plan.max_num_seqs = request.max_num_seqs;
  plan.max_model_len = request.max_model_len > 0 ? request.max_model_len : static_cast<int32_t>(config.max_position);

  const int64_t fixed = plan.weights + plan.activations;
  const int64_t room = request.cache_bytes > 0 ? request.cache_bytes : request.budget - fixed;
  const int64_t one_page = std::max<int64_t>(plan.page_bytes, 1), least = slot_size + one_page * 4;
  if (room < least)
    fail(ErrorCode::kResourceExhausted, "weights (", human(plan.weights), ") and activations (", human(plan.activations), ") leave ",
         human(room), " of ", human(request.budget), " for the caches; at least ", human(least),
         " are needed. Lower --max-num-batched-tokens (", request.max_num_batched_tokens,
         "), raise --memory-utilization, or use a machine with ", human(fixed + least), " free");

  // Slots first, at most half of the room: a sequence without a slot cannot run, a sequence with few pages can wait for more.
  const int64_t slots_that_fit = std::max<int64_t>(1, room / 2 / slot_size);
  if (slots_that_fit < plan.max_num_seqs) {
    plan.notice += concat("--max-num-seqs lowered from ", plan.max_num_seqs, " to ", slots_that_fit,
                          ": a sequence's delta-net state takes ", human(plan.slot_bytes), ". ");
    plan.max_num_seqs = static_cast<int32_t>(slots_that_fit);
  }
  // Then snapshots: what is asked for, else a quarter of the room. Whatever is asked for, a quarter is left to pages.
  const int64_t live = plan.max_num_seqs * slot_size;
  const int64_t most_snapshots = std::max<int64_t>(0, room - room / 4 - live) / slot_size;
  const int64_t longest_prompt =
      pages_for(request.max_model_len) * one_page;  // a length that was asked for goes before snapshots that were not
  const int64_t chosen =
      std::min({room / 4 / slot_size, std::max<int64_t>(0, room - live - longest_prompt) / slot_size, kMostChosenSnapshots});
  const int64_t snapshots = request.num_snapshots.value_or(static_cast<int32_t>(chosen));
  plan.num_snapshots = static_cast<int32_t>(std::min(snapshots, most_snapshots));
  if (request.num_snapshots && plan.num_snapshots < snapshots)
    plan.notice +=
        concat("--num-state-snapshots lowered from ", snapshots, " to ", plan.num_snapshots, ": ", human(plan.slot_bytes), " each. ");
  plan.num_slots = plan.max_num_seqs + plan.num_snapshots;
  plan.slots = plan.num_slots * slot_size;

  const int64_t page_room = (room - plan.slots) / one_page;
  const int64_t wanted = int64_t{pages_for(plan.max_model_len)} * plan.max_num_seqs;  // more could never be used
  plan.num_pages = static_cast<int32_t>(std::min<int64_t>({page_room, wanted, int64_t{1} << 30}));
  plan.pages = plan.num_pages * plan.page_bytes;
  const int64_t longest = int64_t{plan.num_pages} * kPageTokens;
  if (longest < plan.max_model_len) {
    if (request.max_model_len > 0)
      fail(ErrorCode::kResourceExhausted, "--max-model-len ", request.max_model_len, " needs ",
           human(pages_for(request.max_model_len) * plan.page_bytes), " of KV pages, ", human(room - plan.slots),
           " are left; --max-model-len ", longest, " fits");
    plan.notice += concat("--max-model-len lowered from ", plan.max_model_len, " to ", longest, ", which fits the KV pages. ");
    plan.max_model_len = static_cast<int32_t>(longest);
  }
  return plan;
}

std::string MemoryPlan::str() const {
  std::ostringstream out;
  const auto row = [&](const char* what, int64_t bytes, const std::string& detail) {
    out << "\n  " << std::left << std::setw(12) << what << std::right << std::setw(12) << human(bytes) << "   " << detail;
  };
  out << "Memory plan (" << human(total()) << " of " << human(budget) << " allowed):";
  row("weights", weights, "packed for the kernels");
  row("KV pages", pages,
      concat(num_pages, " pages of ", kPageTokens, " tokens = ", int64_t{num_pages} * kPageTokens, " tokens, ", human(page_bytes),
             " each, ", name(types.kv)));
  row("state slots", slots,
      concat(max_num_seqs, " sequences and ", num_snapshots, " snapshots, ", human(slot_bytes), " each, ", name(types.state)));
  row("activations", activations, "reserved, touched as needed");
  return out.str();
}

}  // namespace weir
