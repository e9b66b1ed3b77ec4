"""What drafting is worth: greedy answers of the same server without drafts, with a fixed number of them and with as many as pay, in turns.
Prints medians of the tokens per second, their ratio to plain decoding round by round, and the tokens per verification.

    python3 bench/speculation.py CHECKPOINT [--drafts 3] [--batches 1,8,32] [--rounds 3] [--tokens 128]

A checkpoint whose drafts are right often: tools/golden/make_reference.py --agreement 0.98 (docs/performance.md has the whole command).
"""
import argparse
import contextlib
import http.client
import json
import random
import re
import statistics
import threading
import time

from prefix_cache import complete, draw, serve


def counters(port):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    found = [re.search(rf"^vllm:spec_decode_num_{name}_total{{.*}} (\d+)$", text, re.M) for name in ("drafts", "accepted_tokens")]
    return [int(match[1]) if match else 0 for match in found]


def answer_all(port, batch, tokens, seed):
    """Tokens per second of `batch` requests at once, from the first to the last token, and their texts."""
    rng = random.Random(seed)
    prompts = [draw(rng, 24) for _ in range(batch)]
    texts = [None] * batch

    def run(number):
        texts[number] = complete(port, prompts[number], tokens)[1]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(batch)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return batch * tokens / (time.monotonic() - start), texts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--drafts", type=int, default=3)
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args()
    common = ("--max-model-len", "2048", "--kv-cache-memory-bytes", "1G", "--no-enable-prefix-caching")
    config = {"num_speculative_tokens": options.drafts}
    kinds = {"plain": (), "fixed": ("-sc", json.dumps(config | {"adaptive": False})), "adaptive": ("-sc", json.dumps(config))}
    with contextlib.ExitStack() as stack:
        ports = {kind: stack.enter_context(serve(options.model, *common, *flags)) for kind, flags in kinds.items()}
        for batch in map(int, options.batches.split(",")):
            for port in ports.values():
                answer_all(port, batch, options.tokens, seed=1)  # warm, and time for adaptation to learn
            speeds, before = {kind: [] for kind in kinds}, {kind: counters(port) for kind, port in ports.items()}
            for number in range(options.rounds):
                texts = {}
                for kind in list(kinds) if number % 2 == 0 else reversed(kinds):
                    speed, texts[kind] = answer_all(ports[kind], batch, options.tokens, seed=10 + number)
                    speeds[kind].append(speed)
                assert texts["fixed"] == texts["adaptive"] == texts["plain"], "drafts changed an answer"
            print(f"{batch} at once, median of {options.rounds}:", flush=True)
            for kind, port in ports.items():
                drafts, accepted = (now - then for now, then in zip(counters(port), before[kind]))
                ratios = sorted(a / b for a, b in zip(speeds[kind], speeds["plain"]))
                length = f"   {1 + accepted / drafts:.2f} tokens per verification" if drafts else ""
                print(f"  {kind:9} {statistics.median(speeds[kind]):8.1f} tok/s   ratio {statistics.median(ratios):5.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}){length}", flush=True)


if __name__ == "__main__":
    main()
