"""A real `weir serve` process for tests: started on a free port, its log kept, stopped by SIGTERM."""
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "weir-tiny"
BINARY = pathlib.Path(os.environ.get("WEIR_BIN", ROOT / "build" / "release" / "weir"))
START_SECONDS = 120  # a sanitizer build on a busy machine; the release build takes well under one


class Reply:
    def __init__(self, response, body):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The OpenAI-shaped error of this reply, checked for its shape."""
        error = self.json["error"]
        assert set(error) >= {"message", "type", "param", "code"}, error
        assert error["code"] == self.status, error
        return error


class Server:
    def __init__(self, *flags, model=MODEL, port=0):
        self.log_file = tempfile.NamedTemporaryFile(prefix="weir-serve-", suffix=".log", delete=False)
        command = [str(BINARY), "serve", str(model), "--port", str(port), *flags]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log_file, stderr=subprocess.STDOUT)
        self.port = None

    def __enter__(self):
        return self.wait_ready()

    def __exit__(self, kind, *_):
        self.stop(expect_clean=kind is None)

    @property
    def log(self):
        return pathlib.Path(self.log_file.name).read_text(errors="replace")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def alive(self):
        return self.process.poll() is None

    def _poll(self, seconds, what, probe):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.alive(), f"weir ended with {self.process.returncode} while waiting for {what}:\n{self.log[-4000:]}"
            value = probe()
            if value:
                return value
            time.sleep(0.02)
        raise AssertionError(f"no {what} within {seconds} s:\n{self.log[-4000:]}")

    def wait_listening(self):
        found = self._poll(START_SECONDS, "listening socket", lambda: re.search(r"Listening on http://[^ ]*?:(\d+)", self.log))
        self.port = int(found[1])
        return self

    def wait_ready(self):
        self.wait_listening()
        self._poll(START_SECONDS, "/health", self.healthy)
        return self

    def healthy(self):
        try:
            return self.get("/health").status == 200
        except (ConnectionError, http.client.HTTPException):
            return False  # it may end while it is asked; why, its log says

    def wait_metrics(self, seconds, what, condition):
        """Waits until condition(metrics) holds; the metrics are all that tells when the engine is done with something."""
        return self._poll(seconds, what, lambda: condition(self.metrics()))

    def wait_idle(self, seconds=30):
        self.wait_metrics(seconds, "idle engine", is_idle)

    def request(self, method, path, body=None, headers=None, timeout=120):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return Reply(response, response.read())
        finally:
            connection.close()

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body, **more):
        return self.request("POST", path, body, **more)

    def complete(self, prompt="The future of AI is", **fields):
        reply = self.post("/v1/completions", {"model": "qwen3.5", "prompt": prompt, "temperature": 0, **fields})
        assert reply.status == 200, reply.body
        return reply.json

    def chat(self, content="What is 7 plus 5?", **fields):
        messages = fields.pop("messages", None) or [{"role": "user", "content": content}]
        reply = self.post("/v1/chat/completions", {"model": "qwen3.5", "messages": messages, "temperature": 0, **fields})
        assert reply.status == 200, reply.body
        return reply.json

    def metrics(self):
        """{name: sum over its labels} of the samples in /metrics."""
        values = {}
        for line in self.get("/metrics").body.decode().splitlines():
            match = re.match(r"([a-zA-Z_:][\w:]*)(?:\{.*\})? (\S+)$", line)
            if match:
                values[match[1]] = values.get(match[1], 0.0) + float(match[2])
        return values

    def stop(self, expect_clean=True, seconds=60):
        try:
            if self.alive():
                self.process.send_signal(signal.SIGTERM)
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"weir did not end within {seconds} s of SIGTERM:\n{self.log[-4000:]}") from None
        finally:
            self.log_file.close()
        if expect_clean:
            assert code == 0, f"weir ended with {code}:\n{self.log[-8000:]}"
            for sign in ("Sanitizer", "runtime error:", "CHECK failed"):
                assert sign not in self.log, self.log[-8000:]
            os.unlink(self.log_file.name)


def is_idle(metrics):
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "weir:state_slots_used")
    return all(metrics[name] == 0 for name in names)


def altered_model(directory, **changes):
    """weir-tiny with some files replaced (bytes or text) or left out (None); the others are links. Keys: '.' written as '__'."""
    directory.mkdir(parents=True, exist_ok=True)
    changes = {name.replace("__", "."): content for name, content in changes.items()}
    for source in MODEL.iterdir():
        if source.is_file() and source.name not in changes:
            (directory / source.name).symlink_to(source)
    for name, content in changes.items():
        if isinstance(content, bytes):
            (directory / name).write_bytes(content)
        elif content is not None:
            (directory / name).write_text(content)
    return directory


def have_curl():
    return shutil.which("curl") is not None
