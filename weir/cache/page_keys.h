// Names of prefixes: one key per full page of a text, each a hash of everything up to the end of that page. Equal on every machine and
// in every run that has the same secret, so that keys may travel and be stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "weir/core/config.h"
#include "weir/core/ids.h"
#include "weir/core/tier.h"

namespace weir {

// The key of the empty prefix of texts with this salt: texts with different salts share nothing. Whoever does not know the secret cannot
// make two texts that have one key.
PageKey root_key(std::string_view salt, uint64_t secret);

// The key of `parent`'s prefix and one more page. REQUIRES: page.size() == kPageTokens
PageKey child_key(const PageKey& parent, std::span<const Token> page);

// The keys of a text that grows at its end.
class PageKeys {
 public:
  explicit PageKeys(std::string_view salt = {}, uint64_t secret = 0) : root_(root_key(salt, secret)) {}

  // Adds the keys of the full pages of `text` that it does not have yet. REQUIRES: `text` begins with what was given before.
  void extend(std::span<const Token> text);

  const PageKey& root() const { return root_; }
  const PageKey& operator[](int32_t page) const { return keys_[static_cast<size_t>(page)]; }
  const PageKey& before(int32_t page) const { return page == 0 ? root_ : (*this)[page - 1]; }
  int32_t size() const { return static_cast<int32_t>(keys_.size()); }

 private:
  PageKey root_;
  std::vector<PageKey> keys_;
};

}  // namespace weir
