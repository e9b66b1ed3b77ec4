"""--packed-cache through the real server: the second start reads it, damage is noticed, answers are the same."""
import re
import signal

from weir_server import Server


def start(directory):
    with Server("--served-model-name", "qwen3.5", "--packed-cache", directory) as server:
        answer = server.complete(max_tokens=20, ignore_eos=True, logprobs=2)["choices"][0]
        return answer, server.log


def test_a_second_start_answers_the_same_from_the_packed_weights(tmp_path):
    directory = tmp_path / "packed"
    plain, log = start(directory)
    assert "for the next start" in log
    (packed,) = directory.iterdir()
    content = packed.read_bytes()
    again, log = start(directory)
    assert again == plain and "--packed-cache:" not in log, "nothing to say: it was read"

    damaged = bytearray(content)
    damaged[len(content) // 3] ^= 4
    packed.write_bytes(damaged)
    after, log = start(directory)
    assert after == plain and re.search(r"WARNING .*is damaged; the rest is read from the checkpoint", log)
    assert list(directory.iterdir()) == [], "the next start writes it anew"
    start(directory)
    assert packed.read_bytes() == content

    packed.write_bytes(content[: len(content) // 2])
    after, log = start(directory)
    assert after == plain and "will be written anew" in log
    assert packed.read_bytes() == content


def test_a_start_that_is_killed_leaves_nothing_that_is_taken_for_whole(tmp_path):
    directory = tmp_path / "packed"
    server = Server("--served-model-name", "qwen3.5", "--packed-cache", directory)
    server._poll(60, "partial file", lambda: directory.exists() and list(directory.iterdir()))
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    start(directory)
    assert [file.suffix for file in directory.iterdir()] == [".weirpack"]
