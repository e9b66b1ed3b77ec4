#!/usr/bin/env python3
"""Greedy accuracy of a served weir-tiny on its evaluation set, beside the model card's figures. Standard library only.

    weir serve models/weir-tiny &
    tools/weir_tiny/evaluate_server.py models/weir-tiny [--url http://127.0.0.1:8000] [--limit N] [--concurrency N] [TASK …]

Against a server with --speculative-config '{"num_speculative_tokens": 3, "adaptive": false}' it also tells how many of 3
drafts are accepted, along the answers that are the reference word for word, beside the card's figure (which is over all
positions of them; the server verifies behind the last accepted one only).

Texts only: image questions are skipped and said to be. Exit code 1 when the accuracy over all lines is more than --tolerance points off the card's.
"""
import argparse
import concurrent.futures
import json
import re
import sys
import urllib.request
from pathlib import Path

from judge import judge


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as reply:
        return json.load(reply)


def ask(url, model, line):
    """The answer with its markup, as judge() wants it: what stood before and after </think>."""
    body = {k: line[k] for k in ("messages", "tools", "chat_template_kwargs") if k in line}
    thinking = line["chat_template_kwargs"]["enable_thinking"]
    body |= {"model": model, "temperature": 0, "max_tokens": 160 if thinking else 90}
    message = post(f"{url}/v1/chat/completions", body)["choices"][0]["message"]
    content, reasoning = message.get("content"), message.get("reasoning")
    if thinking and reasoning is not None:
        return f"{reasoning}</think>{content}" if content else reasoning
    return content or ""


def counted(url):
    """(verifications, accepted drafts) since the server started, or None where nothing is drafted."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as reply:
        text = reply.read().decode()
    found = [re.search(rf"^vllm:spec_decode_num_{x}_total{{.*}} (\d+)$", text, re.M) for x in ("drafts", "accepted_tokens")]
    return [int(match[1]) for match in found] if all(found) else None


def accepted(url, model, lines, pool):
    before = counted(url)
    if before is None or not lines:
        return None
    list(pool.map(lambda line: ask(url, model, line), lines))
    after = counted(url)
    return (after[1] - before[1]) / max(1, after[0] - before[0])


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("checkpoint", type=Path)
    ap.add_argument("tasks", nargs="*")
    ap.add_argument("--url", default="http://127.0.0.1:8000")
    ap.add_argument("--limit", type=int, default=10**6)
    ap.add_argument("--concurrency", type=int, default=32)
    ap.add_argument("--tolerance", type=float, default=1.0)
    args = ap.parse_args()
    with urllib.request.urlopen(f"{args.url}/v1/models", timeout=60) as reply:
        model = json.load(reply)["data"][0]["id"]
    card = json.loads((args.checkpoint / "eval_results.json").read_text())["bf16_weights"]
    total = right = wanted = 0.0
    print(f"{'task':16s} {'n':>5s} {'weir %':>8s} {'card %':>8s}")
    with concurrent.futures.ThreadPoolExecutor(args.concurrency) as pool:
        for file in sorted((args.checkpoint / "eval").glob("*.jsonl")):
            task = file.stem
            if task in ("golden", "text") or (args.tasks and task not in args.tasks):
                continue
            lines = [json.loads(x) for x in file.read_text().splitlines()][: args.limit]
            if any(isinstance(m["content"], list) for m in lines[0]["messages"]):
                print(f"{task:16s} skipped: needs pictures")
                continue
            answers = list(pool.map(lambda x: ask(args.url, model, x), lines))
            good = sum(judge(line, text) for line, text in zip(lines, answers))
            share = accepted(args.url, model, [x for x, text in zip(lines, answers) if text == x["expected"]], pool)
            drafts = "" if share is None else f"   accepted {share:.2f} of 3 drafts, card {card[task]['mtp_mean_accepted']:.2f}"
            print(f"{task:16s} {len(lines):5d} {100 * good / len(lines):8.1f} {100 * card[task]['accuracy']:8.1f}{drafts}", flush=True)
            total, right, wanted = total + len(lines), right + good, wanted + card[task]["accuracy"] * len(lines)
    off = 100 * (right - wanted) / total
    print(f"{'all':16s} {int(total):5d} {100 * right / total:8.1f} {100 * wanted / total:8.1f}   difference {off:+.2f} points")
    return 0 if abs(off) <= args.tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
