#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <future>

#include "tests/server/test_server.h"

namespace weir {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* kCompletion = R"({"model": "tiny", "prompt": "x", "max_tokens": 3})";
constexpr const char* kEndlessStream = R"({"prompt": "x", "max_tokens": 19000, "stream": true})";

// Once the shutdown has reached the acceptor nobody can connect.
void expect_closed(const TestServer& test) {
  for (int i = 0; i < 10'000; ++i)
    if (!test.raw().connected()) return;
  ADD_FAILURE() << "new connections are still accepted";
}

TEST(HttpLimits, ABodyThatIsTooLargeIsRefusedBeforeItIsRead) {
  ServerOptions options = test_options();
  options.limits.max_body_bytes = 1000;
  TestServer test(options);
  RawConnection connection = test.raw();
  connection.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n");
  const std::string answer = connection.read_until("}}");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 413"));
  EXPECT_THAT(answer, HasSubstr("50000000 bytes"));
  EXPECT_THAT(answer, HasSubstr("at most 1000"));
  EXPECT_THAT(answer, HasSubstr("--max-body-bytes"));
}

TEST(HttpLimits, ALargeBodyThatIsSentAllTheSameGetsItsAnswer) {
  ServerOptions options = test_options();
  options.limits.max_body_bytes = 1000;
  TestServer test(options);
  HttpClient client = test.client();
  EXPECT_EQ(client.post("/v1/completions", std::string(20'000'000, ' ')).status, 413);
  EXPECT_EQ(client.post("/v1/completions", kCompletion).status, 200);
}

TEST(HttpLimits, AChunkedBodyIsCounted) {
  ServerOptions options = test_options();
  options.limits.max_body_bytes = 10'000;
  TestServer test(options);
  RawConnection connection = test.raw();
  connection.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 20; ++i) connection.send("400\r\n" + std::string(1024, 'x') + "\r\n");
  EXPECT_EQ(connection.read_status(), 413);
}

TEST(HttpLimits, BodiesThatArriveTogetherAreBounded) {
  ServerOptions options = test_options();
  options.limits.max_buffered_bytes = 100'000;
  TestServer test(options);
  RawConnection first = test.raw(), second = test.raw();
  const std::string head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n";
  first.send(head + std::string(60'000, ' '));
  second.send(head + std::string(60'000, ' '));
  // Whichever crosses the line is refused, and then ends the other.
  const auto read = [](RawConnection& own, RawConnection& other) {
    const int status = own.read_status();
    other.finish_sending();
    return status;
  };
  auto one = std::async(std::launch::async, [&] { return read(first, second); });
  const int other = read(second, first);
  EXPECT_EQ(std::max(one.get(), other), 503);
  HttpClient client = test.client();
  EXPECT_EQ(client.post("/v1/completions", kCompletion).status, 200);
}

TEST(HttpLimits, AHeaderThatIsTooLargeIsRefused) {
  TestServer test;
  RawConnection connection = test.raw();
  connection.send("GET /health HTTP/1.1\r\nHost: x\r\nX-Padding: " + std::string(30'000, 'a') + "\r\n\r\n");
  EXPECT_EQ(connection.read_status(), 431);
}

TEST(HttpLimits, WhatIsNoHttpIsABadRequest) {
  TestServer test;
  for (const std::string_view text :
       {std::string_view("nonsense\r\n\r\n"), std::string_view("\x16\x03\x01\x02\x00\x01\x00", 7),
        std::string_view("POST /v1/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n"), std::string_view("GET / HTTP/9.9\r\n\r\n")}) {
    RawConnection connection = test.raw();
    connection.send(text);
    EXPECT_EQ(connection.read_status(), 400) << text;
  }
  EXPECT_EQ(test.client().get("/health").status, 200);
}

TEST(HttpLimits, AHalfSentHeaderIsClosedWith408) {
  ServerOptions options = test_options();
  options.limits.header_timeout = std::chrono::milliseconds(30);
  TestServer test(options);
  RawConnection connection = test.raw();
  connection.send("POST /v1/comp");
  EXPECT_THAT(connection.read_all(), StartsWith("HTTP/1.1 408"));
}

TEST(HttpLimits, AHalfSentBodyIsClosedWith408) {
  ServerOptions options = test_options();
  options.limits.body_timeout = std::chrono::milliseconds(30);
  TestServer test(options);
  RawConnection connection = test.raw();
  connection.send(raw_post("/v1/completions", kCompletion).substr(0, 90));
  EXPECT_THAT(connection.read_all(), StartsWith("HTTP/1.1 408"));
}

TEST(HttpLimits, AnIdleConnectionIsClosedSilently) {
  ServerOptions options = test_options();
  options.limits.idle_timeout = std::chrono::milliseconds(30);
  TestServer test(options);
  RawConnection connection = test.raw();
  EXPECT_EQ(connection.read_all(), "");
}

TEST(HttpLimits, APeerThatClosesHalfwayHarmsNobody) {
  TestServer test;
  const std::string request = raw_post("/v1/completions", kCompletion);
  for (size_t length = 0; length < request.size(); length += 7) {
    RawConnection connection = test.raw();
    connection.send(request.substr(0, length));
    connection.finish_sending();
    connection.read_all();
  }
  EXPECT_EQ(test.client().post("/v1/completions", kCompletion).status, 200);
}

TEST(HttpLimits, ContinueIsSaidToThoseWhoAsk) {
  TestServer test;
  RawConnection connection = test.raw();
  const std::string request = raw_post("/v1/completions", kCompletion, "Expect: 100-continue\r\n");
  connection.send(request.substr(0, request.find("\r\n\r\n") + 4));
  EXPECT_THAT(connection.read_until("\r\n\r\n"), StartsWith("HTTP/1.1 100"));
  connection.send(kCompletion);
  EXPECT_EQ(connection.read_status(), 200);
}

TEST(HttpLimits, ThousandsOfIdleConnectionsAreRefusedPolitely) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  // Both ends are files of this process.
  const int wanted = static_cast<int>(std::min<rlim_t>(10'000, limit.rlim_cur / 2));
  ServerOptions options = test_options();
  options.limits.max_connections = 100;
  TestServer test(options);
  std::vector<RawConnection> connections;
  for (int i = 0; i < wanted; ++i) {
    connections.push_back(test.raw());
    ASSERT_TRUE(connections.back().connected()) << i;
  }
  EXPECT_EQ(connections.back().read_status(), 503);
  EXPECT_EQ(connections[200].read_status(), 503);
  connections[0].send(raw_post("/v1/completions", kCompletion));  // those that were let in are served as before
  EXPECT_EQ(connections[0].read_status(), 200);
  connections.clear();
  // The places are free again once the server has noticed; until then it says 503.
  for (int i = 0; i < 1000; ++i)
    if (test.client().get("/health").status == 200) return;
  FAIL() << "no place became free";
}

TEST(HttpDrain, RequestsInFlightFinishAndNewOnesAreRefused) {
  TestServer test(test_options(), /*paused=*/true);
  RawConnection streaming = test.raw();
  streaming.send(raw_post("/v1/completions", R"({"prompt": "x", "max_tokens": 3, "stream": true})"));
  ASSERT_TRUE(test.engine.wait_submitted(1));
  RawConnection idle = test.raw();
  idle.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(idle.read_status(), 200);

  test.server.shutdown();
  EXPECT_TRUE(test.server.shutting_down());
  EXPECT_EQ(idle.read_all().find("HTTP/1.1 200"), std::string::npos) << "an idle connection is closed";
  expect_closed(test);
  test.engine.resume();
  EXPECT_THAT(streaming.read_all(), HasSubstr("data: [DONE]"));
  test.server.wait();
}

TEST(HttpDrain, ARequestThatArrivesLateGets503) {
  TestServer test(test_options(), /*paused=*/true);
  RawConnection late = test.raw(), running = test.raw();
  running.send(raw_post("/v1/completions", kEndlessStream));
  ASSERT_TRUE(test.engine.wait_submitted(1));
  const std::string request = raw_post("/v1/completions", kCompletion, "Expect: 100-continue\r\n");
  const size_t head = request.find("\r\n\r\n") + 4;
  late.send(request.substr(0, head));
  EXPECT_THAT(late.read_until("\r\n\r\n"), StartsWith("HTTP/1.1 100"));  // it has begun
  test.server.shutdown();
  EXPECT_EQ(running.read_until("\r\n\r\n").substr(0, 12), "HTTP/1.1 200");
  expect_closed(test);
  late.send(request.substr(head));
  const std::string answer = late.read_all();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(answer, HasSubstr("Connection: close"));
  test.engine.resume();
  running.close();
  test.server.wait();
}

TEST(HttpDrain, WhatDoesNotFinishInTimeIsAborted) {
  ServerOptions options = test_options();
  options.shutdown_timeout = std::chrono::milliseconds(20);
  TestServer test(options, /*paused=*/true);
  RawConnection connection = test.raw();
  connection.send(raw_post("/v1/completions", kEndlessStream));
  ASSERT_TRUE(test.engine.wait_submitted(1));
  test.server.shutdown();
  const std::string answer = connection.read_all();
  EXPECT_THAT(answer, HasSubstr("\"finish_reason\":\"abort\""));
  EXPECT_THAT(answer, HasSubstr("data: [DONE]"));
  test.server.wait();
  EXPECT_TRUE(test.engine.wait_aborted(1));
}

TEST(HttpDrain, DestroyingTheServerAbortsEverything) {
  FakeEngine engine({5}, /*paused=*/true);
  {
    HttpServer server(test_options());
    server.start();
    server.set_ready(tiny_model(), engine);
    RawConnection connection(server.port());
    connection.send(raw_post("/v1/completions", R"({"prompt": "x", "max_tokens": 400})"));
    ASSERT_TRUE(engine.wait_submitted(1));
  }
  EXPECT_TRUE(engine.wait_idle());
}

}  // namespace
}  // namespace weir
