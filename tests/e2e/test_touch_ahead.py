"""A request finds memory that has been touched before: the compute threads have no page faults, and what no request has come near is not there."""
import concurrent.futures
import ctypes
import pathlib
import random
import re
import statistics

import pytest
from weir_server import BINARY, Server

PR_SET_THP_DISABLE = 41
POOLS = 512 << 20
# Of a request's two slots of 1.1 MiB, or 560 pages of 4 KiB, each thread writes a part: some 170 faults where nobody has been before.
WARM = 30

pytestmark = pytest.mark.skipif(b"__asan_init" in BINARY.read_bytes() or b"__tsan_init" in BINARY.read_bytes(), reason="sanitizers touch memory of their own")


@pytest.fixture
def small_pages():
    """For this process and those it starts: a fault for every 4 KiB, so that they can be counted."""
    prctl = ctypes.CDLL(None).prctl
    assert prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0
    yield
    prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0)


def faults(server, thread):
    """Minor page faults so far of the threads of this name."""
    stats = [(task / "stat").read_text() for task in pathlib.Path(f"/proc/{server.process.pid}/task").iterdir()]
    return sum(int(stat.rpartition(")")[2].split()[7]) for stat in stats if f"({thread})" in stat)


def resident_bytes(server):
    return int(re.search(r"VmRSS:\s+(\d+) kB", pathlib.Path(f"/proc/{server.process.pid}/status").read_text())[1]) * 1024


def wait_settled(server):
    """Until the engine's thread, which touches memory when nothing runs, has stopped."""
    server.wait_idle()
    seen = [-1] * 10
    server._poll(60, "end of touching", lambda: seen.append(faults(server, "weir-engine")) or seen[-10] == seen[-1])


def server_with_two_threads():
    return Server("--served-model-name", "qwen3.5", "--threads", "2", "--kv-cache-memory-bytes", str(POOLS))


def faults_of_requests(server, wait):
    """Of the compute thread that is not the engine's, in each of some requests that have nothing in common; wait() comes before each."""
    generator, counts = random.Random(3), []
    for _ in range(7):
        wait()
        before = faults(server, "weir-compute")
        server.complete([generator.randrange(2000) for _ in range(100)], max_tokens=4, ignore_eos=True)
        counts.append(faults(server, "weir-compute") - before)
    return counts[1:]  # the first one touches more than slots and pages


def test_a_request_after_a_pause_finds_its_slots_and_pages_resident(small_pages):
    with server_with_two_threads() as server:
        counts = faults_of_requests(server, lambda: wait_settled(server))
        assert statistics.median(counts) < WARM, counts
        assert resident_bytes(server) < POOLS / 2, "and the pools as a whole are not"


def test_beside_a_long_answer_its_tokens_make_memory_ready_for_the_next_prompts(small_pages):
    with server_with_two_threads() as server, concurrent.futures.ThreadPoolExecutor(1) as client:
        tokens = "vllm:generation_tokens_total"

        def wait_for_tokens(number=60):
            target = server.metrics()[tokens] + number
            server.wait_metrics(60, f"{number} tokens", lambda metrics: metrics[tokens] >= target)

        answer = client.submit(server.complete, max_tokens=3500, ignore_eos=True)
        counts = faults_of_requests(server, wait_for_tokens)
        assert not answer.done(), "else the engine was idle in between"
        assert statistics.median(counts) < WARM, counts
