"""weir-tiny as `weir quantize` makes it, and with narrow caches, beside itself in BF16: tools/weir_tiny/compare_servers.py on a part."""
import subprocess
import sys

import pytest
from weir_server import BINARY, MODEL, ROOT, Server

sys.path.insert(0, str(ROOT / "tools" / "weir_tiny"))
from compare_servers import TASKS, compare  # noqa: E402

QUESTIONS = 40


@pytest.fixture(scope="module")
def plain():
    with Server() as running:
        yield running


@pytest.fixture(scope="module")
def int8_all(tmp_path_factory):
    out = tmp_path_factory.mktemp("quantized") / "w8a8"
    done = subprocess.run([BINARY, "quantize", MODEL, out, "--recipe", "all"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "lm_head" in done.stdout
    return out


def check(plain, other):
    found = compare(MODEL, plain.url, other.url, QUESTIONS)
    for name in ("perplexity", "joined"):
        first, second = found[name]
        assert abs(second / first - 1) < 0.01, found
    for task in TASKS:
        assert found[task][0] >= 0.97, found


def test_every_matrix_in_int8_answers_as_bf16_does(plain, int8_all):
    with Server("--quantization", "ascend", model=int8_all) as int8:
        check(plain, int8)
        assert "int8 matrices stay int8" in int8.log


def test_narrow_caches_answer_as_wide_ones_do(plain):
    with Server("--kv-cache-dtype", "int8", "--mamba-ssm-cache-dtype", "bfloat16") as narrow:
        check(plain, narrow)


def test_narrow_caches_go_with_guesses_and_a_second_tier(plain, tmp_path):
    flags = ("--served-model-name", "qwen3.5", "--kv-cache-dtype", "int8", "--mamba-ssm-cache-dtype", "bfloat16")
    ask = {"prompt": "Ben and Ravi talked about the tomato. " * 60, "max_tokens": 40, "temperature": 0}
    with Server(*flags) as alone:
        want = alone.complete(**ask)["choices"][0]["text"]
    with Server(*flags, "--speculative-config", '{"num_speculative_tokens": 3, "adaptive": false}', "--kv-offload-size", "64M",
                "--kv-offload-dir", str(tmp_path / "tier")) as full:
        assert [full.complete(**ask)["choices"][0]["text"] for _ in range(2)] == [want, want]


@pytest.mark.parametrize("flags, named", [
    (("--kv-cache-dtype", "fp8"), "--kv-cache-dtype fp8"),
    (("--mamba-ssm-cache-dtype", "float16"), "--mamba-ssm-cache-dtype float16"),
    (("--fp8-as", "int8"), "--fp8-as int8 is for fp8 checkpoints"),
])
def test_what_is_not_there_is_refused_by_its_flag(flags, named):
    done = subprocess.run([BINARY, "generate", MODEL, "--prompt", "x", *flags], capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 2)
    assert named in done.stderr
