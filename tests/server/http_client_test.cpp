#include "weir/server/http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/server/test_server.h"

namespace weir {
namespace {

constexpr const char* kEndlessStream = R"({"prompt": "x", "max_tokens": 19000, "stream": true})";

ErrorCode code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code;
  }
  ADD_FAILURE() << "no error";
  return ErrorCode::kInternal;
}

TEST(HttpClient, RefusesMalformedUrls) {
  for (const char* url : {"", "http://", "http://x:0", "http://x:99999", "http://x:y", "https://x"})
    EXPECT_EQ(code_of([&] { HttpClient client(url); }), ErrorCode::kInvalidArgument) << url;
}

TEST(HttpClient, ReachesPathsBelowTheBaseOfItsUrl) {
  TestServer test;
  HttpClient client(test.url() + "/v1/");
  EXPECT_EQ(client.get("/models").status, 200);
  HttpClient bare("127.0.0.1:" + std::to_string(test.server.port()));
  EXPECT_EQ(bare.get("/health").status, 200);
}

TEST(HttpClient, NobodyListeningIsUnavailable) {
  uint16_t port = 0;
  {
    port = HttpServer(test_options()).port();
  }
  HttpClient client("http://127.0.0.1:" + std::to_string(port));
  EXPECT_EQ(code_of([&] { client.get("/health"); }), ErrorCode::kUnavailable);
}

TEST(HttpClient, ConnectsAgainWhenTheServerClosedAKeptConnection) {
  ServerOptions options = test_options();
  options.limits.idle_timeout = std::chrono::milliseconds(50);  // long enough for a first request on a busy machine
  TestServer test(options);
  HttpClient client = test.client();
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(client.get("/health").status, 200);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

TEST(HttpClient, ASilentServerIsATimeout) {
  TestServer test(test_options(), /*paused=*/true);
  HttpClient client(test.url(), {}, {.connect = std::chrono::milliseconds(5000), .idle = std::chrono::milliseconds(20)});
  EXPECT_EQ(code_of([&] { client.post("/v1/completions", kEndlessStream); }), ErrorCode::kUnavailable);
  EXPECT_TRUE(test.engine.wait_aborted(1)) << "the connection is closed";
}

TEST(HttpClient, CancelFromAnotherThreadEndsACallAndItsRequest) {
  TestServer test(test_options(), /*paused=*/true);
  HttpClient client = test.client();
  std::thread other([&] {
    test.engine.wait_submitted(1);
    client.cancel();
  });
  EXPECT_EQ(code_of([&] { client.post_stream("/v1/completions", kEndlessStream, [](std::string_view) { return true; }); }),
            ErrorCode::kCancelled);
  other.join();
  EXPECT_TRUE(test.engine.wait_aborted(1));
  EXPECT_EQ(client.get("/health").status, 200) << "the client goes on";
}

TEST(HttpClient, ACancelThatCameTooLateCanBeForgotten) {
  TestServer test;
  HttpClient client = test.client();
  client.cancel();
  EXPECT_EQ(code_of([&] { client.get("/health"); }), ErrorCode::kCancelled);
  client.cancel();
  client.clear_cancel();
  EXPECT_EQ(client.get("/health").status, 200);
}

TEST(HttpClient, AStreamMayBeStoppedByItsReader) {
  TestServer test(test_options(), /*paused=*/true);
  HttpClient client = test.client();
  test.engine.tick(3);  // of 19000
  int lines = 0;
  client.post_stream("/v1/completions", kEndlessStream, [&](std::string_view) { return ++lines < 2; });
  EXPECT_EQ(lines, 2);
  EXPECT_TRUE(test.engine.wait_aborted(1));
  EXPECT_EQ(client.get("/health").status, 200);
}

TEST(HttpClient, AnErrorStatusOfAStreamHasItsBody) {
  TestServer test;
  HttpClient client = test.client();
  const auto response = client.post_stream("/v1/completions", "{", [](std::string_view) { return true; });
  EXPECT_EQ(response.status, 400);
  EXPECT_THAT(response.body, testing::HasSubstr("not valid JSON"));
}

}  // namespace
}  // namespace weir
