#include "weir/weights/names.h"

#include <array>

namespace weir {

std::string canonical_name(std::string_view file_name) {
  struct Rule {
    std::string_view prefix, canonical;
  };
  static constexpr std::array kRules = {
      Rule{"language_model.model.", "model.language_model."},
      Rule{"language_model.lm_head.", "lm_head."},
      Rule{"visual.", "model.visual."},
      Rule{"model.mtp.", "mtp."},
      Rule{"model.embed_tokens.", "model.language_model.embed_tokens."},
      Rule{"model.layers.", "model.language_model.layers."},
      Rule{"model.norm.", "model.language_model.norm."},
  };
  for (const Rule& rule : kRules) {
    if (file_name.starts_with(rule.prefix)) return std::string(rule.canonical).append(file_name.substr(rule.prefix.size()));
  }
  return std::string(file_name);
}

std::string shown(std::string_view text) {
  constexpr size_t kMaxShown = 200;
  std::string out = "'";
  for (const char c : text.substr(0, kMaxShown)) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return out += text.size() > kMaxShown ? "…'" : "'";
}

}  // namespace weir
