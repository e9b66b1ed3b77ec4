"""Raw requests, good and hostile: each bad one gets a clear 4xx, and the server lives on."""
import contextlib
import json
import resource
import select
import signal
import socket
import subprocess
import threading
import time

import pytest
from weir_server import Server, have_curl, is_idle

LONG = {"model": "qwen3.5", "prompt": "Once upon a time", "max_tokens": 30000, "ignore_eos": True, "stream": True, "temperature": 0}


@contextlib.contextmanager
def connect(server, timeout=30):
    with socket.create_connection(("127.0.0.1", server.port), timeout) as connection:
        yield connection


def read_all(connection):
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            data += piece
    return data


def raw_post(path, body, extra=""):
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{extra}\r\n").encode() + body


def read_status(connection):
    data = b""
    while b"\r\n" not in data:
        piece = connection.recv(4096)
        assert piece, f"closed without an answer, got {data!r}"
        data += piece
    return int(data.split()[1])


def still_serves(server):
    return len(server.complete(max_tokens=2, ignore_eos=True)["choices"][0]["text"]) > 0


# ---- what should work ----

@pytest.mark.skipif(not have_curl(), reason="curl is not installed")
def test_the_curl_line_of_the_documentation_works_as_written(server):
    line = """curl http://<server_ip>:<port>/v1/completions \\
-H "Content-Type: application/json" \\
-d '{
"model": "qwen3.5",
"prompt": "The future of AI is",
"max_tokens": 50,
"temperature": 0
}'"""
    line = line.replace("<server_ip>", "127.0.0.1").replace("<port>", str(server.port)).replace("curl ", "curl -sS --noproxy '*' -w '%{http_code}' ", 1)
    output = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, timeout=60).stdout
    assert output[-3:] == "200"
    assert json.loads(output[:-3])["choices"][0]["text"].strip()


def test_the_page_and_the_small_routes_answer(server):
    page = server.get("/")
    assert page.status == 200 and page.headers["content-type"].startswith("text/html") and b"<title>weir</title>" in page.body
    assert server.get("/health").status == 200
    assert server.get("/ping").status == 200
    assert server.get("/version").json["version"]
    models = server.get("/v1/models").json["data"]
    assert [model["id"] for model in models] == ["qwen3.5", "weir-tiny"] and models[0]["max_model_len"] > 1000


def test_metrics_carry_the_names_that_dashboards_know(server):
    before = server.metrics()
    server.complete(max_tokens=5, ignore_eos=True)
    after = server.metrics()
    assert after["vllm:generation_tokens_total"] == before["vllm:generation_tokens_total"] + 5
    assert after["vllm:prompt_tokens_total"] == before["vllm:prompt_tokens_total"] + 5
    assert after["vllm:request_success_total"] == before.get("vllm:request_success_total", 0) + 1
    for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "vllm:num_preemptions_total",
                 "vllm:time_to_first_token_seconds_count", "vllm:e2e_request_latency_seconds_count", "weir:state_slots_used"):
        assert name in after, name


def test_tokenize_and_detokenize_are_a_round_trip(server):
    for text in ("The future of AI is", "naïve café, 東京 🦊🏽‍🚀\r\n\tint x = 42;", "<|im_start|>user", " leading  double  spaces "):
        reply = server.post("/tokenize", {"model": "qwen3.5", "prompt": text}).json
        assert reply["count"] == len(reply["tokens"]) and reply["max_model_len"] > 1000
        assert server.post("/detokenize", {"model": "qwen3.5", "tokens": reply["tokens"]}).json["prompt"] == text


def test_tokenize_of_a_chat_is_the_prompt_of_that_chat(server):
    messages = [{"role": "user", "content": "What is 7 plus 5?"}]
    tokens = server.post("/tokenize", {"model": "qwen3.5", "messages": messages}).json["tokens"]
    assert server.chat(messages=messages, max_tokens=1, return_token_ids=True)["prompt_token_ids"] == tokens


def test_token_id_prompts_equal_their_text(server):
    tokens = server.post("/tokenize", {"model": "qwen3.5", "prompt": "The future of AI is"}).json["tokens"]
    text = server.complete(max_tokens=12)["choices"][0]["text"]
    assert server.complete(tokens, max_tokens=12)["choices"][0]["text"] == text
    two = server.complete([tokens, tokens[:3]], max_tokens=12)["choices"]
    assert [choice["index"] for choice in two] == [0, 1] and two[0]["text"] == text


def test_return_token_ids_gives_prompt_and_answer_as_ids(server):
    answer = server.complete(max_tokens=9, return_token_ids=True, ignore_eos=True)
    choice = answer["choices"][0]
    assert choice["prompt_token_ids"] == server.post("/tokenize", {"prompt": "The future of AI is"}).json["tokens"]
    assert len(choice["token_ids"]) == 9
    assert server.post("/detokenize", {"tokens": choice["token_ids"]}).json["prompt"] == choice["text"]


def test_prompt_logprobs_cover_every_prompt_token_but_the_first(server):
    choice = server.complete(max_tokens=1, prompt_logprobs=2, return_token_ids=True)["choices"][0]
    assert len(choice["prompt_logprobs"]) == len(choice["prompt_token_ids"]) and choice["prompt_logprobs"][0] is None
    for token, position in zip(choice["prompt_token_ids"][1:], choice["prompt_logprobs"][1:]):
        assert 2 <= len(position) <= 3 and str(token) in position


def test_stop_token_ids_end_the_answer_and_are_named(server):
    ids = server.complete(max_tokens=20, return_token_ids=True, ignore_eos=True)["choices"][0]["token_ids"]
    position = next(i for i in range(3, 20) if ids[i] not in ids[:i])
    choice = server.complete(max_tokens=20, stop_token_ids=[ids[position]], ignore_eos=True)["choices"][0]
    assert choice["finish_reason"] == "stop" and choice["stop_reason"] == ids[position]


def test_server_sent_events_end_with_done(server):
    reply = server.post("/v1/completions", {**LONG, "max_tokens": 4})
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = [line[6:] for line in reply.body.decode().split("\n\n") if line]
    assert events[-1] == "[DONE]" and all(json.loads(event)["object"] == "text_completion" for event in events[:-1])


def test_a_request_id_of_the_client_comes_back(server):
    assert server.get("/v1/models", headers={"X-Request-Id": "abc-123"}).headers.get("x-request-id") == "abc-123"


def test_many_requests_on_one_connection_and_pipelined(server):
    with connect(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert read_all(connection).count(b"HTTP/1.1 200") == 3


# ---- what must be refused ----

@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"])
@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"[]", b"17", b'"text"', b"null", b'{"a":', b'{"model":"qwen3.5"}', b"\xff\xfe{}",
                                  b'{"prompt": "\xc3("}', b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000])
def test_malformed_json_is_a_bad_request(server, path, body):
    reply = server.post(path, body)
    assert reply.status == 400, reply.body
    assert reply.error["type"] == "BadRequestError" and reply.error["message"]


@pytest.mark.parametrize("fields, param", [
    ({"prompt": 5.5}, "prompt"), ({"prompt": {"text": "x"}}, "prompt"), ({"prompt": []}, "prompt"), ({"prompt": [1, "x"]}, "prompt"),
    ({"prompt": [1.5]}, "prompt"), ({"prompt": [-1]}, "prompt"), ({"prompt": [10**9]}, "prompt"), ({"prompt": [10**30]}, "prompt"),
    ({"prompt": [[]]}, "prompt"), ({"prompt": ""}, "prompt"), ({"max_tokens": "ten"}, "max_tokens"), ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"), ({"max_tokens": 10**30}, "max_tokens"), ({"temperature": "hot"}, "temperature"),
    ({"temperature": -0.1}, "temperature"), ({"stream": "yes"}, "stream"), ({"n": 10**6}, "n"), ({"n": True}, "n"),
    ({"stop": 3}, "stop"), ({"stop": [3]}, "stop"), ({"logprobs": 10**6}, "logprobs"), ({"seed": "x"}, "seed"), ({"model": 7}, "model"),
    ({"logit_bias": {"x": 1}}, "logit_bias"), ({"logit_bias": [1]}, "logit_bias"), ({"stop_token_ids": "x"}, "stop_token_ids"),
    ({"repetition_penalty": 0}, "repetition_penalty"), ({"min_tokens": -1}, "min_tokens"), ({"min_tokens": 9, "max_tokens": 4}, "min_tokens"),
])
def test_a_wrong_type_or_value_names_the_field(server, fields, param):
    reply = server.post("/v1/completions", {"model": "qwen3.5", "prompt": "x", "max_tokens": 4, **fields})
    assert reply.status == 400, reply.body
    assert param in reply.error["message"] and (reply.error["param"] or "").startswith(param)


@pytest.mark.parametrize("messages", [None, "hi", [], [5], [{}], [{"role": 3, "content": "x"}], [{"role": "user", "content": 7}],
                                      [{"role": "user", "content": [{"type": "hologram"}]}], [{"role": "robot", "content": "x"}]])
def test_malformed_messages_are_a_bad_request(server, messages):
    reply = server.post("/v1/chat/completions", {"model": "qwen3.5", "messages": messages})
    assert reply.status == 400, reply.body
    assert reply.error["param"].startswith("messages") or "messages" in reply.error["message"] or "role" in reply.error["message"]


def test_an_unknown_model_is_not_found(server):
    reply = server.post("/v1/completions", {"model": "gpt-5", "prompt": "x"})
    assert reply.status == 404 and reply.error["type"] == "NotFoundError" and "gpt-5" in reply.error["message"]


def test_unknown_routes_and_methods(server):
    assert server.get("/v1/nothing").status == 404
    assert server.get("/v1/completions").status == 405
    assert server.post("/health", {}).status == 405
    assert server.get("/../../etc/passwd").status in (400, 404)


def test_a_prompt_longer_than_the_context_names_both_lengths(server):
    limit = server.get("/v1/models").json["data"][0]["max_model_len"]
    reply = server.post("/v1/completions", {"model": "qwen3.5", "prompt": [1] * (limit + 5), "max_tokens": 3})
    assert reply.status == 400
    assert str(limit) in reply.error["message"] and str(limit + 5) in reply.error["message"]
    reply = server.post("/v1/completions", {"model": "qwen3.5", "prompt": "x", "max_tokens": limit + 1})
    assert reply.status == 400 and str(limit) in reply.error["message"] and str(limit + 1) in reply.error["message"]


def test_a_50_mb_body_is_refused_before_it_is_read(server):
    with connect(server) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n")
        assert read_status(connection) == 413
    assert still_serves(server)


def test_a_50_mb_body_that_is_sent_all_the_same_gets_an_answer(server):
    reply = server.post("/v1/completions", json.dumps({"model": "qwen3.5", "prompt": "x" * 50_000_000}))
    assert reply.status == 413 and "50" in reply.error["message"]
    assert still_serves(server)


def test_a_50_mb_chunked_body_is_refused(server):
    with connect(server) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        with contextlib.suppress(ConnectionError):
            for _ in range(50):
                connection.sendall(piece)
                if select.select([connection], [], [], 0)[0]:
                    break
        assert read_status(connection) == 413
    assert still_serves(server)


def test_a_header_without_end_is_refused(server):
    with connect(server) as connection:
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                connection.sendall(b"X-Padding: " + b"a" * 1000 + b"\r\n" if _ else b"GET /health HTTP/1.1\r\nHost: x\r\n")
        assert read_status(connection) == 431
    assert still_serves(server)


@pytest.mark.parametrize("part", [b"P", b"POST /v1/comp", b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Le",
                                  raw_post("/v1/completions", b'{"model": "qwen3.5", "prompt": "x"}')[:-9], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00" * 500])
def test_a_half_sent_request_that_ends_harms_nobody(server, part):
    with connect(server) as connection:
        connection.sendall(part)
    with connect(server) as connection:
        connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)
    assert still_serves(server)


def test_half_sent_requests_that_stay_open_block_nobody(server):
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            connection = stack.enter_context(connect(server))
            connection.sendall(raw_post("/v1/completions", b'{"model": "qwen3.5", "prompt": "x"}')[:-9])
        start = time.monotonic()
        assert still_serves(server)
        assert time.monotonic() - start < 10


def test_conflicting_lengths_are_refused(server):
    with connect(server) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert read_status(connection) == 400
    with connect(server) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n")
        assert read_status(connection) == 400


def test_ten_thousand_idle_connections_are_refused_politely(server):
    wanted = 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, wanted + 500), hard), hard))
    wanted = min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500)
    open_connections = []
    try:
        for _ in range(wanted):
            open_connections.append(socket.create_connection(("127.0.0.1", server.port), 30))
        refused = open_connections[-1]
        assert read_status(refused) == 503  # said in HTTP, not by a reset
        first = open_connections[0]         # those that were let in are served as before
        first.sendall(raw_post("/v1/completions", json.dumps({"model": "qwen3.5", "prompt": "x", "max_tokens": 2}).encode()))
        assert read_status(first) == 200
    finally:
        for connection in open_connections:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def served():
        with contextlib.suppress(OSError):
            return server.get("/health").status == 200

    server._poll(20, "service after the flood", served)
    assert still_serves(server)


# ---- clients that go away ----

def test_a_client_that_goes_away_is_aborted(server):
    aborted = server.metrics().get("vllm:request_success_total", 0)
    with connect(server) as connection:
        connection.sendall(raw_post("/v1/completions", json.dumps(LONG).encode()))
        while b"data:" not in connection.recv(4096):
            pass
        assert server.metrics()["vllm:num_requests_running"] >= 1
    server.wait_metrics(10, "abort", is_idle)
    assert server.metrics().get("vllm:request_success_total", 0) >= aborted


def test_a_client_that_goes_away_without_streaming_is_aborted(server):
    with connect(server) as connection:
        connection.sendall(raw_post("/v1/completions", json.dumps({**LONG, "stream": False}).encode()))
        server.wait_metrics(10, "running request", lambda metrics: metrics["vllm:num_requests_running"] >= 1)
    server.wait_metrics(10, "abort", is_idle)


def test_a_reader_that_takes_nothing_holds_up_nobody(server):
    with connect(server) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(raw_post("/v1/completions", json.dumps({**LONG, "logprobs": 5}).encode()))
        server.wait_metrics(10, "running request", lambda metrics: metrics["vllm:num_requests_running"] >= 1)
        assert still_serves(server)
    server.wait_metrics(20, "abort", is_idle)


def test_concurrent_answers_equal_lonely_ones(server):
    prompts = ["The future of AI is", "Once upon a time", "red blue green", "A young bee is called", "In October the market"] * 6
    lonely = {prompt: server.complete(prompt, max_tokens=30, ignore_eos=True)["choices"][0]["text"] for prompt in set(prompts)}
    results = [None] * len(prompts)

    def ask(i):
        results[i] = server.complete(prompts[i], max_tokens=30, ignore_eos=True)["choices"][0]["text"]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [lonely[prompt] for prompt in prompts]


# ---- servers of their own ----

def test_kill_9_and_restart_on_the_same_port():
    first = Server("--served-model-name", "qwen3.5").wait_ready()
    with connect(first) as connection:
        connection.sendall(raw_post("/v1/completions", json.dumps(LONG).encode()))
        while b"data:" not in connection.recv(4096):
            pass
        first.process.kill()
        read_all(connection)
    assert first.process.wait(10) == -signal.SIGKILL
    with Server("--served-model-name", "qwen3.5", port=first.port) as second:
        assert second.port == first.port and still_serves(second)


def test_sigterm_lets_requests_in_flight_finish_and_refuses_new_ones():
    with Server("--served-model-name", "qwen3.5") as server:
        with connect(server) as connection, connect(server) as late:
            connection.sendall(raw_post("/v1/completions", json.dumps({**LONG, "max_tokens": 800}).encode(), "Connection: close\r\n"))
            first = connection.recv(4096)
            server.process.send_signal(signal.SIGTERM)
            data = first + read_all(connection)
            assert b'"finish_reason":"length"' in data and b"data: [DONE]" in data
            with contextlib.suppress(ConnectionError):
                late.sendall(raw_post("/v1/completions", json.dumps({**LONG, "max_tokens": 1}).encode()))
                answer = read_all(late)
                assert answer == b"" or b" 503 " in answer.split(b"\r\n")[0]
        assert server.process.wait(30) == 0


def test_health_says_503_until_the_model_is_there_and_a_used_port_is_named(server):
    with Server("--served-model-name", "qwen3.5") as own:
        second = Server(port=own.port)
        assert second.process.wait(60) == 1
        assert str(own.port) in second.log and "127.0.0.1" in second.log


def test_an_api_key_is_asked_for():
    with Server("--served-model-name", "qwen3.5", "--api-key", "s3cret") as server:
        body = {"model": "qwen3.5", "prompt": "x", "max_tokens": 1}
        assert server.post("/v1/completions", body).status == 401
        assert server.post("/v1/completions", body, headers={"Authorization": "Bearer wrong"}).status == 401
        assert server.post("/v1/completions", body, headers={"Authorization": "Bearer s3cret"}).status == 200
        assert server.get("/health").status == 200


def test_preemption_does_not_change_an_answer():
    # State slots of 8 sequences (0.8 MiB each) take two fifths of this; the pages in the rest hold about 1,120 tokens of each.
    few_pages = ["--max-num-seqs", "8", "--max-model-len", "1300", "--num-state-snapshots", "0", "--kv-cache-memory-bytes", str(15_800_000)]
    fields = {"max_tokens": 150, "ignore_eos": True}
    prompts = [[100 + (i * 31 + j * 7) % 1500 for j in range(1070)] for i in range(8)]
    with Server("--served-model-name", "qwen3.5", *few_pages) as server:
        lonely = {i: server.complete(prompts[i], **fields)["choices"][0]["text"] for i in (0, 6, 7)}
        assert server.metrics()["vllm:num_preemptions_total"] == 0
        together = server.complete(prompts, **fields)["choices"]
        assert server.metrics()["vllm:num_preemptions_total"] > 0
        assert {i: together[i]["text"] for i in lonely} == lonely
        server.wait_idle()
