"""Peak memory of a server under load: the checkpoint, the pools that were asked for, and 200 MB."""
import concurrent.futures
import pathlib
import random
import re
import subprocess

import pytest
from weir_server import BINARY, Server
from wide_model import wide_model

MB = 1 << 20
POOLS = 64 * MB
REST = 200 * 10**6

pytestmark = pytest.mark.skipif(b"__asan_init" in BINARY.read_bytes(), reason="AddressSanitizer keeps memory of its own")


def peak_bytes(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def weight_bytes(directory):
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


def peak_under_load(model, *flags, until=""):
    """Prompts that fill whole steps, two at once; then what the log must say."""
    generator = random.Random(1)
    prompts = [[generator.randrange(2000) for _ in range(2500)] for _ in range(2)]
    with Server("--served-model-name", "qwen3.5", "--kv-cache-memory-bytes", str(POOLS), *flags, model=model) as server:
        with concurrent.futures.ThreadPoolExecutor(2) as clients:
            list(clients.map(lambda prompt: server.complete(prompt, max_tokens=4, ignore_eos=True), prompts))
        server._poll(60, until, lambda: until in server.log)
        return peak_bytes(server)


# Large enough that a second copy of the weights, or of the largest part of them, breaks the bound.
@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = wide_model(tmp_path_factory.mktemp("memory") / "model", experts=128, width=512)
    assert weight_bytes(directory) > 380 * MB
    return directory


def test_a_server_takes_its_checkpoint_its_pools_and_little_else(model):
    compressed, plain = peak_under_load(model), peak_under_load(model, "--no-compress-weights")
    assert plain < weight_bytes(model) + POOLS + REST
    assert compressed < plain - 0.15 * weight_bytes(model), "12 bits instead of 16, and what fills the last huge pages"


def test_so_does_one_with_a_packed_cache_when_writing_and_when_reading_it(model, tmp_path):
    for until in ("are kept in", "lie in huge pages now"):
        assert peak_under_load(model, "--packed-cache", tmp_path, until=until) < weight_bytes(model) + POOLS + REST


def test_so_does_one_with_int8_weights(model, tmp_path):
    int8 = tmp_path / "int8"
    command = [BINARY, "quantize", model, int8, "--recipe", "all", "--calibration", "none"]
    subprocess.run(command, check=True, capture_output=True)
    assert weight_bytes(int8) < 0.6 * weight_bytes(model)
    assert peak_under_load(int8) < weight_bytes(int8) + POOLS + REST
