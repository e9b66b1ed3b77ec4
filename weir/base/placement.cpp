#include "weir/base/placement.h"

#include <hwloc.h>
#include <sched.h>

#include <algorithm>
#include <map>
#include <memory>

#include "weir/base/error.h"

namespace weir {
namespace {

using Topology = std::unique_ptr<hwloc_topology, void (*)(hwloc_topology_t)>;

Topology new_topology() {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) return {nullptr, hwloc_topology_destroy};
  return {topology, hwloc_topology_destroy};
}

template <class Allowed>
Cores cores_in(hwloc_topology_t topology, const Allowed& is_allowed) {
  Cores out;
  hwloc_obj_t core = nullptr;
  while ((core = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_CORE, core)) != nullptr) {
    int node = 0;
    for (int i = 0; i < hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE); ++i)
      if (hwloc_bitmap_intersects(hwloc_get_obj_by_type(topology, HWLOC_OBJ_NUMANODE, static_cast<unsigned>(i))->cpuset, core->cpuset) !=
          0) {
        node = i;
        break;
      }
    // The first CPU of the core that may be used: the cpuset may hold only its second hardware thread.
    for (int cpu = hwloc_bitmap_first(core->cpuset); cpu >= 0; cpu = hwloc_bitmap_next(core->cpuset, cpu)) {
      if (!is_allowed(cpu)) continue;
      out.push_back({cpu, node});
      break;
    }
  }
  std::stable_sort(out.begin(), out.end(), [](const Core& a, const Core& b) { return a.node < b.node; });
  return out;
}

Cores look_at_machine() {
  cpu_set_t affinity;
  CPU_ZERO(&affinity);
  const bool known = sched_getaffinity(0, sizeof(affinity), &affinity) == 0;
  const auto is_allowed = [&](int cpu) { return !known || (cpu < CPU_SETSIZE && CPU_ISSET(cpu, &affinity)); };
  Cores out;
  if (const Topology topology = new_topology(); topology && hwloc_topology_load(topology.get()) == 0)
    out = cores_in(topology.get(), is_allowed);
  for (int cpu = 0; known && out.empty() && cpu < CPU_SETSIZE; ++cpu)  // a machine that hwloc does not understand
    if (CPU_ISSET(cpu, &affinity)) out.push_back({cpu, 0});
  if (out.empty()) out.push_back({0, 0});
  return out;
}

// Runs of cores, one for each node: [begin, end).
std::vector<std::pair<size_t, size_t>> nodes_of(const Cores& cores) {
  std::vector<std::pair<size_t, size_t>> out;
  for (size_t i = 0; i < cores.size(); ++i) {
    if (i == 0 || cores[i].node != cores[i - 1].node) out.emplace_back(i, i);
    out.back().second = i + 1;
  }
  return out;
}

Cores largest_node(const Cores& cores) {
  const auto nodes = nodes_of(cores);
  const auto largest =
      std::max_element(nodes.begin(), nodes.end(), [](const auto& a, const auto& b) { return a.second - a.first < b.second - b.first; });
  return {cores.begin() + static_cast<ptrdiff_t>(largest->first), cores.begin() + static_cast<ptrdiff_t>(largest->second)};
}

// So many cores, from all nodes as evenly as they have them.
Cores spread(const Cores& cores, size_t count) {
  const auto nodes = nodes_of(cores);
  std::vector<size_t> taken(nodes.size());
  for (size_t left = count; left > 0;)
    for (size_t n = 0; n < nodes.size() && left > 0; ++n)
      if (taken[n] < nodes[n].second - nodes[n].first) ++taken[n], --left;
  Cores out;
  for (size_t n = 0; n < nodes.size(); ++n)
    for (size_t i = 0; i < taken[n]; ++i) out.push_back(cores[nodes[n].first + i]);
  return out;
}

}  // namespace

const Cores& this_machine() {
  static const Cores cores = look_at_machine();
  return cores;
}

Cores cores_of(const std::string& description, const std::optional<std::vector<int>>& allowed) {
  const Topology topology = new_topology();
  const bool is_xml = description.starts_with('<');
  const int set = !topology ? -1
                  : is_xml  ? hwloc_topology_set_xmlbuffer(topology.get(), description.c_str(), static_cast<int>(description.size()) + 1)
                            : hwloc_topology_set_synthetic(topology.get(), description.c_str());
  if (set != 0 || hwloc_topology_load(topology.get()) != 0)
    fail(ErrorCode::kInvalidArgument, "not a description of a machine: ", description.substr(0, 200));
  return cores_in(topology.get(), [&](int cpu) { return !allowed || std::find(allowed->begin(), allowed->end(), cpu) != allowed->end(); });
}

Placement place_threads(const Cores& all, int num_threads, NumaMode mode, bool bind) {
  const size_t num_nodes = nodes_of(all).size();
  const Cores cores = mode == NumaMode::kIsolate ? largest_node(all) : all;
  Placement out{.num_threads = num_threads > 0 ? num_threads : static_cast<int>(cores.size())};
  const auto count = static_cast<size_t>(out.num_threads);
  if (!bind || count > cores.size()) {
    out.num_nodes = static_cast<int>(num_nodes);
    if (count > cores.size())
      out.notice = concat(count, " threads for ", cores.size(), cores.size() == 1 ? " core" : " cores",
                          mode == NumaMode::kIsolate && num_nodes > 1 ? " of one NUMA node" : "", ": they are not bound to cores");
    else if (num_nodes > 1)
      out.notice = concat(count, " threads are not bound to cores; this machine has ", num_nodes, " NUMA nodes");
    return out;
  }
  const Cores chosen = mode == NumaMode::kOff ? Cores(cores.begin(), cores.begin() + static_cast<ptrdiff_t>(count)) : spread(cores, count);
  std::map<int, int> per_node;
  for (const Core& core : chosen) {
    out.cpus.push_back(core.cpu);
    ++per_node[core.node];
  }
  out.num_nodes = static_cast<int>(per_node.size());
  if (num_nodes > 1) {
    out.notice = concat(count, " threads on ", per_node.size(), " of ", num_nodes, " NUMA nodes:");
    for (const auto& [node, threads] : per_node) out.notice += concat(" ", threads, " on node ", node, ",");
    out.notice.back() = ';';
    out.notice += " each node reads the weights that its threads have packed";
  }
  return out;
}

}  // namespace weir
