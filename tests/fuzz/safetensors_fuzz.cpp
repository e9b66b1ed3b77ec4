// A whole safetensors file. What is accepted must lie inside the file and fit its shape.
#include <span>

#include "fuzz_input.h"
#include "weir/base/check.h"
#include "weir/weights/names.h"
#include "weir/weights/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  weir::expect_answer_or_error([&] {
    for (const weir::TensorHeader& t : weir::parse_safetensors(std::as_bytes(std::span(data, size)), "fuzz.safetensors")) {
      WEIR_CHECK(t.begin <= t.end && t.end <= size);
      WEIR_CHECK(t.end - t.begin == static_cast<uint64_t>(t.shape.numel() * weir::element_size(t.dtype)));
      weir::canonical_name(t.name);
    }
  });
  return 0;
}
