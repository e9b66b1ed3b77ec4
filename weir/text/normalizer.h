// Normalization Form C as Hugging Face `tokenizers` computes it (data of Unicode 9: later characters are left as they are).
#pragma once

#include <string>
#include <string_view>

namespace weir {

// Returns text when it is in NFC already (one pass, no copy: nearly all text is), else the normalised copy in storage.
// O(n log n), whatever the text.  REQUIRES: text is valid UTF-8
std::string_view nfc(std::string_view text, std::string& storage);

}  // namespace weir
