#include "weir/text/tokenizer_vocabulary.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "weir/base/check.h"
#include "weir/text/unicode.h"

namespace weir {
namespace {

// Code point -> byte + 1, 0 for characters that spell no byte. Printable Latin-1 spells itself; the others, in their order, are U+0100 and
// on.
constexpr auto kSpelledByte = [] {
  std::array<uint16_t, 0x144> table{};
  uint16_t next = 0x100;
  for (uint16_t b = 0; b < 256; ++b) {
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    table[printable ? b : next++] = static_cast<uint16_t>(b + 1);
  }
  return table;
}();

uint64_t hash_of(std::string_view bytes) {
  constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15;
  const auto mix = [](uint64_t a) { return std::rotl(a * kMultiplier, 29); };
  uint64_t h = bytes.size();
  const char* p = bytes.data();
  size_t left = bytes.size();
  uint64_t word;
  for (; left >= 8; p += 8, left -= 8) {
    std::memcpy(&word, p, 8);
    h = mix(h ^ word);
  }
  word = 0;
  if (left) std::memcpy(&word, p, left);
  h = mix(h ^ word);
  return (h ^ h >> 32) * kMultiplier;
}

}  // namespace

bool append_spelled_bytes(std::string_view letters, std::string& out) {
  const size_t before = out.size();
  const char* const end = letters.data() + letters.size();
  for (const char* p = letters.data(); p != end;) {
    const auto [code, size] = unicode::char_at(p);
    if (code >= kSpelledByte.size() || !kSpelledByte[code]) {
      out.resize(before);
      out += letters;
      return false;
    }
    out.push_back(static_cast<char>(static_cast<uint8_t>(kSpelledByte[code] - 1)));
    p += size;
  }
  return true;
}

void Vocabulary::reserve(size_t tokens) {
  text_.reserve(tokens * 8);  // about the mean length of a token
  entries_.reserve(tokens);
  slots_.assign(std::bit_ceil(std::max<size_t>(tokens * 2, 16)), Slot{});
}

void Vocabulary::add(int32_t id, std::string_view bytes, bool spelled) {
  WEIR_CHECK(id >= 0 && id <= kMaxId && !has(id), "id ", id);
  if (id >= size()) entries_.resize(static_cast<size_t>(id) + 1);
  auto& entry = entries_[static_cast<size_t>(id)];
  entry.offset = static_cast<uint32_t>(text_.size());
  entry.length = static_cast<uint32_t>(bytes.size()) & 0x3FFFFFFF;
  entry.present = true;
  entry.spelled = spelled;
  text_ += bytes;
  if (!spelled) return;
  if (++num_spelled_ * 2 > slots_.size()) {
    slots_.assign(std::max<size_t>(slots_.size() * 2, 16), Slot{});
    for (int32_t other = 0; other < size(); ++other)
      if (other != id && is_spelled(other)) insert(other);
  }
  insert(id);
}

size_t Vocabulary::home(uint64_t hash) const { return hash >> (64 - std::countr_zero(slots_.size())); }

void Vocabulary::insert(int32_t id) {
  const uint64_t hash = hash_of(bytes(id));
  size_t slot = home(hash);
  while (slots_[slot].id >= 0) slot = (slot + 1) & (slots_.size() - 1);
  slots_[slot] = {id, static_cast<uint32_t>(hash)};
}

std::string_view Vocabulary::bytes(int32_t id) const {
  if (!has(id)) return {};
  const auto& entry = entries_[static_cast<size_t>(id)];
  return std::string_view(text_).substr(entry.offset, entry.length);
}

std::optional<int32_t> Vocabulary::find(std::string_view wanted) const {
  if (slots_.empty()) return std::nullopt;
  const uint64_t hash = hash_of(wanted);
  for (size_t slot = home(hash); slots_[slot].id >= 0; slot = (slot + 1) & (slots_.size() - 1))
    if (slots_[slot].tag == static_cast<uint32_t>(hash) && bytes(slots_[slot].id) == wanted) return slots_[slot].id;
  return std::nullopt;
}

}  // namespace weir
