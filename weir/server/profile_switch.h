// How clients record what the engine spends its time on: POST /start_profile and /stop_profile, as of vLLM's server.
#pragma once

#include <functional>
#include <string>

namespace weir {

// Called on any thread; may throw Error. Empty: the server does not offer it.
struct ProfileSwitch {
  std::function<void()> start;
  std::function<std::string()> stop;  // -> a table for people
};

}  // namespace weir
