// The seam between an engine and its ranks: local threads, or processes on other machines.
#pragma once

#include "weir/core/plan.h"

namespace weir {

class Executor {
 public:
  virtual ~Executor() = default;

  // Every rank executes the plan: forward, sample. Called by the engine thread only, one plan at a time.
  // A failure of one row is in its RowResult; a failure of the whole step throws Error and fails all rows of the plan.
  // kUnavailable means that ranks are lost for good: the engine fails everything and takes no more requests.
  // storage: the result of an earlier step, whose memory may be used again; what it says is forgotten.
  virtual StepResult run(const StepPlan& plan, StepResult storage) = 0;

  // Nothing is to be run for now: does a piece, some milliseconds long, of what makes later steps faster. False: there is nothing left.
  virtual bool prepare() { return false; }

  // What the ranks' second tier has from an earlier run. Called once, before the first plan.
  virtual std::vector<TierEntry> tier_entries() { return {}; }
};

}  // namespace weir
