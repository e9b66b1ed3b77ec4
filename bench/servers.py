"""What the scripts here that measure servers share: weir started on a free port, and questions any OpenAI server answers."""
import contextlib
import http.client
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[1]
WEIR = os.environ.get("WEIR_BIN", str(ROOT / "build" / "release" / "weir"))


class Server:
    def __init__(self, url, pid, ready_after):
        self.url, self.pid, self.ready_after = url, pid, ready_after


@contextlib.contextmanager
def serve(model, *flags):
    """weir on `model`, until the end of the block; a start that fails ends the program with the server's log."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log, begin = tempfile.TemporaryFile(), time.monotonic()
    process = subprocess.Popen([WEIR, "serve", model, "--port", str(port), "--served-model-name", "m", *flags], stdout=log, stderr=log)
    try:
        while not healthy(f"http://127.0.0.1:{port}"):
            if process.poll() is not None:
                log.seek(0)
                raise SystemExit(log.read().decode(errors="replace"))
            time.sleep(0.05)
        yield Server(f"http://127.0.0.1:{port}", process.pid, time.monotonic() - begin)
    finally:
        process.terminate()
        process.wait()


def get(url, path):
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()


def healthy(url):
    with contextlib.suppress(OSError):
        return get(url, "/health")[0] == 200
    return False


def served_model(url):
    """Name and context length of what a server serves."""
    model = json.loads(get(url, "/v1/models")[1])["data"][0]
    return model["id"], model.get("max_model_len") or 1 << 30


def bench(url, name, tokenizer, folder, filename, metadata, *flags):
    """One run of `weir bench serve`; its result, which is kept in `folder` under `filename`."""
    subprocess.run([WEIR, "bench", "serve", "--base-url", url, "--model", name, "--tokenizer", str(tokenizer), "--ignore-eos", "--save-result",
                    "--result-dir", str(folder), "--result-filename", filename, "--disable-tqdm", *map(str, flags), "--metadata",
                    *(f"{key}={value}" for key, value in metadata.items())], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return json.loads((pathlib.Path(folder) / filename).read_text())


def peak_memory(pid):
    """Most resident memory that a process and its children have had, together, in MiB."""
    total, waiting = 0, [pid]
    while waiting:
        process = waiting.pop()
        with contextlib.suppress(OSError):
            for line in pathlib.Path(f"/proc/{process}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1])
            for task in pathlib.Path(f"/proc/{process}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return total / 1024
