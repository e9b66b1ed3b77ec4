"""The prefix cache as its users see it: what is reported as cached, that answers do not change, and that it can be switched off."""
import random

import pytest
from weir_server import Server

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
