"""The program as people use it: sub-commands, flags, exit codes, and the terminal chat on a real pseudo-terminal."""
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import termios
import time

import pytest
from weir_server import BINARY, MODEL, ROOT, Server


def weir(*args, code=0, input=None, env=None, timeout=120):
    """Runs weir to its end; checks the exit code and that it did not crash."""
    result = subprocess.run([BINARY, *map(str, args)], capture_output=True, text=True, errors="replace", timeout=timeout,
                            input=input, stdin=None if input is not None else subprocess.DEVNULL,
                            env={**os.environ, **(env or {})})
    assert result.returncode == code, f"exit code {result.returncode}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
    assert "Sanitizer" not in result.stderr and "runtime error:" not in result.stderr, result.stderr[-4000:]
    return result


def one_line(result):
    """The only thing on stderr: a line that says what is wrong."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("weir: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


# ---- the program ------------------------------------------------------------------------------------------------------------

def test_version_is_one_line():
    assert re.fullmatch(r"weir \d+\.\d+\.\d+\n", weir("--version").stdout)


def test_help_lists_the_commands_and_each_command_its_flags():
    overview = weir("--help").stdout
    for command in ("serve", "chat", "generate", "inspect", "bench"):
        assert command in overview
        help_text = weir(command, "--help").stdout
        assert help_text.startswith(f"usage: weir {command}")
        assert "--" in help_text
    serve = weir("serve", "--help").stdout
    for group in ("Server", "API", "Model", "Memory", "Scheduling", "CPU", "Logging"):
        assert f"\n{group}\n" in serve
    assert "--max-model-len" in weir("serve", "--help=Model").stdout
    assert "--port" not in weir("serve", "--help=max-model-len").stdout


def test_without_a_command_the_help_is_shown_as_an_error():
    assert "usage: weir" in weir(code=2).stdout


def test_an_unknown_command_lists_the_known_ones():
    said = one_line(weir("sreve", code=2))
    assert "sreve" in said and "serve, chat, generate, inspect" in said and "did you mean serve" in said


@pytest.mark.parametrize(("args", "words"), [
    (["serve", MODEL, "--prot", "1"], ["--prot", "--port"]),
    (["serve", MODEL, "--max", "1"], ["ambiguous", "--max-model-len", "--max-num-seqs"]),
    (["serve", MODEL, "--port", "100000"], ["--port", "65535", "100000"]),
    (["serve", MODEL, "--dtype", "int4"], ["--dtype", "bfloat16", "int4"]),
    (["serve", MODEL, "--speculative-config", "{bad"], ["--speculative-config", "JSON"]),
    (["serve", MODEL, "-sc", '{"num_speculative_tokens": 9}'], ["--speculative-config", "from 1 to 8", "got 9"]),
    (["serve", MODEL, "--tensor-parallel-size", "2"], ["not built", "--tensor-parallel-size", "2"]),
    (["serve", MODEL, "--quantization", "gptq"], ["--quantization", "ascend", "gptq"]),
    (["serve", MODEL, "--headless"], ["not built", "--headless"]),
    (["serve"], ["no model"]),
    (["serve", MODEL, "extra"], ["unexpected", "extra"]),
    (["inspect"], ["no model"]),
    (["generate", MODEL], ["--prompt"]),
    (["generate", MODEL, "--prompt", "x", "--prompt-file", "y"], ["--prompt-file"]),
    (["chat", "--url", "ftp://x"], ["ftp"]),
])
def test_a_wrong_command_line_is_named_in_one_line(args, words):
    code = 1 if args[0] == "chat" else 2  # the url is looked at by the client
    said = one_line(weir(*args, code=code))
    for word in words:
        assert word in said, said


def test_a_model_that_is_no_directory_fails_with_one_line():
    for command in (["serve", "--port", "0"], ["generate", "--prompt", "x"]):
        said = one_line(weir(command[0], "Qwen/Qwen3.5-0.8B", *command[1:], code=1))
        assert "Qwen/Qwen3.5-0.8B" in said and "not a directory" in said
    assert "config.json" in one_line(weir("inspect", "/nowhere", code=1))


# ---- inspect ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("command", [["serve", MODEL, "--port", "0"], ["generate", MODEL, "--prompt", "a"]], ids=["serve", "generate"])
def test_an_instruction_set_that_cannot_run_ends_the_start(command):
    error = weir(*command, code=1, env={"WEIR_CPU_ISA": "foo"}).stderr
    assert "WEIR_CPU_ISA=foo cannot run here; this CPU can run: scalar" in error and "step" not in error


def test_inspect_shows_sizes_layers_types_and_memory():
    text = weir("inspect", MODEL).stdout
    for word in ("qwen3_5_moe", "(3D A) x 2", "16, 4 per token", "fused", "BF16", "KV per token", "state per sequence", "servable"):
        assert word in text, text


def test_inspect_json_agrees_with_the_model_card():
    report = json.loads(weir("inspect", MODEL, "--json").stdout)
    parameters = report["parameters"]
    assert parameters["mtp"]["parameters"] == 584_576
    assert sum(parameters[part]["parameters"] for part in ("text", "mtp", "vision")) == 5_812_704
    assert report["layers"]["full_attention"] == 2
    assert report["memory"]["bfloat16"]["kv_bytes_per_token"] == 1024
    assert report["quantization"]["described_by"] == "none"


@pytest.mark.parametrize("golden", sorted(path.name for path in (ROOT / "tests" / "golden").iterdir() if (path / "config.json").exists()))
def test_inspect_reads_every_golden_checkpoint(golden):
    report = json.loads(weir("inspect", ROOT / "tests" / "golden" / golden, "--json").stdout)
    assert report["servable"] and report["parameters"]["other"]["tensors"] == 0


# ---- generate ---------------------------------------------------------------------------------------------------------------

def test_generate_streams_a_greedy_answer_to_stdout_and_nothing_else():
    first = weir("generate", MODEL, "--prompt", "The future of AI is", "--max-tokens", 12, "--temperature", 0)
    assert first.stdout.strip() and first.stdout.endswith("\n")
    assert first.stderr == ""
    assert weir("generate", MODEL, "--prompt", "The future of AI is", "--max_tok=12", "--temp", "0").stdout == first.stdout


def test_generate_equals_the_server(server):
    answer = server.complete("The capital of France is", max_tokens=10)["choices"][0]["text"]
    said = weir("generate", MODEL, "--prompt", "The capital of France is", "--max-tokens", 10, "--temperature", 0).stdout
    assert said == answer + "\n"


def test_generate_chat_uses_the_template_and_reads_a_file(tmp_path, server):
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("What is 7 plus 5?")
    want = server.chat("What is 7 plus 5?", max_tokens=24, chat_template_kwargs={"enable_thinking": False})
    flags = ["--chat", "--no-thinking", "--max-tokens", 24, "--temperature", 0]
    from_file = weir("generate", MODEL, "--prompt-file", prompt, *flags).stdout
    assert from_file.strip() == want["choices"][0]["message"]["content"].strip()
    assert weir("generate", MODEL, "--prompt-file", "-", *flags, input="What is 7 plus 5?").stdout == from_file


def test_generate_writes_several_answers_one_after_the_other():
    flags = ["--prompt", "Once", "--max-tokens", 8, "--n", 3, "--temperature", 1, "--seed", 7]
    text = weir("generate", MODEL, *flags).stdout
    assert re.findall(r"^--- (\d) of 3$", text, re.M) == ["1", "2", "3"]
    assert len(set(re.split(r"^--- .*$", text, flags=re.M)[1:])) > 1, "different draws"
    assert weir("generate", MODEL, *flags).stdout == text, "the same seed, the same text"


def test_generate_stops_at_a_text_and_reports_its_speed():
    whole = weir("generate", MODEL, "--prompt", "The future of AI is", "--max-tokens", 16, "--temperature", 0).stdout
    word = whole.split()[-1]
    cut = weir("generate", MODEL, "--prompt", "The future of AI is", "--max-tokens", 16, "--temperature", 0, "--stop", word, "--stats")
    assert cut.stdout.rstrip("\n") == whole[: whole.index(word)].rstrip("\n")
    assert re.search(r"prompt tokens, first token after [\d.]+ s", cut.stderr)


def test_generate_ends_quietly_when_nobody_reads():
    command = f"'{BINARY}' generate '{MODEL}' --prompt Once --max-tokens 400 --ignore-eos | head -c 5"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, errors="replace", timeout=120)
    assert result.returncode == 0 and result.stderr == ""


def test_generate_refuses_what_does_not_fit():
    said = one_line(weir("generate", MODEL, "--prompt", "x", "--max-tokens", 100, "--max-model-len", 64, code=1))
    assert "64" in said


# ---- serve ------------------------------------------------------------------------------------------------------------------

def test_serve_on_a_port_in_use_fails_at_once_and_names_it():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = one_line(weir("serve", MODEL, "--port", port, code=1, timeout=30))
        assert str(port) in said


def test_serve_says_what_it_does_with_flags_and_variables_of_vllm():
    environment = {"OMP_NUM_THREADS": "1", "VLLM_USE_V1": "1", "HCCL_BUFFSIZE": "1024", "VLLM_API_KEY": "from-env"}
    with patched_environment(environment), Server(
            "--tensor-parallel-size", "1", "--trust-remote-code", "--enable-prefix-caching", "--speculative_config",
            '{"method": "qwen3_5_mtp", "num_speculative_tokens": 3}', "--served-model-name", "qwen3.5") as running:
        log = running.log
        for word in ("OMP_NUM_THREADS=1 is not obeyed", "VLLM_USE_V1", "HCCL_BUFFSIZE", "--trust-remote-code: ", "Speculation: up to 3 drafts",
                     "Application startup complete.", "/v1/chat/completions"):
            assert word in log, log
        assert "from-env" not in log
        assert running.get("/v1/models").status == 401
        assert running.get("/v1/models", headers={"Authorization": "Bearer from-env"}).status == 200


def test_the_curl_line_that_serve_prints_works(server):
    line = re.search(r"Try:\s+(curl .*)", server.log)[1]
    assert server.url in line
    if shutil.which("curl"):
        answer = json.loads(subprocess.run(["bash", "-c", line + " --silent"], capture_output=True, check=True, timeout=120).stdout)
        assert answer["choices"][0]["message"]["role"] == "assistant"


def test_serve_drains_on_sigterm_and_stops_at_once_on_a_second_signal():
    with Server("--shutdown-timeout", "60") as running:
        body = json.dumps({"model": str(MODEL), "prompt": "Once", "max_tokens": 20000, "ignore_eos": True, "stream": True}).encode()
        with socket.create_connection(("127.0.0.1", running.port)) as client:
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert b"200" in client.recv(100)
            running.process.send_signal(signal.SIGINT)
            wait_until(lambda: "no new requests" in running.log, "drain message")
            assert running.alive()
            running.process.send_signal(signal.SIGINT)
            assert running.process.wait(10) == 128 + signal.SIGINT
        running.log_file.close()
        os.unlink(running.log_file.name)
        running.stop = lambda **_: None


# ---- chat -------------------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def patched_environment(changes):
    saved = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(saved)


def wait_until(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.02)


class Terminal:
    """weir chat on a pseudo-terminal, as a person would have it."""

    def __init__(self, *args, rows=24, columns=80):
        self.master, slave = pty.openpty()
        self.first_attributes = termios.tcgetattr(self.master)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color"}
        environment.pop("NO_COLOR", None)
        self.process = subprocess.Popen([BINARY, "chat", *map(str, args)], stdin=slave, stdout=slave, stderr=slave, env=environment,
                                        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.screen = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)

    def _read(self, seconds):
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the program ended
            return False
        self.screen += data.decode(errors="replace")
        return bool(data)

    def expect(self, pattern, seconds=60):
        """Waits for the pattern behind what was expected before; returns the text up to its end."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(pattern, self.screen, re.S)):
            assert time.monotonic() < deadline, f"no {pattern!r} within {seconds} s in:\n{self.screen!r}"
            if not self._read(0.2) and self.process.poll() is not None and not re.search(pattern, self.screen, re.S):
                raise AssertionError(f"weir chat ended with {self.process.returncode} before {pattern!r}:\n{self.screen!r}")
        before, self.screen = self.screen[: match.end()], self.screen[match.end():]
        return before

    def send(self, text):
        os.write(self.master, text.encode())

    def end(self, code=0):
        self.expect_end = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < self.expect_end:
            self._read(0.05)
        assert self.process.poll() == code, self.screen


STATS = r"\[[^\]]*first after [\d.]+ s[^\]]*\]"
PROMPT = r"> \x1b\[0m"


def test_chat_streams_answers_and_shows_their_speed(server):
    with Terminal("--url", server.url, "--temperature", 0, "--max-tokens", 40, "--no-thinking") as terminal:
        terminal.expect("talking to qwen3.5")
        terminal.expect(PROMPT)
        terminal.send("What is 7 plus 5?\r")
        shown = terminal.expect(STATS)
        answer = server.chat("What is 7 plus 5?", max_tokens=40, chat_template_kwargs={"enable_thinking": False})
        assert answer["choices"][0]["message"]["content"].strip().splitlines()[0] in shown
        assert re.search(r"\d+ tokens, [\d.]+ tokens/s", shown), shown
        terminal.expect(PROMPT)
        terminal.send("\x04")
        terminal.end()


def test_chat_shows_thoughts_dimmed(server):
    with Terminal("--url", server.url, "--temperature", 0, "--max-tokens", 60, "--thinking") as terminal:
        terminal.expect(PROMPT)
        terminal.send("What is 7 plus 5?\r")
        shown = terminal.expect(STATS)
        reasoning = server.chat("What is 7 plus 5?", max_tokens=60, chat_template_kwargs={"enable_thinking": True})["choices"][0]["message"]["reasoning"]
        dimmed = "".join(re.findall(r"\x1b\[2m(.*?)\x1b\[0m", shown, re.S))
        assert reasoning and reasoning.strip().splitlines()[0] in dimmed


def test_chat_ctrl_c_stops_the_answer_and_not_the_program(server):
    # Drawn from nearly equal chances, an answer seldom meets one of the two tokens that end it.
    with Terminal("--url", server.url, "--temperature", 50, "--top-k", 0, "--top-p", 1, "--no-thinking") as terminal:
        terminal.expect(PROMPT)
        for _ in range(10):
            terminal.send("Count from one to a thousand, please.\r")
            terminal.expect(r"please\.[^\n]*\r\n.{20}")
            terminal.send("\x03")
            shown = terminal.expect(r"\[[^\]]*first after [^\]]*\]\r\n\x1b\[0m")
            terminal.expect(PROMPT)
            if "[stopped, " in shown:
                break
        else:
            raise AssertionError("no answer was stopped in 10 tries")
        server.wait_idle()
        terminal.send("/help\r")
        terminal.expect("/reset")
        terminal.expect(PROMPT)
        terminal.send("/exit\r")
        terminal.end()


def test_chat_ctrl_c_at_the_prompt_drops_the_line(server):
    with Terminal("--url", server.url) as terminal:
        terminal.expect(PROMPT)
        terminal.send("half a thought\x03")
        terminal.expect("Ctrl-D or /exit leaves")
        terminal.expect(PROMPT)
        terminal.send("\x04")
        terminal.end()


def test_chat_line_editing_and_history(server):
    with Terminal("--url", server.url) as terminal:
        terminal.expect(PROMPT)
        terminal.send("/thunk off\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x7fi\r")
        terminal.expect("thinking off")
        terminal.expect(PROMPT)
        terminal.send("\x1b[A\x17on\r")
        terminal.expect("thinking on")
        terminal.expect(PROMPT)
        terminal.send("/think maybe\r")
        terminal.expect("takes on or off")
        terminal.expect(PROMPT)
        terminal.send("/nonsense\r")
        terminal.expect("unknown command /nonsense")


def test_chat_takes_a_paste_of_several_lines_as_one_message(server):
    with Terminal("--url", server.url, "--temperature", 0, "--max-tokens", 8, "--no-thinking") as terminal:
        terminal.expect(PROMPT)
        before = server.metrics()["vllm:request_success_total"]
        terminal.send("\x1b[200~line one\nline two\n\x1b[201~\r")
        terminal.expect(STATS)
        assert server.metrics()["vllm:request_success_total"] == before + 1


def test_chat_leaves_the_terminal_as_it_was(server):
    with Terminal("--url", server.url) as terminal:
        terminal.expect(PROMPT)
        terminal.send("/exit\r")
        terminal.end()
        assert termios.tcgetattr(terminal.master) == terminal.first_attributes


def test_chat_remembers_the_conversation_until_reset(server):
    with Terminal("--url", server.url, "--temperature", 0, "--max-tokens", 16, "--no-thinking") as terminal:
        def prompt_tokens():
            return server.metrics()["vllm:request_prompt_tokens_sum"]

        def cost(text):
            terminal.expect(PROMPT)
            before = prompt_tokens()
            terminal.send(text + "\r")
            terminal.expect(STATS)
            return prompt_tokens() - before

        first = cost("What is 2 plus 2?")
        second = cost("What is 2 plus 2?")
        assert second > first, "the first turn is sent again"
        terminal.expect(PROMPT)
        terminal.send("/reset\r")
        terminal.expect("conversation forgotten")
        assert cost("What is 2 plus 2?") == first


def test_chat_through_a_pipe_prints_answers_alone(server):
    flags = ["--url", server.url, "--temperature", 0, "--max-tokens", 24, "--no-thinking"]
    want = server.chat("What is 7 plus 5?", max_tokens=24, chat_template_kwargs={"enable_thinking": False})["choices"][0]["message"]["content"]
    result = weir("chat", *flags, input="What is 7 plus 5?\n/reset\nWhat is 7 plus 5?")
    assert result.stdout == (want.strip("\n") + "\n") * 2
    assert result.stderr == ""


def test_chat_without_a_server_says_how_to_start_one():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    said = one_line(weir("chat", "--url", f"http://127.0.0.1:{port}", code=1, input="hello\n"))
    assert str(port) in said and "weir serve" in said


def test_chat_with_an_unknown_model_fails_in_a_pipe_and_goes_on_in_a_terminal(server):
    said = one_line(weir("chat", "--url", server.url, "--model", "nope", code=1, input="hello\nagain\n"))
    assert "nope" in said
    with Terminal("--url", server.url, "--model", "nope") as terminal:
        for _ in range(2):
            terminal.expect(PROMPT)
            terminal.send("hello\r")
            terminal.expect("weir: .*nope")
        terminal.expect(PROMPT)
