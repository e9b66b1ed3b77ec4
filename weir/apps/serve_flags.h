// The command line of `weir serve` as the options of the engine and of the HTTP server.
#pragma once

#include "weir/apps/environment.h"
#include "weir/apps/flags.h"
#include "weir/apps/local_engine.h"
#include "weir/apps/profiling.h"
#include "weir/server/http_server.h"

namespace weir {

struct ServeOptions {
  EngineOptions engine;
  ServerOptions server;
  ProfilingOptions profiling;
};

// Throws UsageError; flags that weir accepts without having built them are compat_flags.h's business.
LogLevel serve_log_level(const Flags& flags, const EnvironmentReview& environment);
ServeOptions serve_options(const Flags& flags, const EnvironmentReview& environment);

}  // namespace weir
