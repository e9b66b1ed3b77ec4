#!/usr/bin/env python3
"""How far one served weir-tiny is from another: W8A8 from BF16, int8 pages from BF16 ones. Standard library only.

    weir serve models/weir-tiny --port 8000 & weir serve OTHER --port 8001 &
    tools/weir_tiny/compare_servers.py models/weir-tiny http://127.0.0.1:8000 http://127.0.0.1:8001 [--limit N]

Prints the perplexity of eval/text.jsonl under both (log probabilities of the prompt), of every text alone and of texts joined
by 20, which fill pages and fold states; and of how many word problems (with and
without thinking) the answers are the same number, and the same text. Exit code 1 when the perplexities are more than
--perplexity per cent apart or fewer than --same per cent of the numbers agree.
"""
import argparse
import concurrent.futures
import json
import math
import re
import sys
import urllib.request
from pathlib import Path

from evaluate_server import ask, post

TASKS = ("word", "word_think")


def read_lines(checkpoint, task, limit):
    return [json.loads(line) for line in (checkpoint / "eval" / f"{task}.jsonl").read_text().splitlines()][:limit]


def model_of(url):
    with urllib.request.urlopen(f"{url}/v1/models", timeout=60) as reply:
        return json.load(reply)["data"][0]["id"]


def log_probabilities(url, model, text):
    """Of every token of the text but the first."""
    body = {"model": model, "prompt": text, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    positions = post(f"{url}/v1/completions", body)["choices"][0]["prompt_logprobs"]
    return [next(iter(position.values()))["logprob"] for position in positions if position]


def perplexity(url, texts, pool):
    model = model_of(url)
    values = [p for found in pool.map(lambda text: log_probabilities(url, model, text), texts) for p in found]
    return math.exp(-sum(values) / len(values))


def answers(url, lines, pool):
    model = model_of(url)
    return list(pool.map(lambda line: ask(url, model, line), lines))


def last_number(text):
    found = re.findall(r"-?\d+", text.split("</think>")[-1])
    return found[-1] if found else None


def compare(checkpoint, first, second, limit, concurrency=16):
    """{"perplexity": (of first, of second), "joined": the same, task: (share of equal numbers, share of equal texts), …}"""
    out = {}
    with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
        texts = [line["text"] for line in read_lines(checkpoint, "text", limit)]
        joined = [" ".join(texts[i : i + 20]) for i in range(0, len(texts), 20)]
        out["perplexity"] = tuple(perplexity(url, texts, pool) for url in (first, second))
        out["joined"] = tuple(perplexity(url, joined, pool) for url in (first, second))
        for task in TASKS:
            lines = read_lines(checkpoint, task, limit)
            pairs = list(zip(*(answers(url, lines, pool) for url in (first, second))))
            out[task] = (sum(last_number(a) == last_number(b) for a, b in pairs) / len(pairs), sum(a == b for a, b in pairs) / len(pairs))
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("checkpoint", type=Path)
    ap.add_argument("first")
    ap.add_argument("second")
    ap.add_argument("--limit", type=int, default=10**6)
    ap.add_argument("--perplexity", type=float, default=1.0)
    ap.add_argument("--same", type=float, default=97.0)
    args = ap.parse_args()
    found = compare(args.checkpoint, args.first, args.second, args.limit)
    apart = {}
    for name in ("perplexity", "joined"):
        first, second = found[name]
        apart[name] = 100 * (second / first - 1)
        print(f"{name:12s} {first:.5f} and {second:.5f}: {apart[name]:+.3f} %")
    for task in TASKS:
        print(f"{task:12s} same number {100 * found[task][0]:.1f} %, same text {100 * found[task][1]:.1f} %")
    good = all(abs(x) <= args.perplexity for x in apart.values()) and all(100 * found[task][0] >= args.same for task in TASKS)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
