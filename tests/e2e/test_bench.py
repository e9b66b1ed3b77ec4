"""`weir bench` as people run it: against the real server, against a server that misbehaves, and without any."""
import json
import os
import re
import socket
import subprocess
import threading

import pytest
from weir_server import BINARY, MODEL

# What vLLM 0.32's own client writes for the flags used here.
SERVE_KEYS = {"date", "endpoint_type", "backend", "label", "model_id", "tokenizer_id", "num_prompts", "request_rate", "burstiness",
              "max_concurrency", "duration", "completed", "failed", "total_input_tokens", "total_output_tokens", "request_throughput",
              "request_goodput", "output_throughput", "total_token_throughput", "latencies", "queue_times", "max_output_tokens_per_s",
              "max_concurrent_requests", "rtfx"}
METRIC_KEYS = {f"{statistic}_{metric}_ms" for statistic in ("mean", "median", "std", "p99") for metric in ("ttft", "tpot", "itl", "e2el")}
DETAILED_KEYS = {"input_lens", "output_lens", "ttfts", "itls", "start_times", "generated_texts", "errors"}


def bench(*args, code=0, timeout=300, env=None):
    result = subprocess.run([BINARY, "bench", *map(str, args)], capture_output=True, text=True, errors="replace", timeout=timeout,
                            stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})
    assert result.returncode == code, f"exit code {result.returncode}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
    assert "Sanitizer" not in result.stderr and "runtime error:" not in result.stderr, result.stderr[-4000:]
    return result


def only_file(directory):
    files = list(directory.iterdir())
    assert len(files) == 1, files
    return files[0]


# ---- bench serve against weir ----

def test_the_seeds_command_line(server, tmp_path):
    """Verbatim but for the counts, the port and the directory: the model is no directory here, so the server counts tokens."""
    result = bench("serve", "--model", "Eco-Tech/Qwen3.5-397B-A17B-w8a8-mtp", "--served-model-name", "qwen3.5", "--dataset-name", "random",
                   "--random-input", 20, "--num-prompts", 6, "--request-rate", 20, "--save-result", "--result-dir", tmp_path,
                   "--port", server.port, "--random-output", 5)
    saved = only_file(tmp_path)
    assert re.fullmatch(r"openai-20\.0qps-Qwen3\.5-397B-A17B-w8a8-mtp-\d{8}-\d{6}\.json", saved.name)
    values = json.loads(saved.read_text())
    assert set(values) == SERVE_KEYS | {key for key in METRIC_KEYS if "e2el" not in key}
    assert values["completed"] == 6 and values["failed"] == 0
    assert values["model_id"] == values["tokenizer_id"] == "Eco-Tech/Qwen3.5-397B-A17B-w8a8-mtp"
    assert values["total_input_tokens"] == 6 * 20, "the server counted exactly what was asked for"
    assert values["total_output_tokens"] == 6 * 5
    assert values["request_rate"] == 20.0 and values["max_concurrency"] is None
    assert re.search(r"Successful requests: +6 ", result.stdout)


@pytest.mark.parametrize("backend", ["openai", "openai-chat"])
def test_every_number_of_a_detailed_result_fits_the_others(server, tmp_path, backend):
    bench("serve", "--backend", backend, "--base-url", server.url, "--served-model-name", "qwen3.5", "--model", MODEL, "--num-prompts", 8,
          "--random-input-len", 24, "--random-output-len", 6, "--max-concurrency", 3, "--num-warmups", 2, "--ready-check-timeout-sec", 30,
          "--percentile-metrics", "ttft,tpot,itl,e2el", "--goodput", "ttft:100000", "e2el:100000", "--metadata", "tp=1", "--label", "mine",
          "--temperature", 0, "--save-result", "--save-detailed", "--result-dir", tmp_path / "new" / "folder", "--result-filename", "r.json")
    values = json.loads((tmp_path / "new" / "folder" / "r.json").read_text())
    assert set(values) == SERVE_KEYS | METRIC_KEYS | DETAILED_KEYS | {"tp"}
    assert values["completed"] == 8 and values["errors"] == [""] * 8
    assert values["output_lens"] == [6] * 8 and values["total_output_tokens"] == 48
    if backend == "openai":
        assert values["input_lens"] == [24] * 8
    assert all(length >= 24 for length in values["input_lens"])
    assert values["max_concurrent_requests"] <= 3
    assert values["label"] == "mine" and values["tp"] == "1" and values["max_concurrency"] == 3
    assert values["request_goodput"] == pytest.approx(values["request_throughput"]) == pytest.approx(8 / values["duration"])
    assert values["output_throughput"] == pytest.approx(48 / values["duration"])
    for ttft, itl, latency in zip(values["ttfts"], values["itls"], values["latencies"]):
        assert 0 < ttft <= latency == pytest.approx(ttft + sum(itl))
    tpots = [(latency - ttft) / 5 for ttft, latency in zip(values["ttfts"], values["latencies"])]
    assert values["mean_tpot_ms"] == pytest.approx(1000 * sum(tpots) / 8)
    assert values["mean_e2el_ms"] == pytest.approx(1000 * sum(values["latencies"]) / 8)
    assert values["p99_ttft_ms"] <= 1000 * max(values["ttfts"]) + 1e-6
    server.wait_idle()


def test_the_model_is_asked_for_and_results_are_appended(server, tmp_path):
    for _ in range(2):
        bench("serve", "--port", server.port, "--dataset-name", "prefix_repetition", "--prefix-repetition-prefix-len", 16,
              "--prefix-repetition-suffix-len", 8, "--prefix-repetition-num-prefixes", 2, "--prefix-repetition-output-len", 3,
              "--num-prompts", 4, "--ignore-eos", "--append-result", "--result-dir", tmp_path, "--result-filename", "all.json")
    lines = (tmp_path / "all.json").read_text().splitlines()
    assert len(lines) == 2
    for line in lines:
        values = json.loads(line)
        assert values["total_input_tokens"] == 4 * 24 and values["total_output_tokens"] == 12
        assert values["model_id"] == str(MODEL), "as vLLM: the root that the server names"


def test_prompts_from_files(server, tmp_path):
    custom = tmp_path / "custom.jsonl"
    custom.write_text("".join(json.dumps({"prompt": f"What is {i} plus 5?", "output_tokens": i + 2}) + "\n" for i in range(3)))
    common = ["serve", "--port", server.port, "--served-model-name", "qwen3.5", "--model", MODEL, "--ignore-eos", "--save-detailed",
              "--save-result", "--result-dir", tmp_path, "--result-filename"]
    bench(*common, "a.json", "--dataset-name", "custom", "--dataset-path", custom, "--custom-output-len", "-1", "--num-prompts", 0,
          "--disable-shuffle")
    values = json.loads((tmp_path / "a.json").read_text())
    assert values["output_lens"] == [2, 3, 4]
    templated = values["input_lens"]
    bench(*common, "b.json", "--dataset-name", "custom", "--dataset-path", custom, "--num-prompts", 3, "--disable-shuffle",
          "--skip-chat-template", "--output-len", 2)
    plain = json.loads((tmp_path / "b.json").read_text())
    assert all(with_template > without for with_template, without in zip(templated, plain["input_lens"]))

    sharegpt = tmp_path / "sharegpt.json"
    turns = [{"from": "human", "value": "Tell me about the bees and the sea."}, {"from": "gpt", "value": "The bees live in the garden."}]
    sharegpt.write_text(json.dumps([{"conversations": turns}] * 3))
    bench(*common, "c.json", "--dataset-path", sharegpt, "--num-prompts", 5)
    values = json.loads((tmp_path / "c.json").read_text())
    assert values["completed"] == 5, "the file starts again"
    assert len(set(values["output_lens"])) == 1 and values["output_lens"][0] >= 4


# ---- bench serve against a server that misbehaves ----

class Script:
    """A server that gives every completion the same answer: raw bytes, in pieces, and then closes."""

    def __init__(self, *pieces):
        self.pieces, self.bodies, self.heads, self.open, self.most_open = pieces, [], [], 0, 0
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        with connection:
            stream = connection.makefile("rb")
            head = []
            while line := stream.readline().strip():
                head.append(line.decode())
            length = next((int(line.split(":")[1]) for line in head if line.lower().startswith("content-length")), 0)
            body = stream.read(length)
            if not head or "completions" not in head[0]:
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            with self.lock:
                self.heads.append(head)
                self.bodies.append(json.loads(body))
                self.open += 1
                self.most_open = max(self.most_open, self.open)
            try:
                for piece in self.pieces:
                    connection.sendall(piece)
            finally:
                with self.lock:
                    self.open -= 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


def event(**fields):
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def text_event(text):
    return event(choices=[{"index": 0, "text": text}])


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def against(script, tmp_path, *more, code=0):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "hello"}\n')
    result = bench("serve", "--port", script.port, "--model", "m", "--dataset-name", "custom", "--dataset-path", prompts, "--num-prompts", 5,
                   "--custom-output-len", 4, "--save-result", "--save-detailed", "--result-dir", tmp_path, "--result-filename", "r.json",
                   *more, code=code, env={"OPENAI_API_KEY": "hush"})
    return json.loads((tmp_path / "r.json").read_text()), result


def test_a_server_without_usage_metrics_or_tokenizer_is_measured(tmp_path):
    with Script(STREAM, text_event("a"), text_event("b"), text_event("c"), b"data: [DONE]\n\n") as script:
        values, _ = against(script, tmp_path, "--max-concurrency", 2, "--header", "x-team=blue", "--request-id-prefix", "me-",
                            "--extra-body", '{"top_n_sigma": 1}')
        assert values["completed"] == 5 and values["generated_texts"] == ["abc"] * 5
        assert values["output_lens"] == [3] * 5, "events are all that can be counted"
        assert script.most_open <= 2
        assert script.bodies[0] == {"model": "m", "prompt": "hello", "max_tokens": 4, "repetition_penalty": 1.0, "stream": True,
                                    "stream_options": {"include_usage": True}, "top_n_sigma": 1}
        head = "\n".join(script.heads[0])
        assert "Authorization: Bearer hush" in head and "x-team: blue" in head
        assert {line for head in script.heads for line in head if line.startswith("X-Request-Id")} == {f"X-Request-Id: me-{i}" for i in range(5)}


@pytest.mark.parametrize("pieces, words", [
    ((STREAM, text_event("a"), event(error={"message": "out of pages"})), "out of pages"),
    ((b"HTTP/1.1 503 Busy\r\nContent-Length: 31\r\n\r\n", b'{"error": {"message": "later"}}'), "HTTP 503: later"),
    ((b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", text_event("a")), "broke off"),
    ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndata:\r\n", b"zz\r\n"), "broke off"),
    ((b"",), "no answer"),
    ((b"SSH-2.0-OpenSSH\r\n",), "no answer"),
    ((STREAM, b"data: {\n\n"), "JSON"),
    ((STREAM, b"data: [DONE]\n\n"), "no event"),
])
def test_requests_that_fail_are_counted_and_explained(tmp_path, pieces, words):
    with Script(*pieces) as script:
        values, result = against(script, tmp_path, code=1)
        assert values["completed"] == 0 and values["failed"] == 5
        assert all(words in error for error in values["errors"]), values["errors"]
        assert words in result.stderr and "all 5 requests failed" in result.stderr
        assert "Failed requests:                         5" in result.stdout


def test_a_server_that_is_not_there(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "hello"}\n')
    flags = ["serve", "--port", port, "--dataset-name", "custom", "--dataset-path", prompts, "--num-prompts", 2]
    assert "cannot connect" in bench(*flags, "--model", "m", code=1).stderr
    assert "cannot connect" in bench(*flags, code=1).stderr, "nor is there a model to ask for"
    assert "--ready-check-timeout-sec" in bench(*flags, "--model", "m", "--ready-check-timeout-sec", 1, code=1).stderr
    assert "--tokenizer" in bench("serve", "--port", port, "--model", "m", "--num-prompts", 2, code=2).stderr


# ---- without a server ----

def test_latency(tmp_path):
    result = bench("latency", "--model", MODEL, "--input-len", 8, "--output-len", 6, "--batch-size", 3, "--n", 2, "--num-iters", 3,
                   "--num-iters-warmup", 1, "--output-json", tmp_path / "l.json")
    values = json.loads((tmp_path / "l.json").read_text())
    assert set(values) == {"model_id", "avg_latency", "latencies", "percentiles"}
    assert list(values["percentiles"]) == ["10", "25", "50", "75", "90", "99"]
    assert len(values["latencies"]) == 3 and values["avg_latency"] == pytest.approx(sum(values["latencies"]) / 3)
    assert "Avg latency: " in result.stdout and "99% percentile latency: " in result.stdout
    assert (tmp_path / "l.json").read_text().startswith("{\n    "), "indented as by vLLM"


def test_throughput(tmp_path):
    result = bench("throughput", MODEL, "--input-len", 10, "--output-len", 4, "--num-prompts", 6, "--num-warmups", 1, "--async-engine",
                   "--disable-detokenize", "--output-json", tmp_path / "t.json")
    values = json.loads((tmp_path / "t.json").read_text())
    assert set(values) == {"model_id", "elapsed_time", "num_requests", "total_num_tokens", "requests_per_second", "tokens_per_second"}
    assert values["num_requests"] == 6 and values["total_num_tokens"] == 6 * 14
    assert values["tokens_per_second"] == pytest.approx(6 * 14 / values["elapsed_time"])
    assert re.search(r"Throughput: [\d.]+ requests/s, [\d.]+ total tokens/s, [\d.]+ output tokens/s\n"
                     r"Total num prompt tokens:  60\nTotal num output tokens:  24\n", result.stdout)


def test_wrong_command_lines():
    for args, words in [([], "serve"), (["--help"], "throughput")]:
        assert words in bench(*args, code=0 if args else 2).stdout
    for command in ("serve", "latency", "throughput"):
        assert bench(command, "--help").stdout.startswith(f"usage: weir bench {command}")
    assert "did you mean serve" in bench("sevre", code=2).stderr
    assert "name what to measure" in bench("--port", "1", code=2).stderr
    assert "no model given" in bench("latency", code=2).stderr
    assert "--max-model-len" in bench("latency", MODEL, "--input-len", 10, "--output-len", "1k", "--max-model-len", 100, code=1).stderr
    assert "--tensor-parallel-size" in bench("throughput", MODEL, "-tp", 2, code=2).stderr
    assert "--output-json" in bench("throughput", MODEL, "--input-len", 4, "--output-len", 1, "--num-prompts", 1, "--output-json",
                                    "/nowhere/x.json", code=1).stderr


# ---- bench kernels ----

def test_kernels_are_measured_beside_the_machine(tmp_path):
    result = bench("kernels", MODEL, "--tokens", 1, 3, "--context", 64, "--rounds", 1, "--threads", 1, "--working-set-bytes", "4M", "--dtype",
                   "bfloat16", "int8", "--save-result", "--result-dir", tmp_path / "new")
    values = json.loads(only_file(tmp_path / "new").read_text())
    machine = values["machine"]
    assert machine["threads"] == 1 and machine["read_gb_per_s"]["1"] > 0
    assert all(machine[f"{name}_gflop_per_s"] > 0 for name in ("bfloat16", "int8", "float32"))
    assert {line["kernel"] for line in values["results"]} >= {"experts", "head", "delta net core", "paged attention", "norm"}
    assert {line["dtype"] for line in values["results"] if line["kernel"] == "experts"} == {"bfloat16", "int8"}
    for line in values["results"]:
        assert line["tokens"] in (1, 3) and line["seconds"] > 0 and line["of_bound"] > 0
        bound = max(line["gb_per_s"] / line["ceiling_gb_per_s"], line["gflop_per_s"] / line["ceiling_gflop_per_s"])
        assert line["of_bound"] == pytest.approx(bound, rel=1e-6), "one round: no medians of different rounds"
    assert "of bound" in result.stdout and "experts" in result.stdout


def test_what_bench_kernels_refuses():
    assert "known shape (mini, 35B-A3B" in bench("kernels", "400B", code=1).stderr
    assert "--tokens must be numbers from 1 to 4096" in bench("kernels", "--tokens", 0, code=2).stderr
    assert "--dtype must be bfloat16, int8 or float32" in bench("kernels", "--dtype", "int4", code=2).stderr
    assert "--cpu-time needs --threads 1" in bench("kernels", "--cpu-time", code=2).stderr
    assert "names no kernel" in bench("kernels", "mini", "--filter", "xyz", "--threads", 1, code=2).stderr
