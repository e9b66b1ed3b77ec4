#include "weir/apps/line_buffer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "weir/apps/terminal.h"

namespace weir {
namespace {

using testing::ElementsAre;

std::vector<KeyPress> decode(std::string_view bytes) {
  KeyDecoder decoder;
  std::vector<KeyPress> out;
  for (const char byte : bytes)
    if (const auto press = decoder.push(byte)) out.push_back(*press);
  return out;
}

// What stands in the buffer, the cursor as |.
std::string after(std::string_view bytes) {
  LineBuffer buffer;
  for (const KeyPress& press : decode(bytes)) buffer.apply(press);
  std::string text = buffer.text();
  return text.insert(buffer.cursor(), "|");
}

TEST(KeyDecoder, GivesWholeCharacters) {
  const auto keys = decode("aé漢🙂");
  ASSERT_EQ(keys.size(), 4u);
  EXPECT_EQ(keys[3].text, "🙂");
}

TEST(KeyDecoder, DropsBrokenCharactersAndGoesOn) {
  EXPECT_EQ(after("\xe6\xbc"
                  "a"),
            "a|");
  EXPECT_EQ(after("\xff\xffx"), "x|");
  EXPECT_EQ(after("\xc0\x80y"), "y|");
}

TEST(KeyDecoder, SkipsSequencesItDoesNotKnow) {
  EXPECT_EQ(after("a\x1b[38;5;1mb\x1b[17~c"), "abc|");
  EXPECT_EQ(after("a\x1b[" + std::string(100, '1') + "b"), "a" + std::string(100 - 31, '1') + "b|") << "an endless one ends";
}

TEST(KeyDecoder, APasteIsTextWithItsLineBreaks) {
  const auto keys = decode("\x1b[200~one\r\ntwo\rthree\x01\x1b[31m\x1b[201~");
  ASSERT_EQ(keys.size(), 1u);
  EXPECT_EQ(keys[0].text, "one\ntwo\nthree[31m");
}

TEST(KeyDecoder, NoBytesMakeItFail) {
  std::mt19937 rng(3);
  LineBuffer buffer;
  KeyDecoder decoder;
  for (int i = 0; i < 200'000; ++i) {
    const char byte = rng() % 4 == 0 ? "\x1b[20~1;5D\xe6\xbc\xa2"[rng() % 12] : static_cast<char>(rng());
    if (const auto press = decoder.push(byte)) {
      if (buffer.apply(*press)) {
        buffer.remember(buffer.text());
        buffer.clear();
      }
    }
    ASSERT_LE(buffer.cursor(), buffer.text().size());
    if (i % 100 != 0) continue;
    const LineLayout layout = lay_out("> ", 2, buffer.text(), buffer.cursor(), 20);
    ASSERT_LT(layout.cursor_row, static_cast<int>(layout.rows.size()));
  }
}

TEST(LineBuffer, EditsAtTheCursor) {
  EXPECT_EQ(after("helo\x1b[Dl"), "hell|o");
  EXPECT_EQ(after("abc\x7f"), "ab|");
  EXPECT_EQ(after("abc\x01\x1b[3~"), "|bc");
  EXPECT_EQ(after("abc\x02\x04"), "ab|") << "Ctrl-D deletes while there is text";
  EXPECT_EQ(after("漢字\x1b[D\x7f"), "|字");
  EXPECT_EQ(after("e\xcc\x81x\x7f\x7f"), "|") << "an accent goes with its letter";
}

TEST(LineBuffer, MovesByWordsAndLines) {
  EXPECT_EQ(after("one two three\x1b[1;5D\x1b[1;5D"), "one |two three");
  EXPECT_EQ(after("one two\x1b"
                  "b\x1b"
                  "b\x1b"
                  "f"),
            "one| two");
  EXPECT_EQ(after("one\x1b\rtwo\x01"), "one\n|two");
  EXPECT_EQ(after("one\x1b\rtwo\x01\x1b[D\x01"), "|one\ntwo");
  EXPECT_EQ(after("one\x1b\rtwo\x01\x1b[D\x01\x05"), "one|\ntwo");
}

TEST(LineBuffer, KillsAndYanks) {
  EXPECT_EQ(after("one two\x17"), "one |");
  EXPECT_EQ(after("one two\x17\x19\x19"), "one twotwo|");
  EXPECT_EQ(after("one two\x1b"
                  "b\x0b"),
            "one |");
  EXPECT_EQ(after("one two\x1b"
                  "b\x15"),
            "|two");
}

TEST(LineBuffer, HistoryComesBackAndTheUnfinishedTextIsKept) {
  LineBuffer buffer;
  for (const char* line : {"first", "second", "second"}) buffer.remember(line);
  buffer.clear();
  const auto press = [&](std::string_view bytes) {
    for (const KeyPress& key : decode(bytes)) buffer.apply(key);
    return buffer.text();
  };
  EXPECT_EQ(press("thi"), "thi");
  EXPECT_EQ(press("\x1b[A"), "second");
  EXPECT_EQ(press("\x1b[A"), "first") << "a repeated line is there once";
  EXPECT_EQ(press("\x1b[A"), "first");
  EXPECT_EQ(press("\x1b[B\x1b[B"), "thi");
}

TEST(LayOut, WrapsBetweenCharactersAndFollowsTheCursor) {
  const auto rows = [](std::string_view text, int columns) { return lay_out("> ", 2, text, text.size(), columns).rows; };
  EXPECT_THAT(rows("abc", 10), ElementsAre("> abc"));
  EXPECT_THAT(rows("abcdefgh", 10), ElementsAre("> abcdefgh", ""));
  EXPECT_THAT(rows("abcdefghi", 10), ElementsAre("> abcdefgh", "i"));
  EXPECT_THAT(rows("abcdefg漢", 10), ElementsAre("> abcdefg", "漢")) << "a wide character is not cut";
  EXPECT_THAT(rows("a\nb", 10), ElementsAre("> a", "b"));
  const LineLayout layout = lay_out("> ", 2, "漢字x", 6, 10);
  EXPECT_EQ(layout.cursor_row, 0);
  EXPECT_EQ(layout.cursor_column, 6);
}

TEST(LayOut, NoRowIsWiderThanTheTerminal) {
  std::mt19937 rng(5);
  static constexpr std::array kPieces = {"a", "漢", "\n", "é", "e\xcc\x81", "\t", "🙂", " "};
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (int i = 0; i < 60; ++i) text += kPieces[rng() % kPieces.size()];
    const int columns = 8 + static_cast<int>(rng() % 30);
    const LineLayout layout = lay_out("> ", 2, text, text.size(), columns);
    for (const std::string& row : layout.rows) ASSERT_LE(display_width(row), columns) << row;
    ASSERT_LT(layout.cursor_column, columns);
  }
}

TEST(Terminal, PrintableTextCannotControlTheTerminal) {
  EXPECT_EQ(printable("a\n\tb"), "a\n\tb");
  EXPECT_EQ(printable("\x1b[31mred\x07"), "\xef\xbf\xbd[31mred\xef\xbf\xbd");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "\xef\xbf\xbd"
            "31m");
  EXPECT_EQ(printable("漢\xff"), "漢\xef\xbf\xbd");
}

}  // namespace
}  // namespace weir
