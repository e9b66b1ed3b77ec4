#include "weir/text/normalizer.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "weir/text/unicode.h"

namespace weir {
namespace {

using namespace unicode;

constexpr char32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTails = 0x11A7;  // kTails itself means "no tail"
constexpr char32_t kNumLeads = 19, kNumVowels = 21, kNumTails = 28, kNumSyllables = kNumLeads * kNumVowels * kNumTails;

struct Mark {
  char32_t code;
  uint8_t combining;
};

uint8_t combining_class(char32_t c) {
  constexpr char32_t kMask = (1u << kCombiningShift) - 1;
  return kCombining[(size_t{kCombiningBlock[c >> kCombiningShift]} << kCombiningShift) | (c & kMask)];
}

// Under NFC nothing before such a character acts on it or on what follows it, and it stays itself when it stands alone.
bool is_boundary(char32_t c) { return !(property(c) & 8); }

void decompose(char32_t c, std::vector<Mark>& out) {
  if (c >= kSyllables && c < kSyllables + kNumSyllables) {
    const char32_t index = c - kSyllables, tail = index % kNumTails;
    out.push_back({kLeads + index / (kNumVowels * kNumTails), 0});
    out.push_back({kVowels + index % (kNumVowels * kNumTails) / kNumTails, 0});
    if (tail) out.push_back({kTails + tail, 0});
    return;
  }
  const auto* found = std::lower_bound(std::begin(kDecompositions), std::end(kDecompositions), c,
                                       [](const Decomposition& d, char32_t code) { return d.code < code; });
  if (found == std::end(kDecompositions) || found->code != c) {
    out.push_back({c, combining_class(c)});
    return;
  }
  decompose(found->first, out);  // at most four deep in the whole table
  if (found->second) decompose(found->second, out);
}

// The primary composite of two characters, 0 if there is none.
char32_t compose(char32_t first, char32_t second) {
  if (first >= kLeads && first < kLeads + kNumLeads && second >= kVowels && second < kVowels + kNumVowels)
    return kSyllables + ((first - kLeads) * kNumVowels + (second - kVowels)) * kNumTails;
  if (first >= kSyllables && first < kSyllables + kNumSyllables && (first - kSyllables) % kNumTails == 0 && second > kTails &&
      second < kTails + kNumTails)
    return first + (second - kTails);
  const auto before = [](const Composition& a, const Composition& b) {
    return a.first != b.first ? a.first < b.first : a.second < b.second;
  };
  const auto* found = std::lower_bound(std::begin(kCompositions), std::end(kCompositions), Composition{first, second, 0}, before);
  return found != std::end(kCompositions) && found->first == first && found->second == second ? found->code : 0;
}

// Sorts each run of marks by class, keeping the order of equal ones.
void reorder(std::vector<Mark>& marks) {
  for (auto begin = marks.begin(); begin != marks.end();) {
    if (begin->combining == 0) {
      ++begin;
      continue;
    }
    const auto end = std::find_if(begin, marks.end(), [](const Mark& m) { return m.combining == 0; });
    std::stable_sort(begin, end, [](const Mark& a, const Mark& b) { return a.combining < b.combining; });
    begin = end;
  }
}

void recompose(const std::vector<Mark>& marks, std::string& out, std::u32string& composed) {
  composed.clear();
  size_t starter = std::u32string::npos;  // in composed
  uint8_t last = 0;                       // class of the last character kept after the starter
  bool adjacent = false;                  // nothing is kept after the starter
  for (const auto& [code, combining] : marks) {
    if (starter != std::u32string::npos && (adjacent || last < combining)) {
      if (const char32_t both = compose(composed[starter], code)) {
        composed[starter] = both;
        continue;
      }
    }
    if (combining == 0) {
      starter = composed.size();
      adjacent = true;
      last = 0;
    } else {
      adjacent = false;
      last = combining;
    }
    composed.push_back(code);
  }
  for (const char32_t c : composed) append_utf8(out, c);
}

}  // namespace

std::string_view nfc(std::string_view text, std::string& storage) {
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const char* copied = begin;  // up to here the result is in storage
  const char* boundary = begin;
  bool changed = false;
  std::vector<Mark> marks;
  std::u32string composed;
  for (const char* p = begin; p != end;) {
    const auto [code, size] = char_at(p);
    if (is_boundary(code)) {
      boundary = p;
      p += size;
      continue;
    }
    // From the boundary before to the boundary behind, the text is normalised by itself.
    if (!changed) storage.clear(), changed = true;
    storage.append(copied, boundary);
    marks.clear();
    for (p = boundary; p != end;) {
      const auto [next, next_size] = char_at(p);
      if (p != boundary && is_boundary(next)) break;
      decompose(next, marks);
      p += next_size;
    }
    copied = boundary = p;
    reorder(marks);
    recompose(marks, storage, composed);
  }
  if (!changed) return text;
  storage.append(copied, end);
  return storage;
}

}  // namespace weir
