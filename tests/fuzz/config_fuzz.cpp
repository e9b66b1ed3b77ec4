// JSON text, read generally and as a model's config.json. What is printed again must read as the same value.
#include <string>

#include "fuzz_input.h"
#include "weir/base/json.h"
#include "weir/models/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = weir::text_of(data, size);
  bool is_json = false;
  weir::expect_answer_or_error([&] {
    const weir::Json value = weir::parse_json(text, "fuzz");
    is_json = true;
    WEIR_CHECK(weir::parse_json(weir::dump_json(value), "again") == value);
  });
  if (!is_json) return 0;
  static const weir::ModelDir kDir;
  kDir.write("config.json", text);
  weir::expect_answer_or_error([&] {
    const weir::ModelConfig config = weir::read_model_config(kDir.path());
    WEIR_CHECK(!config.layers.empty() && config.hidden > 0 && config.vocab_size > 0);
    weir::kv_bytes_per_token(config, weir::DType::kI8);
    weir::state_bytes_per_slot(config, weir::DType::kBF16);
  });
  return 0;
}
