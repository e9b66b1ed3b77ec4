"""Model directories that are wrong or hostile: an error that names the file and the field, exit code 1, never a crash."""
import json
import struct
import subprocess

import pytest
from weir_server import BINARY, MODEL, Server, altered_model

WEIGHTS = (MODEL / "model.safetensors").read_bytes()
HEADER_BYTES = struct.unpack("<Q", WEIGHTS[:8])[0]
HEADER = json.loads(WEIGHTS[8 : 8 + HEADER_BYTES])
CONFIG = json.loads((MODEL / "config.json").read_text())
TOKENIZER = json.loads((MODEL / "tokenizer.json").read_text())
NORM = "model.language_model.layers.0.input_layernorm.weight"


def refusal(directory, *flags):
    """What `weir serve` says on stderr when it refuses; it must do so by itself, with exit code 1."""
    result = subprocess.run([BINARY, "serve", directory, "--port", "0", *flags], capture_output=True, text=True, errors="replace", timeout=60)
    assert result.returncode == 1, f"exit code {result.returncode}:\n{result.stderr[-3000:]}"
    assert "Sanitizer" not in result.stderr and "terminate called" not in result.stderr, result.stderr[-3000:]
    assert "startup complete" not in result.stderr
    return result.stderr


def expect_refusal(directory, *words):
    said = refusal(directory)
    for word in words:
        assert word in said, f"{word!r} is missing in:\n{said[-3000:]}"


def with_header(header, data=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + (WEIGHTS[8 + HEADER_BYTES :] if data is None else data)


def changed_tensor(**fields):
    return with_header({**HEADER, NORM: {**HEADER[NORM], **fields}})


def changed_config(change):
    config = json.loads(json.dumps(CONFIG))
    change(config)
    return json.dumps(config)


def changed_tokenizer(change):
    tokenizer = json.loads(json.dumps(TOKENIZER))
    change(tokenizer)
    return json.dumps(tokenizer)


def put(*path_and_value):
    *path, last, value = path_and_value

    def change(tree):
        for key in path:
            tree = tree[key]
        tree[last] = value

    return change


# ---- the directory ----

def test_a_directory_that_does_not_exist(tmp_path):
    expect_refusal(tmp_path / "nowhere", "nowhere")


def test_a_file_in_place_of_a_directory(tmp_path):
    (tmp_path / "model").write_text("not a directory")
    expect_refusal(tmp_path / "model", str(tmp_path / "model"))


def test_an_empty_directory(tmp_path):
    expect_refusal(tmp_path, "config.json")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(tmp_path, name):
    expect_refusal(altered_model(tmp_path, **{name.replace(".", "__"): None}), name.removeprefix("model"))


# ---- config.json ----

@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"model_type": ', "\xff", '{"a":' * 100_000])
def test_a_config_that_is_not_a_json_object(tmp_path, text):
    expect_refusal(altered_model(tmp_path, config__json=text), "config.json")


@pytest.mark.parametrize("change, words", [
    (put("model_type", "llama"), ["llama"]),
    (put("model_type", 5), ["model_type"]),
    (put("text_config", []), ["config.json"]),
    (put("text_config", "hidden_size", "128"), ["hidden_size"]),
    (put("text_config", "hidden_size", -128), ["hidden_size", "-128"]),
    (put("text_config", "hidden_size", 10**15), ["hidden_size"]),
    (put("text_config", "hidden_size", 256), ["128"]),
    (put("text_config", "num_hidden_layers", 10**9), ["num_hidden_layers"]),
    (put("text_config", "num_hidden_layers", 9), ["layer"]),
    (put("text_config", "num_attention_heads", 0), ["num_attention_heads"]),
    (put("text_config", "num_experts_per_tok", 17), ["num_experts_per_tok"]),
    (put("text_config", "vocab_size", 10**12), ["vocab_size"]),
    (put("text_config", "head_dim", 1.5), ["head_dim"]),
    (put("text_config", "rms_norm_eps", "tiny"), ["rms_norm_eps"]),
    (put("text_config", "layer_types", ["no_such_attention"] * 8), ["layer_types"]),
])
def test_a_config_field_that_is_wrong_is_named(tmp_path, change, words):
    expect_refusal(altered_model(tmp_path, config__json=changed_config(change)), *words)


# ---- model.safetensors ----

@pytest.mark.parametrize("content", [b"", b"\x01", WEIGHTS[:8], WEIGHTS[: 8 + HEADER_BYTES // 2], WEIGHTS[: 8 + HEADER_BYTES],
                                     WEIGHTS[: len(WEIGHTS) // 2], WEIGHTS[:-1], b"\0" * 4096, b"\xff" * 4096,
                                     struct.pack("<Q", 2**63) + WEIGHTS[8:], struct.pack("<Q", len(WEIGHTS)) + WEIGHTS[8:],
                                     with_header(b"[]"), with_header(b"{"), with_header(b'{"a":' * 50_000)])
def test_a_truncated_or_lying_weight_file_is_named(tmp_path, content):
    expect_refusal(altered_model(tmp_path, model__safetensors=content), "model.safetensors")


@pytest.mark.parametrize("fields", [
    {"data_offsets": [0, 2**62]}, {"data_offsets": [2**63, 2**63 + 256]}, {"data_offsets": [-256, 0]}, {"data_offsets": [256, 0]},
    {"data_offsets": [0]}, {"data_offsets": "0,256"}, {"data_offsets": [0, 1]}, {"data_offsets": None}, {"data_offsets": [1, 257]},
    {"shape": [64]}, {"shape": [-128]}, {"shape": [2**40, 2**40]}, {"shape": "128"}, {"shape": [2, 64]}, {"shape": [128.5]}, {"shape": [1] * 5000},
    {"dtype": "BF17"}, {"dtype": 3}, {"dtype": "I64"}, {"dtype": None},
])
def test_a_lying_tensor_header_names_file_and_tensor(tmp_path, fields):
    expect_refusal(altered_model(tmp_path, model__safetensors=changed_tensor(**fields)), "model.safetensors", NORM)


def test_a_missing_tensor_is_named(tmp_path):
    header = {name: value for name, value in HEADER.items() if name != NORM}
    expect_refusal(altered_model(tmp_path, model__safetensors=with_header(header)), "layers.0.input_layernorm.weight")


def test_a_surplus_tensor_is_named(tmp_path):
    extra = {**HEADER, "model.language_model.layers.0.extra.weight": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    expect_refusal(altered_model(tmp_path, model__safetensors=with_header(extra)), "layers.0.extra.weight")


def test_a_misshapen_tensor_is_named_with_both_shapes(tmp_path):
    name = "model.language_model.norm.weight"
    # The same bytes, called half as long a vector of twice the width.
    header = {**HEADER, name: {**HEADER[name], "shape": [HEADER[name]["shape"][0] // 2], "dtype": "F32"}}
    expect_refusal(altered_model(tmp_path, model__safetensors=with_header(header)), "norm.weight", "64", "128")


def test_an_index_that_points_out_of_the_directory_is_refused(tmp_path):
    index = json.dumps({"weight_map": {NORM: "../../../etc/passwd"}})
    said = refusal(altered_model(tmp_path, model__safetensors=None, **{"model.safetensors.index.json": index}))
    assert "model.safetensors.index.json" in said and "root:" not in said


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 5}}', '{"weight_map": {"a": "gone.safetensors"}}'])
def test_a_malformed_index_is_named(tmp_path, index):
    said = refusal(altered_model(tmp_path, model__safetensors=None, **{"model.safetensors.index.json": index}))
    assert "model.safetensors.index.json" in said or "gone.safetensors" in said


# ---- tokenizer.json ----

@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model": {}}', '{"a":' * 100_000, '{"model": {"type": "Unigram", "vocab": []}}'])
def test_a_tokenizer_file_that_is_none(tmp_path, text):
    expect_refusal(altered_model(tmp_path, tokenizer__json=text), "tokenizer.json")


@pytest.mark.parametrize("change", [
    put("model", "type", "WordPiece"),
    put("model", "vocab", []),
    put("model", "vocab", {"a": -1}),
    put("model", "vocab", {"a": 2**40}),
    put("model", "vocab", "!", "zero"),
    put("model", "vocab", "!", 1),                                  # two tokens with one id
    put("model", "merges", "no list"),
    put("model", "merges", [["a"]]),
    put("model", "merges", ["a b c"]),
    put("model", "merges", [["no such token", "neither"]]),
    put("model", "merges", [5] * 10),
    put("added_tokens", [{"id": -5, "content": "<x>"}]),
    put("added_tokens", [{"id": 10**9, "content": "<x>", "special": True}]),
    put("added_tokens", [{"id": 2015}]),
    put("added_tokens", [{"id": 2015, "content": ""}]),
    put("added_tokens", 7),
])
def test_a_hostile_tokenizer_names_its_file(tmp_path, change):
    expect_refusal(altered_model(tmp_path, tokenizer__json=changed_tokenizer(change)), "tokenizer.json")


# ---- chat template and generation settings ----

@pytest.mark.parametrize("text", ["{% if x %}", "{{ 1 + }}", "{% frobnicate %}", "{{ x | no_such_filter }}", "{%" * 10_000, "{{ (" * 100_000, "{% for x in y %}" * 20_000])
def test_a_template_that_does_not_parse_names_its_file(tmp_path, text):
    expect_refusal(altered_model(tmp_path, chat_template__jinja=text), "chat_template.jinja")


@pytest.mark.parametrize("text", [
    "{% for i in range(1000000000) %}x{% endfor %}",
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "{{ 'x' * 1000000000000 }}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
    "{{ raise_exception('no') }}",
    "{{ undefined.attribute.chain }}",
    "{{ 1 // 0 }}",
])
def test_a_hostile_template_fails_the_request_and_not_the_server(tmp_path, text):
    model = altered_model(tmp_path, chat_template__jinja=text)
    with Server("--served-model-name", "qwen3.5", model=model) as server:
        reply = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}, timeout=60)
        assert 400 <= reply.status < 500, reply.body
        assert reply.error["message"]
        assert server.complete(max_tokens=2)["usage"]["completion_tokens"] >= 1


@pytest.mark.parametrize("text", ["{", "[]", '{"eos_token_id": "x"}', '{"eos_token_id": [1000000000]}', '{"temperature": "hot"}', '{"top_p": -3}', '{"top_k": 1.5}'])
def test_bad_generation_settings_name_their_file(tmp_path, text):
    expect_refusal(altered_model(tmp_path, generation_config__json=text), "generation_config.json")


# ---- flags against the model ----

def test_a_context_that_does_not_fit_names_the_flag_and_what_fits():
    said = refusal(MODEL, "--kv-cache-memory-bytes", "100000", "--max-model-len", "30000")
    assert "--max-model-len" in said and "30000" in said


def test_a_context_beyond_the_model_is_refused():
    assert "32768" in refusal(MODEL, "--max-model-len", "40000")
