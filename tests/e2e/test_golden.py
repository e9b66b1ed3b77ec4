"""weir-tiny's published float32 outputs against the server's default (BF16) ones, token by token."""
import concurrent.futures
import json

import pytest
from weir_server import MODEL

GOLDEN = [json.loads(line) for line in (MODEL / "eval" / "golden.jsonl").read_text().splitlines()]
END = {2015, 2017}  # <|endoftext|>, <|im_end|>


def has_image(golden):
    return any(isinstance(message["content"], list) for message in golden.get("messages", []))


TEXT = [golden for golden in GOLDEN if not has_image(golden)]


def ask(server, golden):
    """(prompt ids, output ids, first token's top logprobs) as the server gives them."""
    # min_tokens stays 0 and max_tokens is the published length, so that an end too late shows as well.
    fields = {"max_tokens": len(golden["output_ids"]), "return_token_ids": True, "skip_special_tokens": False}
    if "prompt" in golden:
        answer = server.complete(golden["prompt"], **fields)
        return answer["choices"][0]["prompt_token_ids"], answer["choices"][0]["token_ids"]
    extra = {"tools": golden["tools"]} if golden.get("tools") else {}
    answer = server.chat(messages=golden["messages"], chat_template_kwargs=golden["chat_template_kwargs"], **extra, **fields)
    return answer["prompt_token_ids"], answer["choices"][0]["token_ids"]


@pytest.fixture(scope="module")
def answers(server):
    with concurrent.futures.ThreadPoolExecutor(len(TEXT)) as pool:  # all at once: batching must not change them
        return list(pool.map(lambda golden: ask(server, golden), TEXT))


def test_prompts_are_rendered_and_tokenized_as_published(answers):
    for golden, (prompt, _) in zip(TEXT, answers):
        assert prompt == golden["prompt_ids"], golden["id"]


def test_greedy_outputs_agree_on_at_least_95_percent_of_the_prompts(answers):
    def body(ids):
        return ids[:-1] if ids and ids[-1] in END else ids

    different = [golden["id"] for golden, (_, output) in zip(TEXT, answers) if body(output) != body(golden["output_ids"])]
    assert len(different) <= 0.05 * len(TEXT), f"{len(different)} of {len(TEXT)} differ: {different}"


def test_one_at_a_time_gives_the_same_tokens_as_all_at_once(server, answers):
    for golden, (_, together) in list(zip(TEXT, answers))[::4]:
        assert ask(server, golden)[1] == together, golden["id"]


def test_the_first_token_is_as_likely_as_published(server):
    for golden in TEXT[:8]:
        if "prompt" in golden:
            continue
        answer = server.chat(messages=golden["messages"], chat_template_kwargs=golden["chat_template_kwargs"],
                             **({"tools": golden["tools"]} if golden.get("tools") else {}),
                             max_tokens=1, logprobs=True, top_logprobs=5, return_tokens_as_token_ids=True)
        first = answer["choices"][0]["logprobs"]["content"][0]
        token, logprob = golden["first_top5"][0]
        assert first["token"] == f"token_id:{token}", golden["id"]
        assert abs(first["logprob"] - logprob) < 0.1, golden["id"]
