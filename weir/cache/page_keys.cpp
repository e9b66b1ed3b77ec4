#include "weir/cache/page_keys.h"

#include "weir/base/check.h"
#include "weir/base/mix.h"

namespace weir {
namespace {

void absorb(PageKey& key, uint64_t word) {
  key.a = mix(key.a + word + kGolden);
  key.b = mix((key.b ^ word) * 0xd6e8feb86659fd93u + 0xa0761d6478bd642fu);
}

}  // namespace

PageKey root_key(std::string_view salt, uint64_t secret) {
  PageKey key{0x243f6a8885a308d3u, 0x13198a2e03707344u};
  absorb(key, secret);
  absorb(key, salt.size());
  for (const char c : salt) absorb(key, static_cast<unsigned char>(c));
  return key;
}

PageKey child_key(const PageKey& parent, std::span<const Token> page) {
  WEIR_CHECK(page.size() == kPageTokens, "a page of ", page.size(), " tokens");
  PageKey key = parent;
  for (size_t i = 0; i < page.size(); i += 2)
    absorb(key, static_cast<uint64_t>(static_cast<uint32_t>(page[i])) | static_cast<uint64_t>(static_cast<uint32_t>(page[i + 1])) << 32);
  return key;
}

void PageKeys::extend(std::span<const Token> text) {
  const size_t full = text.size() / kPageTokens;
  for (size_t page = keys_.size(); page < full; ++page)
    keys_.push_back(child_key(before(static_cast<int32_t>(page)), text.subspan(page * kPageTokens, kPageTokens)));
}

}  // namespace weir
