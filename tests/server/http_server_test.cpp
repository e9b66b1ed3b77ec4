#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "tests/server/test_server.h"

namespace weir {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr const char* kCompletion = R"({"model": "tiny", "prompt": "x", "max_tokens": 3})";
constexpr const char* kEndless = R"({"prompt": "x", "max_tokens": 19000})";
constexpr const char* kEndlessStream = R"({"prompt": "x", "max_tokens": 19000, "stream": true})";

std::vector<std::string> events_of(HttpClient& client, const std::string& path, const std::string& body) {
  std::vector<std::string> events;
  const auto response = client.post_stream(path, body, [&](std::string_view line) {
    if (line.starts_with("data: ")) events.emplace_back(line.substr(6));
    return true;
  });
  EXPECT_EQ(response.status, 200);
  EXPECT_THAT(std::string(response.header("content-type")), StartsWith("text/event-stream"));
  return events;
}

TEST(HttpServer, CompletesText) {
  TestServer test;
  HttpClient client = test.client();
  const auto response = client.post("/v1/completions", kCompletion);
  ASSERT_EQ(response.status, 200) << response.body;
  const Json body = body_of(response);
  EXPECT_EQ(body["choices"][0]["text"], " red green blue");
  EXPECT_EQ(body["usage"]["completion_tokens"], 3);
  EXPECT_THAT(body["id"].get<std::string>(), StartsWith("cmpl-"));
  EXPECT_EQ(client.get("/health").status, 200) << "the connection goes on";
}

TEST(HttpServer, StreamsACompletionAndItsUsage) {
  TestServer test;
  HttpClient client = test.client();
  const auto events = events_of(client, "/v1/completions", R"({"prompt": ["x", "y"], "max_tokens": 4, "stream": true, "n": 2,
    "stream_options": {"include_usage": true}})");
  ASSERT_GT(events.size(), 4u);
  EXPECT_EQ(events.back(), "[DONE]");
  std::vector<std::string> texts(4);
  for (size_t i = 0; i + 2 < events.size(); ++i) {
    const Json choice = parse_json(events[i], "event")["choices"][0];
    texts[choice["index"].get<size_t>()] += choice["text"].get<std::string>();
  }
  EXPECT_THAT(texts, testing::Each(" red green blue red"));
  EXPECT_EQ(parse_json(events[events.size() - 2], "event")["usage"]["completion_tokens"], 16);
  EXPECT_EQ(client.get("/health").status, 200) << "a stream in chunks leaves the connection open";
}

TEST(HttpServer, ChatsAndStreamsChats) {
  TestServer test;
  HttpClient client = test.client();
  const std::string chat =
      R"({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "chat_template_kwargs": {"enable_thinking": false})";
  EXPECT_EQ(body_of(client.post("/v1/chat/completions", chat + "}"))["choices"][0]["message"]["content"], " red green");
  const auto events = events_of(client, "/v1/chat/completions", chat + ", \"stream\": true}");
  EXPECT_EQ(parse_json(events[0], "event")["choices"][0]["delta"]["role"], "assistant");
  EXPECT_EQ(events.back(), "[DONE]");
}

TEST(HttpServer, AnswersTheSmallRoutes) {
  TestServer test;
  HttpClient client = test.client();
  EXPECT_EQ(client.get("/health").status, 200);
  EXPECT_EQ(client.get("/ping?x=1").status, 200);
  EXPECT_EQ(body_of(client.get("/version"))["version"], "test");
  EXPECT_EQ(body_of(client.get("/load"))["server_load"], 0);
  EXPECT_EQ(body_of(client.get("/v1/models"))["data"][0]["id"], "tiny");
  EXPECT_EQ(body_of(client.get("/v1/models/weir%2Dtiny"))["id"], "weir-tiny");
  EXPECT_EQ(client.get("/v1/models/none").status, 404);
  EXPECT_THAT(client.get("/").body, HasSubstr("<title>weir</title>"));
  EXPECT_EQ(body_of(client.post("/tokenize", R"({"prompt": "x"})"))["count"], 1);
}

TEST(HttpServer, UnknownPathsAndMethodsAreToldAsJson) {
  TestServer test;
  HttpClient client = test.client();
  const auto missing = client.get("/v1/nothing");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(body_of(missing)["error"]["type"], "NotFoundError");
  const auto wrong = client.get("/v1/completions");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.header("allow"), "POST");
}

TEST(HttpServer, BadRequestsNameTheField) {
  TestServer test;
  HttpClient client = test.client();
  const auto bad = client.post("/v1/completions", R"({"prompt": "x", "temperature": "hot"})");
  EXPECT_EQ(bad.status, 400);
  EXPECT_EQ(body_of(bad)["error"]["param"], "temperature");
  EXPECT_EQ(client.post("/v1/completions", "{").status, 400);
  EXPECT_EQ(client.post("/v1/completions", R"({"prompt": "x", "model": "gpt-5"})").status, 404);
  EXPECT_EQ(client.post("/v1/completions", R"({"prompt": "x", "stream": true, "n": 0})").status, 400) << "before the stream begins";
  EXPECT_EQ(client.post("/v1/completions", kCompletion).status, 200);
}

TEST(HttpServer, EverythingIs503UntilTheModelIsThere) {
  TestServer test(test_options(), false, /*ready=*/false);
  HttpClient client = test.client();
  for (const char* path : {"/health", "/ping", "/v1/models"}) EXPECT_EQ(client.get(path).status, 503) << path;
  const auto refused = client.post("/v1/completions", kCompletion);
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.header("retry-after"), "1");
  EXPECT_THAT(refused.body, HasSubstr("still being loaded"));
  EXPECT_EQ(client.get("/").status, 200);
  EXPECT_EQ(client.get("/metrics").status, 200);
  test.set_ready();
  EXPECT_EQ(client.get("/health").status, 200);
}

TEST(HttpServer, ADeadEngineIsNotHealthyAndEndsItsRequests) {
  TestServer test(test_options(), /*paused=*/true);
  auto answer = std::async([&] { return test.client().post("/v1/completions", kCompletion); });
  ASSERT_TRUE(test.engine.wait_submitted(1));
  test.engine.die("a step failed");
  const auto response = answer.get();
  EXPECT_EQ(response.status, 500);
  EXPECT_THAT(response.body, HasSubstr("a step failed"));
  EXPECT_EQ(test.client().get("/health").status, 503);
}

TEST(HttpServer, AStopStringAbortsTheRestInTheEngine) {
  TestServer test;
  HttpClient client = test.client();
  const Json body = body_of(client.post("/v1/completions", R"({"prompt": "x", "max_tokens": 19000, "stop": " blue"})"));
  EXPECT_EQ(body["choices"][0]["text"], " red green");
  EXPECT_EQ(body["choices"][0]["stop_reason"], " blue");
  EXPECT_TRUE(test.engine.wait_idle());
}

TEST(HttpServer, AClientThatLeavesAStreamIsAborted) {
  TestServer test(test_options(), /*paused=*/true);
  {
    RawConnection connection = test.raw();
    connection.send(raw_post("/v1/completions", kEndlessStream));
    ASSERT_TRUE(test.engine.wait_submitted(1));
    test.engine.tick();
    EXPECT_THAT(connection.read_until("\n\n"), HasSubstr("data: "));
  }
  EXPECT_TRUE(test.engine.wait_aborted(1)) << "without any further token";
  EXPECT_TRUE(test.engine.wait_idle());
}

TEST(HttpServer, AClientThatLeavesWhileWaitingIsAborted) {
  TestServer test(test_options(), /*paused=*/true);
  RawConnection connection = test.raw();
  connection.send(raw_post("/v1/completions", R"({"prompt": ["x", "y"], "max_tokens": 19000, "n": 2})"));
  ASSERT_TRUE(test.engine.wait_submitted(4));
  EXPECT_EQ(body_of(test.client().get("/load"))["server_load"], 1);
  connection.close();
  EXPECT_TRUE(test.engine.wait_aborted(4));
}

TEST(HttpServer, AStreamReaderThatStopsReadingIsDroppedAndAborted) {
  ServerOptions options = test_options();
  options.limits.write_timeout = std::chrono::milliseconds(50);
  TestServer test(options);
  RawConnection connection = test.raw();
  connection.send(raw_post("/v1/completions", R"({"prompt": "x", "max_tokens": 19000, "stream": true, "logprobs": 5, "n": 64})"));
  EXPECT_TRUE(test.engine.wait_submitted(64));
  EXPECT_TRUE(test.engine.wait_idle());
  HttpClient client = test.client();
  EXPECT_EQ(client.post("/v1/completions", kCompletion).status, 200);
}

TEST(HttpServer, RefusalsOfTheEngineHaveTheirStatus) {
  TestServer test;
  HttpClient client = test.client();
  test.engine.refuse(Error(ErrorCode::kResourceExhausted, "the waiting queue is full"));
  const auto full = client.post("/v1/completions", kCompletion);
  EXPECT_EQ(full.status, 429);
  EXPECT_EQ(full.header("retry-after"), "1");
  test.engine.refuse(Error(ErrorCode::kUnavailable, "draining"));
  EXPECT_EQ(client.post("/v1/completions", kEndlessStream).status, 503);
  test.engine.refuse(Error(ErrorCode::kInvalidArgument, "can never run"));
  EXPECT_EQ(client.post("/v1/completions", kCompletion).status, 400);
  test.engine.refuse(std::nullopt);
  EXPECT_EQ(client.post("/v1/completions", kCompletion).status, 200);
}

TEST(HttpServer, ARequestThatIsRefusedHalfwayLeavesNothingBehind) {
  TestServer test(test_options(), /*paused=*/true);
  test.engine.limit(3);
  EXPECT_EQ(test.client().post("/v1/completions", R"({"prompt": "x", "n": 5})").status, 429);
  EXPECT_TRUE(test.engine.wait_aborted(3));
}

TEST(HttpServer, RequestsOnOneConnectionMayBePipelined) {
  TestServer test;
  RawConnection connection = test.raw();
  connection.send(raw_post("/v1/completions", kCompletion) + raw_post("/v1/completions", kEndlessStream).substr(0, 40));
  EXPECT_THAT(connection.read_until("}}}"), HasSubstr(" red green blue"));
  connection.send(raw_post("/v1/completions", kEndlessStream).substr(40));
  EXPECT_THAT(connection.read_until("data: {"), HasSubstr("text/event-stream"));
  RawConnection other = test.raw();
  other.send(
      "GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\nConnection: "
      "close\r\n\r\n");
  const std::string answers = other.read_all();
  size_t count = 0;
  for (size_t at = answers.find("HTTP/1.1 200"); at != std::string::npos; at = answers.find("HTTP/1.1 200", at + 1)) ++count;
  EXPECT_EQ(count, 3u);
}

TEST(HttpServer, Http10GetsAnAnswerThatEndsWithTheConnection) {
  TestServer test;
  RawConnection connection = test.raw();
  const std::string body = R"({"prompt": "x", "max_tokens": 2, "stream": true})";
  connection.send("POST /v1/completions HTTP/1.0\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  const std::string answer = connection.read_all();
  EXPECT_THAT(answer, HasSubstr("data: [DONE]\n\n"));
  EXPECT_THAT(answer, Not(HasSubstr("Transfer-Encoding")));
}

TEST(HttpServer, HeadHasNoBody) {
  TestServer test;
  RawConnection connection = test.raw();
  connection.send("HEAD /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string answer = connection.read_all();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
  EXPECT_TRUE(answer.ends_with("\r\n\r\n"));
}

TEST(HttpServer, RequestIdsComeBackAndNameTheAnswer) {
  TestServer test;
  RawConnection connection = test.raw();
  connection.send(raw_post("/v1/completions", kCompletion, "X-Request-Id: abc-123\r\nConnection: close\r\n"));
  const std::string answer = connection.read_all();
  EXPECT_THAT(answer, HasSubstr("X-Request-Id: abc-123\r\n"));
  EXPECT_THAT(answer, HasSubstr("\"id\":\"cmpl-abc-123\""));
}

TEST(HttpServer, CorsAnswersBrowsers) {
  TestServer test;
  RawConnection connection = test.raw();
  connection.send(
      "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: x\r\nOrigin: http://a.example\r\nAccess-Control-Request-Method: POST\r\n"
      "Access-Control-Request-Headers: authorization,content-type\r\nConnection: close\r\n\r\n");
  const std::string answer = connection.read_all();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(answer, HasSubstr("Access-Control-Allow-Origin: *\r\n"));
  EXPECT_THAT(answer, HasSubstr("Access-Control-Allow-Headers: authorization,content-type\r\n"));

  ServerOptions options = test_options();
  options.allowed_origins = {"http://a.example"};
  TestServer strict(options);
  RawConnection good = strict.raw(), bad = strict.raw();
  good.send("GET /health HTTP/1.1\r\nHost: x\r\nOrigin: http://a.example\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(good.read_all(), HasSubstr("Access-Control-Allow-Origin: http://a.example\r\n"));
  bad.send("GET /health HTTP/1.1\r\nHost: x\r\nOrigin: http://b.example\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(bad.read_all(), Not(HasSubstr("Access-Control-Allow-Origin")));
}

TEST(HttpServer, AKeyIsAskedForBelowV1Only) {
  ServerOptions options = test_options();
  options.api_keys = {"s3cret", "other"};
  TestServer test(options);
  EXPECT_EQ(test.client().post("/v1/completions", kCompletion).status, 401);
  EXPECT_EQ(test.client("wrong").get("/v1/models").status, 401);
  EXPECT_EQ(test.client("s3cre").get("/v1/models").status, 401);
  EXPECT_EQ(body_of(test.client("s3cretx").get("/v1/models"))["error"]["type"], "AuthenticationError");
  EXPECT_EQ(test.client("s3cret").post("/v1/completions", kCompletion).status, 200);
  EXPECT_EQ(test.client().post("/reset_prefix_cache", "").status, 401);
  EXPECT_EQ(test.engine.resets(), 0);
  EXPECT_EQ(test.client("other").get("/v1/models").status, 200);
  for (const char* path : {"/health", "/ping", "/version", "/metrics", "/"}) EXPECT_EQ(test.client().get(path).status, 200) << path;
}

TEST(HttpServer, ForgetsThePrefixCacheWhenAsked) {
  TestServer test;
  EXPECT_EQ(test.client().post("/reset_prefix_cache", "").status, 200);
  EXPECT_EQ(test.engine.resets(), 1);
  EXPECT_EQ(test.client().get("/reset_prefix_cache").status, 405);
}

TEST(HttpServer, MetricsCountUnderVllmsNames) {
  TestServer test;
  HttpClient client = test.client();
  client.post("/v1/completions", kCompletion);
  client.post("/v1/completions", R"({"prompt": "x", "max_tokens": 19000, "stop": " green"})");
  const std::string text = client.get("/metrics").body;
  const auto label = [](const std::string& name) { return name + "{model_name=\"tiny\",engine=\"0\""; };
  EXPECT_THAT(text, HasSubstr(label("vllm:request_success_total") + ",finished_reason=\"length\"} 1\n"));
  EXPECT_THAT(text, HasSubstr(label("vllm:request_success_total") + ",finished_reason=\"stop\"} 1\n"));
  EXPECT_THAT(text, HasSubstr(label("vllm:time_to_first_token_seconds_count") + "} 2\n"));
  EXPECT_THAT(text, HasSubstr(label("vllm:time_to_first_token_seconds_bucket") + ",le=\"0.001\"} "));
  EXPECT_THAT(text, HasSubstr(label("vllm:time_to_first_token_seconds_bucket") + ",le=\"+Inf\"} 2\n"));
  EXPECT_THAT(text, HasSubstr(label("vllm:request_prompt_tokens_sum") + "} 2\n"));
  for (const char* name :
       {"vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total", "vllm:num_preemptions_total", "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total",
        "vllm:inter_token_latency_seconds_count", "vllm:e2e_request_latency_seconds_sum",
        "vllm:request_time_per_output_token_seconds_count", "vllm:request_generation_tokens_count", "weir:state_slots_used",
        "weir:state_slots_cached", "weir:pages_cached", "weir:engine_run_seconds_total", "weir:engine_gap_seconds_total"})
    EXPECT_THAT(text, HasSubstr(label(name) + "} ")) << name;
  EXPECT_THAT(text, HasSubstr(label("vllm:spec_decode_num_drafts_total") + "} 5\n"));
  EXPECT_THAT(text, HasSubstr(label("vllm:spec_decode_num_draft_tokens_total") + "} 10\n"));
  EXPECT_THAT(text, HasSubstr(label("vllm:spec_decode_num_accepted_tokens_total") + "} 7\n"));
  EXPECT_THAT(text, HasSubstr(label("vllm:spec_decode_num_accepted_tokens_per_pos_total") + ",position=\"1\"} 3\n"));
  EXPECT_THAT(text, Not(HasSubstr("position=\"2\""))) << "more than are ever drafted";
}

TEST(HttpServer, AUsedPortIsNamed) {
  TestServer test;
  ServerOptions options = test_options();
  options.port = test.server.port();
  try {
    HttpServer second(options);
    FAIL() << "two servers on one port";
  } catch (const Error& error) {
    EXPECT_THAT(std::string(error.what()), HasSubstr("127.0.0.1:" + std::to_string(options.port)));
    EXPECT_THAT(std::string(error.what()), HasSubstr("in use"));
  }
}

}  // namespace
}  // namespace weir
