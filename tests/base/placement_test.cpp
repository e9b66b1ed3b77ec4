#include "weir/base/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "weir/base/error.h"

namespace weir {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::string kTwoNodes = "node:2 core:4 pu:2";  // 16 logical CPUs: 0 and 1 are of the first core, …, 8 and 9 of the first of node 1

std::vector<int> cpus(const Placement& placement) { return placement.cpus; }

TEST(Cores, AreTheFirstLogicalCpuOfEachCoreNodeByNode) {
  EXPECT_THAT(cores_of(kTwoNodes),
              ElementsAre(Core{0, 0}, Core{2, 0}, Core{4, 0}, Core{6, 0}, Core{8, 1}, Core{10, 1}, Core{12, 1}, Core{14, 1}));
  EXPECT_THAT(cores_of("core:2 pu:1"), ElementsAre(Core{0, 0}, Core{1, 0}));
}

TEST(Cores, AreOnlyThoseThatMayBeUsed) {
  EXPECT_THAT(cores_of(kTwoNodes, std::vector<int>{3, 4, 5, 15}), ElementsAre(Core{3, 0}, Core{4, 0}, Core{15, 1}))
      << "a core's second hardware thread if the first may not be used";
}

TEST(Cores, ComeFromXmlAsWell) {
  const std::string xml = R"(<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
  <object type="Machine" os_index="0" cpuset="0x0000000f" complete_cpuset="0x0000000f" allowed_cpuset="0x0000000f" nodeset="0x00000003" complete_nodeset="0x00000003" allowed_nodeset="0x00000003" gp_index="1">
    <object type="Package" os_index="0" cpuset="0x00000003" complete_cpuset="0x00000003" nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="2">
      <object type="NUMANode" os_index="0" cpuset="0x00000003" complete_cpuset="0x00000003" nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="3" local_memory="1073741824"/>
      <object type="Core" os_index="0" cpuset="0x00000001" complete_cpuset="0x00000001" nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="4">
        <object type="PU" os_index="0" cpuset="0x00000001" complete_cpuset="0x00000001" nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="5"/>
      </object>
      <object type="Core" os_index="1" cpuset="0x00000002" complete_cpuset="0x00000002" nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="6">
        <object type="PU" os_index="1" cpuset="0x00000002" complete_cpuset="0x00000002" nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="7"/>
      </object>
    </object>
    <object type="Package" os_index="1" cpuset="0x0000000c" complete_cpuset="0x0000000c" nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="8">
      <object type="NUMANode" os_index="1" cpuset="0x0000000c" complete_cpuset="0x0000000c" nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="9" local_memory="1073741824"/>
      <object type="Core" os_index="0" cpuset="0x0000000c" complete_cpuset="0x0000000c" nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="10">
        <object type="PU" os_index="2" cpuset="0x00000004" complete_cpuset="0x00000004" nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="11"/>
        <object type="PU" os_index="3" cpuset="0x00000008" complete_cpuset="0x00000008" nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="12"/>
      </object>
    </object>
  </object>
</topology>
)";
  EXPECT_THAT(cores_of(xml), ElementsAre(Core{0, 0}, Core{1, 0}, Core{2, 1}));
  EXPECT_THROW(cores_of("<topology>"), Error);
  EXPECT_THROW(cores_of("two nodes, please"), Error);
}

TEST(Placement, SpreadsThreadsEvenlyAndKeepsNeighboursOnANode) {
  const Cores cores = cores_of(kTwoNodes);
  for (const NumaMode mode : {NumaMode::kAuto, NumaMode::kDistribute}) {
    EXPECT_THAT(cpus(place_threads(cores, 0, mode, true)), ElementsAre(0, 2, 4, 6, 8, 10, 12, 14));
    EXPECT_THAT(cpus(place_threads(cores, 4, mode, true)), ElementsAre(0, 2, 8, 10));
    EXPECT_THAT(cpus(place_threads(cores, 3, mode, true)), ElementsAre(0, 2, 8));
  }
  const Placement uneven = place_threads(cores_of(kTwoNodes, std::vector<int>{0, 8, 10, 12, 14}), 4, NumaMode::kAuto, true);
  EXPECT_THAT(uneven.cpus, ElementsAre(0, 8, 10, 12)) << "the first node has one core";
  EXPECT_EQ(uneven.num_nodes, 2);
  EXPECT_THAT(uneven.notice, HasSubstr("4 threads on 2 of 2 NUMA nodes: 1 on node 0, 3 on node 1;"));
}

TEST(Placement, IsolatesOnTheLargestNode) {
  EXPECT_THAT(cpus(place_threads(cores_of(kTwoNodes), 0, NumaMode::kIsolate, true)), ElementsAre(0, 2, 4, 6)) << "the lowest of equal ones";
  const Placement second = place_threads(cores_of(kTwoNodes, std::vector<int>{0, 8, 10}), 0, NumaMode::kIsolate, true);
  EXPECT_THAT(second.cpus, ElementsAre(8, 10));
  EXPECT_EQ(second.num_threads, 2);
  EXPECT_EQ(second.num_nodes, 1);
  const Placement crowded = place_threads(cores_of(kTwoNodes), 6, NumaMode::kIsolate, true);
  EXPECT_THAT(crowded.cpus, IsEmpty());
  EXPECT_THAT(crowded.notice, HasSubstr("6 threads for 4 cores of one NUMA node"));
}

TEST(Placement, OffTakesTheFirstCores) {
  EXPECT_THAT(cpus(place_threads(cores_of(kTwoNodes), 5, NumaMode::kOff, true)), ElementsAre(0, 2, 4, 6, 8));
}

TEST(Placement, NothingIsBoundThatNeedNotBe) {
  const Cores cores = cores_of(kTwoNodes);
  EXPECT_THAT(cpus(place_threads(cores, 4, NumaMode::kAuto, /*bind=*/false)), IsEmpty());
  const Placement many = place_threads(cores, 20, NumaMode::kAuto, true);
  EXPECT_THAT(many.cpus, IsEmpty());
  EXPECT_EQ(many.num_threads, 20);
  EXPECT_THAT(many.notice, HasSubstr("20 threads for 8 cores"));
}

TEST(Placement, OneNodeIsAsBefore) {
  const Cores cores = cores_of("core:4 pu:2");
  for (const NumaMode mode : {NumaMode::kAuto, NumaMode::kDistribute, NumaMode::kIsolate, NumaMode::kOff}) {
    const Placement placement = place_threads(cores, 3, mode, true);
    EXPECT_THAT(placement.cpus, ElementsAre(0, 2, 4));
    EXPECT_EQ(placement.notice, "") << "nothing to say";
  }
}

TEST(Placement, ThisMachineHasCores) {
  EXPECT_GE(num_physical_cores(), 1);
  EXPECT_EQ(place_threads(this_machine(), 0, NumaMode::kAuto, true).num_threads, num_physical_cores());
}

}  // namespace
}  // namespace weir
