// What the command line of `weir bench serve` means, checked before anything is sent.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "weir/apps/bench_client.h"
#include "weir/apps/bench_report.h"
#include "weir/apps/flags.h"

namespace weir {

struct SaveOptions {
  bool save = false, detailed = false, append = false;
  std::string directory;                // empty: the current one
  std::optional<std::string> filename;  // nullopt: result_filename()
};

struct BenchServeOptions {
  LoadTarget target;
  ServeSetup setup;                        // model_id, tokenizer_id and date are still empty unless flags give them
  std::optional<std::string> model;        // nullopt: the server's first
  std::optional<std::string> served_name;  // for requests, instead of model
  std::optional<std::string> tokenizer;
  Json body;  // what every request's body holds beside model, prompt and length
  Goodput goodput;
  SaveOptions save;
  int64_t num_warmups = 0;
  std::chrono::seconds ready_timeout{0};  // 0: the server is not asked
  bool profile = false, progress = true;
  uint64_t seed = 0;
};

// api_key: sent as a bearer token when not empty. Throws UsageError.
BenchServeOptions bench_serve_options(const Flags& flags, const std::string& api_key);

}  // namespace weir
