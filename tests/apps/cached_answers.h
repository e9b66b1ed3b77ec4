// A real model behind a scheduler whose prefix cache is on, with pools from roomy to so small that everything is evicted and preempted all
// the time, against the same model computing every request alone and cold. Drawn from a seed; a few seeds are a test, endless ones a soak.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "weir/runtime/model_runner.h"

namespace weir::testing {

struct CachedCounts {
  int64_t requests = 0, prompt_tokens = 0, cached_tokens = 0, tier_tokens = 0, preemptions = 0, drafted = 0, accepted = 0;
};

class CachedAnswers {
 public:
  CachedAnswers(std::string checkpoint_dir, DType compute) : CachedAnswers(std::move(checkpoint_dir), compute, {.kv = compute}) {}
  CachedAnswers(std::string checkpoint_dir, DType compute, const CacheTypes& types);

  // Texts that repeat, continue and leave each other, of up to `longest` tokens. A bit that differs is a gtest failure.
  CachedCounts run_case(uint32_t seed, int32_t longest);

 private:
  std::unique_ptr<ModelRunner> make_runner(const CacheConfig& cache, bool with_mtp) const;

  std::string dir_;
  DType compute_;
  CacheTypes types_;
  std::unique_ptr<ModelRunner> cold_;
};

}  // namespace weir::testing
