#include "weir/text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "weir/base/json.h"
#include "weir/text/tokenizer_bpe.h"
#include "weir/text/tokenizer_vocabulary.h"

namespace weir {
namespace {

std::shared_ptr<const Tokenizer> weir_tiny() {
  static const auto tokenizer = Tokenizer::load(WEIR_SOURCE_DIR "/models/weir-tiny");
  return tokenizer;
}

TEST(Tokenizer, AgreesWithHuggingFaceOnTheGoldenTexts) {
  const Json golden = read_json_file(WEIR_SOURCE_DIR "/tests/text/golden/tokenizer_weir_tiny.json");
  ASSERT_GT(golden.at("cases").size(), 500u);
  for (const auto& item : golden.at("cases")) {
    const auto text = item.at("text").get<std::string>();
    const auto ids = weir_tiny()->encode(text);
    ASSERT_EQ(ids, item.at("ids").get<std::vector<int32_t>>()) << text;
    ASSERT_EQ(weir_tiny()->decode(ids, true), item.at("decoded").get<std::string>()) << text;
  }
}

TEST(Tokenizer, FindsAddedTokensOnlyWhenAsked) {
  const auto end = weir_tiny()->find("<|im_end|>").value();
  EXPECT_EQ(weir_tiny()->encode("<|im_end|>"), std::vector<int32_t>{end});
  EXPECT_GT(weir_tiny()->encode("<|im_end|>", false).size(), 1u);
  EXPECT_EQ(weir_tiny()->decode(weir_tiny()->encode("<|im_end|>", false), true), "<|im_end|>");
}

TEST(Tokenizer, SkipsTheSpecialOfTheAddedTokens) {
  const auto ids = weir_tiny()->encode("<think>yes</think><|im_end|>");
  EXPECT_EQ(weir_tiny()->decode(ids, true), "<think>yes</think>");
  EXPECT_EQ(weir_tiny()->decode(ids, false), "<think>yes</think><|im_end|>");
  EXPECT_TRUE(weir_tiny()->is_special(weir_tiny()->find("<|im_end|>").value()));
  EXPECT_FALSE(weir_tiny()->is_special(weir_tiny()->find("<think>").value()));
}

TEST(Tokenizer, IdsWithoutATokenGiveNothing) {
  const int32_t size = weir_tiny()->size();
  for (const int32_t id : {-1, size, size + 1000, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()}) {
    EXPECT_EQ(weir_tiny()->bytes(id), "");
    EXPECT_EQ(weir_tiny()->token_text(id), "");
    EXPECT_FALSE(weir_tiny()->is_special(id));
    EXPECT_EQ(weir_tiny()->decode(std::vector<int32_t>{id}, false), "");
  }
}

TEST(Tokenizer, FindsEveryTokenByItsBytes) {
  for (int32_t id = 0; id < weir_tiny()->size(); ++id) ASSERT_EQ(weir_tiny()->find(weir_tiny()->bytes(id)), id);
  EXPECT_EQ(weir_tiny()->find("no such token"), std::nullopt);
}

TEST(Tokenizer, ShowsPartOfACharacterAsReplacement) {
  const char lead = '\xF0';
  const auto id = weir_tiny()->find({&lead, 1}).value();
  EXPECT_EQ(weir_tiny()->bytes(id), std::string_view(&lead, 1));
  EXPECT_EQ(weir_tiny()->token_text(id), "\uFFFD");
}

TEST(Tokenizer, InvalidUtf8IsEncodedAsReplacement) { EXPECT_EQ(weir_tiny()->encode("a\xE4\xBDz"), weir_tiny()->encode("a\uFFFDz")); }

TEST(Tokenizer, AMegabytePieceTakesNoQuadraticTime) {
  for (const char* unit : {"a", "ab", "=", " ", "\n", "\u4F60", "e\u0301", "<", "<|im_"}) {
    std::string text;
    while (text.size() < 1 << 20) text += unit;
    const auto ids = weir_tiny()->encode(text);
    const std::string decoded = weir_tiny()->decode(ids, false);
    EXPECT_EQ(weir_tiny()->encode(decoded), ids) << unit;
  }
}

TEST(Tokenizer, ThreadsShareIt) {
  const auto tokenizer = Tokenizer::load(WEIR_SOURCE_DIR "/models/weir-tiny");
  const std::string text = "The quick brown fox, the slow one and 42 others: it's all the same to them.";
  const auto want = weir_tiny()->encode(text);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int& count : wrong)
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) count += tokenizer->encode(text) != want;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
}

// The definition of byte pair encoding, without cleverness.
std::vector<int32_t> merge_naively(std::vector<int32_t> ids, const std::vector<std::array<int32_t, 3>>& merges) {
  for (;;) {
    size_t best_rank = merges.size(), best = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i)
      for (size_t rank = 0; rank < best_rank; ++rank)
        if (merges[rank][0] == ids[i] && merges[rank][1] == ids[i + 1]) best_rank = rank, best = i;
    if (best_rank == merges.size()) return ids;
    ids[best] = merges[best_rank][2];
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
}

TEST(Bpe, AgreesWithANaiveModelForShortAndLongPieces) {
  std::mt19937 rng(7);
  const auto pick = [&](size_t n) { return static_cast<size_t>(rng() % n); };
  for (int round = 0; round < 20; ++round) {
    Vocabulary vocabulary;
    for (int b = 0; b < 256; ++b) {
      const char byte = static_cast<char>(b);
      vocabulary.add(b, {&byte, 1}, true);
    }
    // Random merges over a small alphabet, in random order: also such that a token is the result of several of them.
    std::vector<int32_t> tokens{'a', 'b', 'c'};
    std::vector<std::array<int32_t, 3>> merges;
    for (int i = 0; i < 60; ++i) {
      const int32_t left = tokens[pick(tokens.size())], right = tokens[pick(tokens.size())];
      bool known = false;
      for (const auto& merge : merges) known |= merge[0] == left && merge[1] == right;
      const std::string bytes = std::string(vocabulary.bytes(left)) + std::string(vocabulary.bytes(right));
      if (known || bytes.size() > 12) continue;
      auto result = vocabulary.find(bytes);
      if (!result) {
        result = vocabulary.size();
        vocabulary.add(*result, bytes, true);
        tokens.push_back(*result);
      }
      merges.push_back({left, right, *result});
    }
    std::shuffle(merges.begin(), merges.end(), rng);
    Bpe bpe(vocabulary, false, 4);
    for (const auto& [left, right, result] : merges) bpe.add_merge(left, right, result);
    Bpe::Scratch scratch;
    for (int i = 0; i < 100; ++i) {
      std::string piece;
      for (size_t n = 1 + pick(i % 4 == 0 ? 300 : 20); n > 0; --n) piece += static_cast<char>('a' + pick(3));
      std::vector<int32_t> got;
      bpe.encode(piece, scratch, got);
      ASSERT_EQ(got, merge_naively({piece.begin(), piece.end()}, merges)) << piece;
      std::vector<int32_t> again;
      bpe.encode(piece, scratch, again);
      ASSERT_EQ(again, got) << "what was learnt of the piece changed the result: " << piece;
    }
  }
}

}  // namespace
}  // namespace weir
