// How far the outputs of int8 matrices are from the float ones on real text: prompts run through the float model, layer by layer, and
// every matrix of the int8 model is given the same input as its float counterpart. Never more than one layer of both is in memory.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "weir/core/ids.h"
#include "weir/text/tokenizer.h"

namespace weir {

using Prompts = std::vector<std::vector<Token>>;

// At most so many tokens are run, and of one prompt; what is beyond is cut off.
constexpr size_t kCalibrationTokens = 2048, kCalibrationPrompt = 512;

// Of a file: *.jsonl has an object to a line with its text under "text" or "prompt"; any other file has a prompt to a line. Throws Error
// naming file and line.
Prompts read_calibration(const std::string& file, const Tokenizer& tokenizer);
// A few short texts of several kinds: prose, questions, code, figures, other scripts.
Prompts default_calibration(const Tokenizer& tokenizer);

struct OutputError {
  double relative = 0;  // sqrt(Σ (y_int8 - y)² / Σ y²) over all tokens that reached the matrix
  int64_t tokens = 0;
};

// By module (canonical name), for every int8 matrix of `quantized` that a token reached. `source` and `quantized` are directories of the
// same model. planned(layers) comes first, then progress() after every layer; both may be empty.
std::map<std::string, OutputError> measure_outputs(const std::string& source, const std::string& quantized, const Prompts& prompts,
                                                   int threads, const std::function<void(int64_t)>& planned,
                                                   const std::function<void()>& progress);

}  // namespace weir
