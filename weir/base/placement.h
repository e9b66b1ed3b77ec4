// Which core each compute thread runs on. Threads that follow each other work on neighbouring parts of every matrix, so a node's cores get
// consecutive threads: what such a thread packs, and by that first touches, lies in the memory of the node that later reads it.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace weir {

struct Core {
  int cpu;   // one logical CPU of it that may be used
  int node;  // NUMA node: its index, 0 when there is only one
  bool operator==(const Core&) const = default;
};

// Physical cores in the order of their nodes.
using Cores = std::vector<Core>;

// Those that this process may use, cgroup cpuset and affinity respected; at least one. Looked at once: a thread that has been bound would
// see only its own core.
const Cores& this_machine();
inline int num_physical_cores() { return static_cast<int>(this_machine().size()); }

// Those of a machine described as hwloc does, in its synthetic notation ("node:2 core:4 pu:2") or as XML; allowed: the logical CPUs that
// may be used, nullopt: all. Throws Error(kInvalidArgument) for what is no description.
Cores cores_of(const std::string& hwloc_description, const std::optional<std::vector<int>>& allowed = std::nullopt);

enum class NumaMode { kAuto, kDistribute, kIsolate, kOff };

struct Placement {
  int num_threads = 1;
  std::vector<int> cpus;  // of each thread; empty: they are not bound
  int num_nodes = 1;      // that they are on
  std::string notice;     // for the log, when there is something to say
};

// num_threads 0: one per core. Auto and distribute spread the threads over the nodes as evenly as their cores allow; isolate keeps to the
// node with the most cores (the lowest of equal ones); off takes the first cores, whatever their node. More threads than cores are never
// bound.
Placement place_threads(const Cores& cores, int num_threads, NumaMode mode, bool bind);

}  // namespace weir
