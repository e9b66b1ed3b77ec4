#!/usr/bin/env python3
"""64 streams at once with random aborts, then a look for leaks.

    soak_streams.py [--seconds 60] [--streams 64] [--seed 1]        WEIR_BIN: the binary (build/release/weir)

Each stream asks, reads, and in about half of the cases goes away at a random moment: before the first byte, in the middle, or while
the request is still being sent. Whatever is read to the end must be a complete, well-formed answer. When all are gone the engine must
be idle: nothing running or waiting, no page and no state slot in use.
"""
import argparse
import asyncio
import collections
import json
import random
import sys

from weir_server import Server, is_idle

PROMPTS = ["The future of AI is", "Once upon a time there was", "red blue green red blue", "A young bee is called", "Count from 3 to 90."]


async def one_stream(port, rng, counts):
    words = " ".join(rng.choice(PROMPTS) for _ in range(rng.choice((1, 1, 3, 30, 120))))
    chat = rng.random() < 0.4
    body = {"model": "qwen3.5", "max_tokens": rng.choice((1, 8, 40, 150, 400)), "temperature": rng.choice((0, 0.7, 1.2)), "stream": True,
            "n": rng.choice((1, 1, 1, 2, 3)), "stream_options": {"include_usage": True}, "ignore_eos": rng.random() < 0.5}
    body.update({"messages": [{"role": "user", "content": words}]} if chat else {"prompt": words})
    text = json.dumps(body).encode()
    request = (f"POST /v1/{'chat/' if chat else ''}completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
               f"Connection: close\r\nContent-Length: {len(text)}\r\n\r\n").encode() + text
    abort_after = rng.choice((None, None, 0, 1, rng.randrange(2, 60))) if rng.random() < 0.9 else -1  # events read; -1: a torn request
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        if abort_after == -1:
            writer.write(request[: rng.randrange(len(request))])
            await writer.drain()
            counts["torn requests"] += 1
            return
        writer.write(request)
        await writer.drain()
        if abort_after == 0:
            await asyncio.sleep(rng.random() * 0.05)
            counts["aborted before the first event"] += 1
            return
        status = (await reader.readline()).split()
        assert status[1:2] == [b"200"], (status, await reader.read(2000))
        while (await reader.readline()).strip():
            pass
        events = done = usage = 0
        finished = set()
        while line := await reader.readline():
            line = line.strip()
            if not line.startswith(b"data: "):
                continue
            if line == b"data: [DONE]":
                done = 1
                continue
            event = json.loads(line[6:])
            assert "error" not in event, event
            finished |= {choice["index"] for choice in event["choices"] if choice["finish_reason"]}
            usage += bool(event.get("usage"))
            events += 1
            if events == abort_after:
                counts["aborted while streaming"] += 1
                return
        assert done and usage == 1 and finished == set(range(body["n"])), (done, usage, finished, body)
        counts["read to the end"] += 1
    finally:
        writer.close()


async def keep_asking(port, rng, deadline, counts, failures):
    while asyncio.get_running_loop().time() < deadline and not failures:
        try:
            await asyncio.wait_for(one_stream(port, rng, counts), 120)
        except Exception as error:  # any: the first one ends the run and is its result
            failures.append(repr(error))


async def soak(port, seconds, streams, seed):
    counts, failures = collections.Counter(), []
    deadline = asyncio.get_running_loop().time() + seconds
    await asyncio.gather(*(keep_asking(port, random.Random(seed * 1000 + i), deadline, counts, failures) for i in range(streams)))
    return counts, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with Server("--served-model-name", "qwen3.5", "--reasoning-parser", "qwen3", "--disable-log-requests") as server:
        counts, failures = asyncio.run(soak(server.port, options.seconds, options.streams, options.seed))
        print(f"{options.streams} streams for {options.seconds:g} s:", ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
        if failures:
            print("failed:", *failures[:5], sep="\n  ")
            return 1
        server.wait_metrics(30, "idle engine", is_idle)
        metrics = server.metrics()
        print(f"idle again: {metrics['vllm:num_requests_running']:g} running, {metrics['vllm:num_requests_waiting']:g} waiting, "
              f"{metrics['weir:pages_used']:g} pages and {metrics['weir:state_slots_used']:g} state slots in use, "
              f"{metrics['vllm:num_preemptions_total']:g} preemptions, {metrics['vllm:generation_tokens_total']:g} tokens generated")
    return 0


if __name__ == "__main__":
    sys.exit(main())
