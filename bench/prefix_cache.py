"""What the prefix cache is worth: the same workloads on a server with it and on one without, in turns, driven by `weir bench serve`
and, where a prompt depends on the answer before, by this script. Prints medians and ratios.

    python3 bench/prefix_cache.py .cache/mini [--rounds 3] [--workloads cold,shared,agent,branching]
"""
import argparse
import contextlib
import http.client
import json
import os
import pathlib
import random
import socket
import statistics
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
WEIR = os.environ.get("WEIR_BIN", str(ROOT / "build" / "release" / "weir"))


@contextlib.contextmanager
def serve(model, *flags):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tempfile.TemporaryFile()
    server = subprocess.Popen([WEIR, "serve", model, "--port", str(port), "--served-model-name", "m", *flags], stdout=log, stderr=log)
    try:
        for _ in range(1200):
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", port)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    break
            if server.poll() is not None:
                log.seek(0)
                raise SystemExit(log.read().decode(errors="replace"))
            time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait()


def reset(port):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/reset_prefix_cache")
    connection.getresponse().read()


def bench(port, model, *flags):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([WEIR, "bench", "serve", "--port", str(port), "--model", "m", "--tokenizer", model, "--save-result", "--result-dir", folder,
                        "--result-filename", "out.json", "--ignore-eos", *map(str, flags)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        out = json.loads((pathlib.Path(folder) / "out.json").read_text())
    return {"output tok/s": out["output_throughput"], "total tok/s": out["total_token_throughput"], "median TTFT ms": out["median_ttft_ms"],
            "median TPOT ms": out["median_tpot_ms"]}


def complete(port, prompt, max_tokens):
    """Seconds to the first token, token ids of the answer, cached tokens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3600)
    body = {"model": "m", "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True, "stream": True, "return_token_ids": True,
            "stream_options": {"include_usage": True}}
    start = time.monotonic()
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    first, tokens, cached = None, [], 0
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        for choice in event["choices"]:
            tokens += choice.get("token_ids") or []
            first = first or time.monotonic() - start
        cached = ((event.get("usage") or {}).get("prompt_tokens_details") or {}).get("cached_tokens", cached)
    return first, tokens, cached


def draw(rng, count):
    return [rng.randrange(300, 2000) for _ in range(count)]


def summary(asked, seconds, answered):
    return {"output tok/s": answered / seconds, "median TTFT ms": 1000 * statistics.median(first for first, _, _ in asked),
            "prompt tokens computed": sum(size - cached for _, size, cached in asked)}


def cold(port, model, seed):
    return bench(port, model, "--dataset-name", "random", "--random-input-len", 512, "--random-output-len", 32, "--num-prompts", 24,
                 "--max-concurrency", 8, "--seed", seed)


def shared(port, model, seed):
    return bench(port, model, "--dataset-name", "prefix_repetition", "--prefix-repetition-prefix-len", 2048, "--prefix-repetition-suffix-len", 228,
                 "--prefix-repetition-num-prefixes", 1, "--prefix-repetition-output-len", 64, "--num-prompts", 64, "--max-concurrency", 32, "--seed", seed)


def agent(port, model, seed):
    """Four agents, each of eight turns: everything so far is sent again, with what a tool said behind it."""
    asked, answered, lock = [], [0], threading.Lock()

    def run(number):
        rng = random.Random(seed * 100 + number)
        text = draw(rng, 1024)
        for _ in range(8):
            first, answer, known = complete(port, text, 32)
            with lock:
                asked.append((first, len(text), known))
                answered[0] += len(answer)
            text = text + answer + draw(rng, 96)

    start = time.monotonic()
    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return summary(asked, time.monotonic() - start, answered[0])


def branching(port, model, seed):
    """One long document, twelve questions, one after the other."""
    rng = random.Random(seed)
    document = draw(rng, 3000)
    asked, answered, start = [], 0, time.monotonic()
    for _ in range(12):
        prompt = document + draw(rng, 40)
        first, answer, known = complete(port, prompt, 16)
        asked.append((first, len(prompt), known))
        answered += len(answer)
    return summary(asked, time.monotonic() - start, answered)


WORKLOADS = {workload.__name__: workload for workload in (cold, shared, agent, branching)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    options = parser.parse_args()
    with serve(options.model) as on, serve(options.model, "--no-enable-prefix-caching") as off:
        for name in options.workloads.split(","):
            seen = {"on": [], "off": []}
            for number in range(options.rounds):
                for kind, port in (("on", on), ("off", off)) if number % 2 == 0 else (("off", off), ("on", on)):
                    reset(on)
                    seen[kind].append(WORKLOADS[name](port, options.model, seed=1000 * number + len(name)))
            print(f"{name}: median of {options.rounds}", flush=True)
            for figure in seen["on"][0]:
                a, b = (statistics.median(run[figure] for run in seen[kind]) for kind in ("on", "off"))
                ratios = [x[figure] / y[figure] for x, y in zip(seen["on"], seen["off"])]
                print(f"  {figure:24} with {a:10.1f}   without {b:10.1f}   ratio {statistics.median(ratios):6.3f}", flush=True)


if __name__ == "__main__":
    main()
