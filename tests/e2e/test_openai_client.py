"""The official openai client against the real binary: what its users rely on."""
import math

import openai
import pytest

PROMPT = "The future of AI is"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
NO_THOUGHT = {"chat_template_kwargs": {"enable_thinking": False}}


@pytest.fixture(scope="session")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=120) as session:
        yield session


def complete(client, **fields):
    return client.completions.create(**{"model": "qwen3.5", "prompt": PROMPT, "max_tokens": 16, "temperature": 0, **fields})


def chat(client, **fields):
    extra = {**NO_THOUGHT, **fields.pop("extra_body", {})}
    return client.chat.completions.create(
        **{"model": "qwen3.5", "messages": QUESTION, "max_tokens": 48, "temperature": 0, "extra_body": extra, **fields})


def test_models_lists_every_served_name(client):
    assert [model.id for model in client.models.list()] == ["qwen3.5", "weir-tiny"]


def test_a_completion_has_text_usage_and_the_first_served_name(client):
    answer = complete(client, model="weir-tiny")
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-")
    assert answer.model == "qwen3.5"
    assert answer.choices[0].text and answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.prompt_tokens == 5
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 1 <= answer.usage.completion_tokens <= 16


def test_max_tokens_is_the_length_of_the_answer(client):
    answer = complete(client, max_tokens=7, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 7 and answer.choices[0].finish_reason == "length"


def test_a_list_of_prompts_gives_choices_in_their_order(client):
    prompts = ["Once upon a time", PROMPT, "red blue green red blue"]
    together = complete(client, prompt=prompts)
    assert [choice.index for choice in together.choices] == [0, 1, 2]
    assert [choice.text for choice in together.choices] == [complete(client, prompt=one).choices[0].text for one in prompts]


def test_a_streamed_completion_is_the_plain_one_in_pieces(client):
    whole = complete(client, max_tokens=40)
    chunks = list(complete(client, max_tokens=40, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    finishes = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert finishes == [whole.choices[0].finish_reason]
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_chat_answers_without_a_thought_when_thinking_is_off(client):
    answer = chat(client)
    message = answer.choices[0].message
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-")
    assert message.role == "assistant" and message.content and "</think>" not in message.content
    assert answer.choices[0].finish_reason == "stop"
    assert not getattr(message, "reasoning", None)


def test_a_thought_is_split_from_the_answer(client):
    answer = chat(client, messages=[{"role": "user", "content": "What is 82 plus 282?"}], max_tokens=200,
                  extra_body={"chat_template_kwargs": {"enable_thinking": True}})
    message = answer.choices[0].message
    assert message.reasoning and message.reasoning == message.reasoning_content
    assert message.content and "think>" not in message.content + message.reasoning
    assert 0 < answer.usage.completion_tokens_details.reasoning_tokens < answer.usage.completion_tokens


def test_a_thought_that_meets_the_limit_leaves_no_content(client):
    answer = chat(client, messages=[{"role": "user", "content": "What is 82 plus 282?"}], max_tokens=5,
                  extra_body={"chat_template_kwargs": {"enable_thinking": True}})
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.reasoning and not answer.choices[0].message.content


def test_a_streamed_chat_is_the_plain_one_in_pieces(client):
    thinking = {"chat_template_kwargs": {"enable_thinking": True}}
    question = [{"role": "user", "content": "What is 82 plus 282?"}]
    whole = chat(client, messages=question, max_tokens=200, extra_body=thinking)
    chunks = list(chat(client, messages=question, max_tokens=200, stream=True, stream_options={"include_usage": True}, extra_body=thinking))
    assert chunks[0].choices[0].delta.role == "assistant"
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert "".join(getattr(delta, "reasoning", None) or "" for delta in deltas) == whole.choices[0].message.reasoning
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage == whole.usage


def test_system_prompts_and_earlier_turns_are_part_of_the_prompt(client):
    short = chat(client).usage.prompt_tokens
    longer = chat(client, messages=[{"role": "system", "content": "Answer in capital letters."}, *QUESTION,
                                    {"role": "assistant", "content": "Paris."}, {"role": "user", "content": "And of Spain?"}])
    assert longer.usage.prompt_tokens > short + 10


def test_content_may_be_a_list_of_text_parts(client):
    parts = [{"role": "user", "content": [{"type": "text", "text": "What is the capital "}, {"type": "text", "text": "of France?"}]}]
    assert chat(client, messages=parts).choices[0].message.content == chat(client).choices[0].message.content


def test_completion_logprobs_are_sorted_and_start_with_the_sampled_token(client):
    answer = complete(client, logprobs=3, max_tokens=6, extra_body={"ignore_eos": True})
    logprobs = answer.choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == len(logprobs.text_offset) == 6
    assert "".join(logprobs.tokens) == answer.choices[0].text
    for token, logprob, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs):
        assert top[token] == logprob == max(top.values()) <= 0
        assert sum(math.exp(value) for value in top.values()) <= 1.0001


def test_chat_logprobs_carry_bytes_and_as_many_alternatives_as_asked(client):
    answer = chat(client, logprobs=True, top_logprobs=4)
    content = answer.choices[0].logprobs.content
    assert b"".join(bytes(entry.bytes) for entry in content).decode().startswith(answer.choices[0].message.content)
    for entry in content:
        assert len(entry.top_logprobs) == 4
        assert [one.logprob for one in entry.top_logprobs] == sorted((one.logprob for one in entry.top_logprobs), reverse=True)
        assert entry.top_logprobs[0].token == entry.token  # greedy


def test_echo_with_logprobs_scores_the_prompt(client):
    answer = complete(client, echo=True, logprobs=1, max_tokens=0)
    logprobs = answer.choices[0].logprobs
    assert answer.choices[0].text == PROMPT == "".join(logprobs.tokens)
    assert logprobs.token_logprobs[0] is None and all(value <= 0 for value in logprobs.token_logprobs[1:])
    assert answer.usage.completion_tokens == 0
    continued = complete(client, echo=True, logprobs=1, max_tokens=3)
    assert continued.choices[0].text.startswith(PROMPT) and len(continued.choices[0].logprobs.tokens) == 8
    for early, late in zip(logprobs.token_logprobs[1:], continued.choices[0].logprobs.token_logprobs[1:]):
        assert late == pytest.approx(early, abs=1e-4)


def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(client):
    count = [{"role": "user", "content": "Count from 7 to 19."}]
    whole = chat(client, messages=count, max_tokens=120).choices[0].message.content
    assert ", 11" in whole
    stopped = chat(client, messages=count, max_tokens=120, stop=["nowhere", ", 11"]).choices[0]
    assert stopped.finish_reason == "stop" and stopped.message.content == whole[: whole.index(", 11")]
    streamed = chat(client, messages=count, max_tokens=120, stop=", 11", stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == stopped.message.content


def test_include_stop_str_in_output_keeps_it(client):
    count = [{"role": "user", "content": "Count from 7 to 19."}]
    kept = chat(client, messages=count, max_tokens=120, stop=", 11", extra_body={"include_stop_str_in_output": True})
    assert kept.choices[0].message.content.endswith(", 11")


def test_n_gives_that_many_choices(client):
    answer = chat(client, n=3, temperature=2, top_p=1, extra_body={"top_k": 0}, seed=4)
    assert sorted(choice.index for choice in answer.choices) == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1
    streamed = {}
    for chunk in complete(client, n=3, temperature=1, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] = streamed.get(choice.index, "") + choice.text
    assert sorted(streamed) == [0, 1, 2]


def test_n_greedy_choices_are_equal(client):
    assert len({choice.text for choice in complete(client, n=4).choices}) == 1


def test_a_seed_repeats_an_answer_and_another_seed_does_not(client):
    def draw(seed):
        return complete(client, temperature=1.3, seed=seed, max_tokens=24, extra_body={"ignore_eos": True}).choices[0].text

    assert draw(11) == draw(11)
    assert len({draw(seed) for seed in range(6)}) > 1


def test_logit_bias_forbids_and_forces(client):
    first = complete(client, max_tokens=1, extra_body={"return_token_ids": True}).choices[0].token_ids[0]
    other = complete(client, max_tokens=1, logit_bias={str(first): -100}, extra_body={"return_token_ids": True}).choices[0].token_ids[0]
    assert other != first
    forced = complete(client, max_tokens=3, logit_bias={"1000": 100}, extra_body={"return_token_ids": True}).choices[0].token_ids
    assert forced == [1000] * 3


def test_penalties_and_min_p_are_accepted_and_change_the_answer(client):
    def text(**fields):
        return complete(client, prompt="red blue green red blue green red blue", max_tokens=24, **fields).choices[0].text

    plain = text(extra_body={"ignore_eos": True})
    assert text(frequency_penalty=2, extra_body={"ignore_eos": True}) != plain
    assert text(presence_penalty=2, extra_body={"ignore_eos": True, "repetition_penalty": 4}) != plain
    assert text(temperature=1, extra_body={"ignore_eos": True, "min_p": 0.9999}) == plain


def test_min_tokens_keeps_the_answer_going(client):
    assert chat(client).usage.completion_tokens < 30
    assert chat(client, extra_body={"min_tokens": 40}).usage.completion_tokens >= 40


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        complete(client, model="gpt-5")
    assert "gpt-5" in caught.value.message and caught.value.status_code == 404


@pytest.mark.parametrize("fields, param", [
    ({"temperature": -1}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.5}, "top_p"),
    ({"max_tokens": -5}, "max_tokens"),
    ({"n": 0}, "n"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"logprobs": -1}, "logprobs"),
    ({"logit_bias": {"999999": 1}}, "logit_bias"),
    ({"extra_body": {"top_k": -7}}, "top_k"),
    ({"extra_body": {"min_p": 2}}, "min_p"),
    ({"extra_body": {"stop_token_ids": [-1]}}, "stop_token_ids"),
    ({"best_of": 3}, "best_of"),
])
def test_a_value_out_of_range_is_a_bad_request_that_names_the_field(client, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, **fields)
    assert param in caught.value.message
    assert caught.value.body["param"] and caught.value.body["param"].startswith(param)


def test_an_error_while_streaming_is_an_error_before_the_first_chunk(client):
    with pytest.raises(openai.BadRequestError):
        complete(client, stream=True, temperature=-1)
