"""Servers with and without --speculative-config give the same answers, and the one that drafts says how well."""
import concurrent.futures
import json

import pytest
from weir_server import MODEL, Server, altered_model

SPECULATION = json.dumps({"method": "qwen3_5_mtp", "num_speculative_tokens": 3, "enforce_eager": True, "adaptive": False})


def lines_of(task, count):
    with open(MODEL / "eval" / f"{task}.jsonl") as file:
        return [json.loads(next(file)) for _ in range(count)]


REQUESTS = [
    {"messages": line["messages"], "tools": line.get("tools", []), "chat_template_kwargs": line["chat_template_kwargs"]}
    for task, count in (("add", 8), ("word_think", 8), ("tool_call", 6), ("facts", 8), ("json", 6), ("recall_256", 3))
    for line in lines_of(task, count)
]
VARIANTS = [
    {"temperature": 0, "max_tokens": 90},
    {"temperature": 0, "max_tokens": 90, "repetition_penalty": 1.2, "min_tokens": 30},
    {"temperature": 0.9, "top_p": 0.9, "seed": 11, "max_tokens": 60, "logit_bias": {"20": 1.5}, "logprobs": True, "top_logprobs": 2},
    {"temperature": 0.7, "min_p": 0.05, "seed": 5, "max_tokens": 60, "presence_penalty": 0.5, "stop": ["1"]},
]


def answers(server, concurrency, total_guessed=None):
    total_guessed = [] if total_guessed is None else total_guessed

    def ask(i):
        body = {"model": "qwen3.5", **REQUESTS[i], **VARIANTS[i % len(VARIANTS)]}
        if not body["tools"]:
            del body["tools"]
        reply = server.post("/v1/chat/completions", body)
        assert reply.status == 200, reply.body
        choice = reply.json["choices"][0]
        usage = reply.json["usage"]
        guessed = usage.get("completion_tokens_details", {}).get("accepted_prediction_tokens", 0)
        assert guessed <= usage["completion_tokens"]
        total_guessed.append(guessed)
        return choice["message"], choice["logprobs"], choice["finish_reason"], usage["completion_tokens"]

    with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
        return list(pool.map(ask, range(len(REQUESTS))))


@pytest.fixture(scope="module")
def plain_answers():
    with Server("--served-model-name", "qwen3.5") as server:
        assert not any("spec_decode" in name for name in server.metrics())
        return answers(server, 1)


def test_answers_are_those_of_plain_decoding(plain_answers):
    with Server("--served-model-name", "qwen3.5", "--speculative-config", SPECULATION) as server:
        guessed = []
        for concurrency in (1, 16):  # the second time behind cached prefixes
            assert answers(server, concurrency, guessed) == plain_answers
        metrics = server.metrics()
        drafts, accepted = (metrics[f"vllm:spec_decode_num_{x}_total"] for x in ("drafts", "accepted_tokens"))
        assert drafts > 100
        assert sum(guessed) == pytest.approx(accepted, abs=3 * len(guessed)), "what usage says"
        assert metrics["vllm:spec_decode_num_draft_tokens_total"] > 2 * drafts
        assert metrics["vllm:spec_decode_num_accepted_tokens_per_pos_total"] == accepted
        assert 1 + accepted / drafts > 2, "tokens per verification"
        assert 'position="2"' in server.get("/metrics").body.decode()


def test_tiny_caches_and_adaptation_change_nothing(plain_answers):
    flags = ("--speculative-config", '{"num_speculative_tokens": 8}', "--max-num-seqs", "5", "--max-num-batched-tokens", "48",
             "--max-model-len", "1024", "--kv-cache-memory-bytes", "12M")
    with Server("--served-model-name", "qwen3.5", *flags) as server:
        assert answers(server, 12) == plain_answers


def test_a_model_without_a_head_is_refused(tmp_path):
    config = json.loads((MODEL / "config.json").read_text())
    config["text_config"]["mtp_num_hidden_layers"] = 0
    with pytest.raises(AssertionError, match="mtp_num_hidden_layers 0"):
        with Server("--speculative-config", SPECULATION, model=altered_model(tmp_path, config__json=json.dumps(config))):
            pass
