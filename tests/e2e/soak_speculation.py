#!/usr/bin/env python3
"""500 prompts with and without guesses: cold and behind cached prefixes, one and 16 at once. (soak_cached does it under preemption.)

    soak_speculation.py [--prompts 500] [--model DIR]        WEIR_BIN: the binary (build/release/weir)

Every answer must be that of plain decoding of one request at a time: greedy, sampled, with penalties, log-probabilities and stop strings.
"""
import argparse
import concurrent.futures
import json
import pathlib
import sys

from weir_server import MODEL, Server

VARIANTS = [
    {"temperature": 0, "max_tokens": 120},
    {"temperature": 0, "max_tokens": 150, "ignore_eos": True},
    {"temperature": 0.9, "top_p": 0.9, "seed": 11, "max_tokens": 60, "logprobs": True, "top_logprobs": 2},
    {"temperature": 0, "max_tokens": 60, "repetition_penalty": 1.2, "stop": ["7"]},
]


def requests(model, count):
    files = sorted(file for file in (model / "eval").glob("*.jsonl") if file.stem not in ("image", "text", "golden"))
    lines = [[json.loads(line) for line in file.open()] for file in files]
    chosen = [file[i // len(files)] for i in range(count) for file in [lines[i % len(files)]] if i // len(files) < len(file)]
    for i, line in enumerate(chosen):
        body = {"model": "m", "messages": line["messages"], "chat_template_kwargs": line["chat_template_kwargs"], **VARIANTS[i % len(VARIANTS)]}
        yield body | ({"tools": line["tools"]} if line.get("tools") else {})


def answers(server, bodies, at_once):
    def ask(body):
        reply = server.post("/v1/chat/completions", body, timeout=600)
        assert reply.status == 200, reply.body
        choice = reply.json["choices"][0]
        return choice["message"], choice["logprobs"], choice["finish_reason"]

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(ask, bodies))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--model", type=pathlib.Path, default=MODEL)
    options = parser.parse_args()
    bodies = list(requests(options.model, options.prompts))
    common = ("--served-model-name", "m", "--disable-log-requests", "--max-model-len", "4096")
    with Server(*common, model=options.model) as server:
        plain = answers(server, bodies, 1)
    failed = 0
    for what, guesses in (("3 guesses", {"num_speculative_tokens": 3, "adaptive": False}), ("up to 5, adaptive", {"num_speculative_tokens": 5})):
        with Server(*common, "-sc", json.dumps(guesses), model=options.model) as server:
            for state, at_once in (("cold", 1), ("cached", 16)):
                different = sum(got != want for got, want in zip(answers(server, bodies, at_once), plain))
                metrics = server.metrics()
                drafts, accepted = (metrics[f"vllm:spec_decode_num_{x}_total"] for x in ("drafts", "accepted_tokens"))
                print(f"{what}, {state}, {at_once} at once: {different} of {len(bodies)} answers differ; so far {1 + accepted / max(1, drafts):.2f} tokens per "
                      f"verification, {metrics['vllm:prefix_cache_hits_total']:g} prompt tokens cached", flush=True)
                failed += different
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
