#include "weir/text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "weir/text/unicode.h"

namespace weir {
namespace {

std::shared_ptr<const Tokenizer> weir_tiny() {
  static const auto tokenizer = Tokenizer::load(WEIR_SOURCE_DIR "/models/weir-tiny");
  return tokenizer;
}

bool is_utf8(std::string_view text) {
  std::string storage;
  return unicode::replace_invalid_utf8(text, storage).data() == text.data();
}

TEST(Detokenizer, HoldsBackAnUnfinishedCharacter) {
  const auto tokenizer = weir_tiny();
  Detokenizer detokenizer(tokenizer, false);
  std::vector<int32_t> bytes;
  for (const char c : std::string("\U0001F600")) bytes.push_back(tokenizer->find({&c, 1}).value());
  EXPECT_EQ(detokenizer.push(bytes[0]), "");
  EXPECT_EQ(detokenizer.push(bytes[1]), "");
  EXPECT_EQ(detokenizer.push(bytes[2]), "");
  EXPECT_EQ(detokenizer.push(bytes[3]), "\U0001F600");
  EXPECT_EQ(detokenizer.finish(), "");
}

TEST(Detokenizer, ReplacesWhatNeverBecameACharacter) {
  const auto tokenizer = weir_tiny();
  Detokenizer detokenizer(tokenizer, false);
  const auto push = [&](const char* byte) { return detokenizer.push(tokenizer->find({byte, 1}).value()); };
  EXPECT_EQ(push("\xF0"), "");
  EXPECT_EQ(push("\x9F"), "");
  EXPECT_EQ(push("a"), "\uFFFDa");
  EXPECT_EQ(push("\xE4"), "");
  EXPECT_EQ(detokenizer.finish(), "\uFFFD");
  EXPECT_EQ(detokenizer.finish(), "") << "nothing is left";
}

TEST(Detokenizer, PiecesJoinedEqualTheDecodedWhole) {
  const auto tokenizer = weir_tiny();
  std::mt19937 rng(1);
  for (int round = 0; round < 2000; ++round) {
    const bool skip_special = round % 2 == 0;
    // Of the first 256 ids each is one byte: drawn alone they are mostly bad UTF-8. Ids without a token give nothing.
    const int32_t bound = round % 3 == 0 ? 256 : tokenizer->size() + 2;
    std::vector<int32_t> tokens(rng() % 40);
    for (auto& token : tokens) token = static_cast<int32_t>(rng() % static_cast<uint32_t>(bound));
    Detokenizer detokenizer(tokenizer, skip_special);
    std::string joined;
    for (const int32_t token : tokens) {
      const std::string piece = detokenizer.push(token);
      ASSERT_TRUE(is_utf8(piece));
      joined += piece;
    }
    joined += detokenizer.finish();
    ASSERT_EQ(joined, tokenizer->decode(tokens, skip_special)) << "round " << round;
  }
}

}  // namespace
}  // namespace weir
