// The small shared pieces: errors, JSON, inbox.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <thread>

#include "weir/base/check.h"
#include "weir/base/inbox.h"
#include "weir/base/json.h"

namespace weir {
namespace {

template <class Body>
Error error_of(Body body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no Error was thrown";
  return {ErrorCode::kInternal, ""};
}

TEST(Error, CarriesItsCodeAndTheValuesSeen) {
  const Error error = error_of([] { fail(ErrorCode::kNotFound, "layer ", 7, " of ", 3); });
  EXPECT_EQ(error.code, ErrorCode::kNotFound);
  EXPECT_STREQ(error.what(), "layer 7 of 3");
}

TEST(CheckDeathTest, NamesThePlaceAndTheParts) { EXPECT_DEATH(WEIR_CHECK(1 > 2, "seen ", 5), "base_test.*1 > 2.*seen 5"); }

TEST(Json, KeepsTheOrderOfKeysAndAllNumberKinds) {
  const Json value = parse_json(R"({"z": 1, "a": -2.5, "m": [true, null, "\u00e9"], "big": 18446744073709551615})", "test");
  EXPECT_EQ(dump_json(value), "{\"z\":1,\"a\":-2.5,\"m\":[true,null,\"é\"],\"big\":18446744073709551615}");
}

TEST(Json, NamesTheSourceOfBadText) {
  for (const char* bad : {"", "{", "{\"a\":1} x", "{\"a\":}", "[1,]", "nul", "\"\xff\""}) {
    const Error error = error_of([&] { parse_json(bad, "config.json"); });
    EXPECT_EQ(error.code, ErrorCode::kInvalidArgument) << bad;
    EXPECT_NE(std::string(error.what()).find("config.json"), std::string::npos) << error.what();
  }
}

TEST(Json, RefusesDeepNesting) {
  EXPECT_NO_THROW(parse_json(std::string(30, '[') + std::string(30, ']'), "test"));
  EXPECT_THROW(parse_json(std::string(100'000, '[') + std::string(100'000, ']'), "test"), Error);
}

TEST(Json, InvalidTextIsReplacedWhenWritten) { EXPECT_EQ(dump_json(Json("a\xff")), "\"a\xef\xbf\xbd\""); }

TEST(ReadFile, SaysWhatIsWrongWithAFile) {
  EXPECT_EQ(error_of([] { read_file("/nowhere/at/all"); }).code, ErrorCode::kNotFound);
  const std::string path = testing::TempDir() + "weir_base_test.txt";
  std::ofstream(path) << "hello";
  EXPECT_EQ(read_file(path), "hello");
  const Error error = error_of([&] { read_file(path, /*max_bytes=*/4); });
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  EXPECT_NE(std::string(error.what()).find("5"), std::string::npos) << error.what();
  std::remove(path.c_str());
  EXPECT_THROW(read_file(testing::TempDir()), Error) << "a directory is no file";
}

TEST(Inbox, KeepsTheOrderOfItems) {
  Inbox<int> inbox;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(inbox.push(i));
  EXPECT_EQ(inbox.pop(), 0);
  EXPECT_EQ(inbox.try_pop(), 1);
  EXPECT_EQ(inbox.try_pop(), 2);
  EXPECT_EQ(inbox.try_pop(), std::nullopt);
}

TEST(Inbox, ClosedMeansTheRestAndThenNothing) {
  Inbox<int> inbox;
  inbox.push(1);
  inbox.close();
  EXPECT_TRUE(inbox.closed());
  EXPECT_FALSE(inbox.push(2));
  EXPECT_EQ(inbox.pop(), 1);
  EXPECT_EQ(inbox.pop(), std::nullopt);
  inbox.wait();  // returns at once
}

TEST(Inbox, ManyProducersLoseNothing) {
  Inbox<int> inbox;
  std::vector<std::thread> producers;
  for (int p = 0; p < 4; ++p) {
    producers.emplace_back([&inbox] {
      for (int i = 1; i <= 1000; ++i) inbox.push(i);
    });
  }
  std::thread closer([&] {
    for (std::thread& t : producers) t.join();
    inbox.close();
  });
  int64_t sum = 0;
  while (const auto item = inbox.pop()) sum += *item;
  closer.join();
  EXPECT_EQ(sum, 4 * 1000 * 1001 / 2);
}

}  // namespace
}  // namespace weir
