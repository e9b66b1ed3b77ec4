"""The prefix cache as its users see it: what is reported as cached, that answers do not change, and that it can be switched off."""
import random
import subprocess

import pytest
from weir_server import BINARY, MODEL, Server

VOCABULARY = 2000  # ordinary tokens of weir-tiny


def tokens(count, seed):
    draw = random.Random(seed)
    return [draw.randrange(300, VOCABULARY) for _ in range(count)]


def cached(reply):
    return (reply["usage"].get("prompt_tokens_details") or {}).get("cached_tokens", 0)


def ask(server, prompt, **fields):
    reply = server.complete(prompt, **{"max_tokens": 4, "ignore_eos": True, "return_token_ids": True, **fields})
    return reply["choices"][0]["token_ids"], cached(reply)


@pytest.mark.parametrize("length", [32, 33, 47, 48, 49, 63, 64, 65, 100, 127, 128, 129, 500, 1023, 1024, 1025, 2047, 2048, 2049, 3000])
def test_a_repeated_prompt_of_any_length_computes_at_most_16_tokens(server, length):
    prompt = tokens(length, seed=length)
    cold, nothing = ask(server, prompt)
    warm, known = ask(server, prompt)
    assert nothing == 0
    assert length - 16 <= known < length
    assert warm == cold


def test_another_end_begins_where_the_texts_part(server):
    document = tokens(1500, seed=1)
    for question in range(3):
        answer, known = ask(server, document + tokens(40, seed=100 + question))
        if question == 2:  # the first leaves pages, the second a state at the junction, the third finds both
            assert known >= 1500 - 16
    assert ask(server, document + tokens(40, seed=102))[0] == answer


def test_turns_of_an_agent_compute_only_what_is_new(server):
    text = tokens(200, seed=5)
    for turn in range(10):
        answer, known = ask(server, text, max_tokens=37)
        if turn > 0:
            assert known >= before - 16, f"turn {turn}"
        before = len(text) + len(answer) - 1  # the token sampled last was never computed
        text = text + answer + tokens(29, seed=50 + turn)


def test_a_chat_of_twenty_turns_with_thoughts_computes_only_what_is_new(server):
    messages = [{"role": "system", "content": "You are a careful clerk. " * 8}]
    before = 0
    for turn in range(20):
        messages.append({"role": "user", "content": f"What is {turn} plus {turn * 3}?"})
        reply = server.chat(messages=messages, max_tokens=60, chat_template_kwargs={"enable_thinking": True})
        # The turn before is rendered without its thoughts now, so what is shared ends with its question and the words that open an answer.
        if turn > 0:
            assert cached(reply) >= before - 16 - 4, f"turn {turn}: {cached(reply)} of {before} tokens cached"
        before = reply["usage"]["prompt_tokens"]
        messages.append({"role": "assistant", "content": reply["choices"][0]["message"]["content"] or "I do not know."})


def test_salts_share_nothing(server):
    prompt = tokens(300, seed=9)
    ask(server, prompt, cache_salt="one")
    assert ask(server, prompt, cache_salt="two")[1] == 0
    assert ask(server, prompt, cache_salt="one")[1] >= 284
    assert ask(server, prompt)[1] == 0


@pytest.mark.parametrize("salt", ["", 5, "x" * 2000])
def test_a_salt_that_is_none_is_named(server, salt):
    reply = server.post("/v1/completions", {"model": "qwen3.5", "prompt": "x", "cache_salt": salt})
    assert reply.status == 400 and "cache_salt" in reply.error["message"]


def test_a_reset_forgets_and_the_metrics_count(server):
    prompt = tokens(400, seed=11)
    ask(server, prompt)
    before = server.metrics()
    assert ask(server, prompt)[1] >= 384
    after = server.metrics()
    assert after["vllm:prefix_cache_queries_total"] - before["vllm:prefix_cache_queries_total"] == 400
    assert after["vllm:prefix_cache_hits_total"] - before["vllm:prefix_cache_hits_total"] >= 384
    assert after["weir:pages_cached"] >= 25 and after["weir:state_slots_cached"] >= 1
    assert server.post("/reset_prefix_cache", "").status == 200
    assert ask(server, prompt)[1] == 0


def test_prompt_logprobs_are_computed_all_the_same(server):
    prompt = tokens(100, seed=12)
    ask(server, prompt)
    reply = server.complete(prompt, max_tokens=1, prompt_logprobs=1)
    assert cached(reply) == 0 and len(reply["choices"][0]["prompt_logprobs"]) == 100


def test_it_can_be_switched_off(server):
    prompt = tokens(300, seed=13)
    with Server("--served-model-name", "qwen3.5", "--no-enable-prefix-caching") as plain:
        answers = [ask(plain, prompt) for _ in range(2)]
        assert [known for _, known in answers] == [0, 0]
        assert plain.metrics()["weir:pages_cached"] == 0
        assert answers[0][0] == answers[1][0] == ask(server, prompt)[0] == ask(server, prompt)[0]


def test_why_a_prompt_was_no_hit_is_in_the_debug_log():
    with Server("--served-model-name", "qwen3.5", "--log-level", "debug") as talkative:
        document = tokens(200, seed=21)
        ask(talkative, document)
        ask(talkative, document[:100] + tokens(50, seed=22))
        lines = [line for line in talkative.log.splitlines() if "prefix cache:" in line]
    assert len(lines) == 2
    assert "0 of 200 prompt tokens cached" in lines[0] and "known up to 96, but no state there" in lines[1]


def test_what_the_cache_gives_up_comes_back_from_the_second_tier():
    # Pages for about 2,000 tokens, 8 states: eight texts of 600 tokens push each other out.
    with Server("--served-model-name", "qwen3.5", "--max-num-seqs", "4", "--max-model-len", "1024", "--num-state-snapshots", "4",
                "--kv-cache-memory-bytes", "14M", "--kv-offload-size", "64M") as small:
        texts = [tokens(600, seed=200 + i) for i in range(8)]
        cold = [ask(small, text) for text in texts]
        assert [known for _, known in cold] == [0] * 8
        warm = [ask(small, text) for text in texts]
        assert [answer for answer, _ in warm] == [answer for answer, _ in cold]
        assert all(known >= 600 - 16 for _, known in warm), [known for _, known in warm]
        metrics = small.metrics()
        assert metrics["vllm:external_prefix_cache_hits_total"] >= 5 * 584 and metrics["weir:kv_offload_bytes"] > 0


def test_a_kept_tier_survives_a_restart(tmp_path):
    flags = ["--served-model-name", "qwen3.5", "--kv-offload-size", "64M", "--kv-offload-dir", str(tmp_path), "--kv-offload-keep"]
    text = tokens(1000, seed=300)
    with Server(*flags) as first:
        answer, known = ask(first, text)
        assert known == 0
    with Server(*flags) as second:
        assert "pages and states of an earlier run" in second.log
        warm, known = ask(second, text)
        assert warm == answer and known >= 984
    for segment in tmp_path.glob("*/segment-*"):  # a torn write, a bad disk
        data = bytearray(segment.read_bytes())
        for at in range(0, len(data), 5000):
            data[at] ^= 0x55
        segment.write_bytes(data)
    with Server(*flags) as third:
        assert ask(third, text)[0] == answer


@pytest.mark.parametrize("flags, word", [
    (["--kv-offload-dir", "/tmp"], "--kv-offload-size"),
    (["--kv-offload-size", "1G", "--kv-offload-keep"], "--kv-offload-dir"),
    (["--kv-offload-size", "9000G"], "--kv-offload-dir to keep the second tier in files"),
    (["--kv-offload-size", "1000"], "--kv-offload-size must be at least"),
    (["--kv-offload-size", "1G", "--kv-offload-dir", "/proc/none"], "--kv-offload-dir /proc/none"),
])
def test_flags_of_the_second_tier_that_cannot_work_are_named(flags, word):
    result = subprocess.run([str(BINARY), "serve", str(MODEL), "--port", "0", *flags], capture_output=True, text=True, timeout=60)
    assert result.returncode != 0 and word in result.stdout + result.stderr, result.stderr
