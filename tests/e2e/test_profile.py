"""Profiles as people record them: from the start, from a client, from the benchmarks; the traces are what Perfetto reads."""
import json
import os
import re
import subprocess

from weir_server import BINARY, MODEL, Server

OPERATORS = {"linear", "head", "norm", "experts", "delta net", "attention", "sample", "forward", "plan", "commit"}


def steps_of(trace):
    """The events of a trace file, checked: whole spans of one process, each inside the span that is open."""
    events = json.loads(trace.read_text())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    assert {event["name"] for event in events if event["ph"] == "M"} == {"process_name", "thread_name"}
    end = {}
    for event in sorted(spans, key=lambda event: (event["ts"], -event["dur"])):
        open_ends = [e for e in end.get(event["tid"], []) if e > event["ts"] + 0.0011]  # written with three digits
        assert all(event["ts"] + event["dur"] <= e + 0.0021 for e in open_ends), event
        end[event["tid"]] = [*open_ends, event["ts"] + event["dur"]]
    assert OPERATORS <= {event["name"] for event in spans}, {event["name"] for event in spans}
    return [event for event in spans if "args" in event]


def only_trace(directory):
    files = list(directory.glob("weir-*.trace.json"))
    assert len(files) == 1, files
    return files[0]


def test_a_client_records_what_it_asks_for(tmp_path):
    directory = tmp_path / "new" / "traces"
    with Server("--served-model-name", "qwen3.5", "--profile-dir", directory) as server:
        assert "POST /start_profile first" in server.post("/stop_profile", {}).error["message"]
        server.complete(max_tokens=4)
        assert server.post("/start_profile", {}).status == 200
        server.complete(max_tokens=9, ignore_eos=True)
        server.wait_idle()
        reply = server.post("/stop_profile", {})
        assert reply.status == 200
        table = reply.body.decode()
        assert re.search(r"^prompt: 1 steps of 1\.0 rows", table, re.MULTILINE), table
        assert re.search(r"^decode: 8 steps of 1\.0 rows and 1\.0 tokens", table, re.MULTILINE), table
        server.complete(max_tokens=4)
        assert server.post("/stop_profile", {}).status == 400, "nothing is recorded any more"
        assert table.splitlines()[-1] in server.log, "the table is in the log, too"
    steps = steps_of(only_trace(directory))
    assert [step["name"] for step in steps] == ["prompt"] + ["decode"] * 8
    assert all(step["args"] == {"rows": 1, "tokens": 1} for step in steps[1:])


def test_the_whole_run_is_recorded_and_shown_at_the_end(tmp_path):
    with Server("--served-model-name", "qwen3.5", "--profile", "--profiler-config.torch_profiler_dir", tmp_path) as server:
        server.complete(max_tokens=5, ignore_eos=True)
        server.stop(expect_clean=False)
        assert re.search(r"decode: 4 steps of 1\.0 rows", server.log), server.log
        assert server.process.returncode == 0
    assert len(steps_of(only_trace(tmp_path))) == 5


def test_a_server_that_was_not_asked_to_has_no_such_paths(server):
    for path in ("/start_profile", "/stop_profile"):
        reply = server.post(path, {})
        assert reply.status == 404 and "--profile-dir" in reply.error["message"]


def test_the_key_and_the_environment_of_vllm(tmp_path):
    os.environ["VLLM_TORCH_PROFILER_DIR"] = str(tmp_path)
    try:
        server = Server("--served-model-name", "qwen3.5", "--api-key", "secret")
    finally:
        del os.environ["VLLM_TORCH_PROFILER_DIR"]
    with server:
        assert server.post("/start_profile", {}).status == 401
        assert server.post("/start_profile", {}, headers={"Authorization": "Bearer secret"}).status == 200
        assert server.post("/stop_profile", {}, headers={"Authorization": "Bearer secret"}).status == 200
    assert only_trace(tmp_path).stat().st_size > 0


def run(*args):
    result = subprocess.run([BINARY, *map(str, args)], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return result


def test_benchmarks_and_generate_show_a_profile(tmp_path):
    result = run("bench", "latency", MODEL, "--input-len", 8, "--output-len", 4, "--batch-size", 1, "--num-iters", 2, "--num-iters-warmup", 1,
                 "--profile", "--profile-dir", tmp_path / "latency")
    # The step that hands out the last token may still be open when the recording ends.
    assert re.search(r"^decode: [56] steps of 1\.0 rows", result.stdout, re.MULTILINE), "the runs before the measured ones do not count"
    assert len(steps_of(only_trace(tmp_path / "latency"))) in (7, 8)
    result = run("bench", "throughput", MODEL, "--random-input-len", 8, "--random-output-len", 4, "--num-prompts", 2, "--profile",
                 "--profile-dir", tmp_path / "throughput")
    assert "Profile of" in result.stdout
    steps_of(only_trace(tmp_path / "throughput"))
    result = run("generate", MODEL, "--prompt", "The", "--max-tokens", 4, "--ignore-eos", "--profile", "--profile-dir", tmp_path / "generate")
    assert "Profile of" in result.stderr and "Profile of" not in result.stdout
    steps_of(only_trace(tmp_path / "generate"))


def test_bench_serve_has_the_server_record(tmp_path):
    with Server("--served-model-name", "qwen3.5", "--profile-dir", tmp_path) as server:
        result = run("bench", "serve", "--port", server.port, "--served-model-name", "qwen3.5", "--model", MODEL, "--num-prompts", 2,
                     "--random-input-len", 8, "--random-output-len", 4, "--profile")
        assert "did not profile" not in result.stderr
    steps_of(only_trace(tmp_path))
