"""A server that nobody asks anything takes no CPU: its compute threads sleep, its engine waits, and nothing polls."""
import pathlib
import time

from weir_server import Server

SECONDS = 6


def cpu_seconds(pid):
    """Time on a CPU of all threads of a process, in the kernel's nanoseconds (/proc/PID/stat counts in hundredths)."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()) * 1e-9


def test_an_idle_server_takes_less_than_half_a_percent_of_a_core():
    with Server("--served-model-name", "qwen3.5", "--threads", "2") as server:
        pid = server.process.pid
        for _ in range(3):
            server.complete(max_tokens=20, ignore_eos=True)
        server.wait_idle()
        time.sleep(1)  # the last step's threads spin for a moment
        before = cpu_seconds(pid)
        time.sleep(SECONDS)
        share = (cpu_seconds(pid) - before) / SECONDS
        assert share < 0.005, f"{100 * share:.2f} % of a core"
        server.complete(max_tokens=5)  # and it wakes up again
