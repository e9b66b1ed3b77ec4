"""--packed-cache through the real server: the second start reads it, damage is noticed, answers are the same."""
import pathlib
import re
import signal

from weir_server import Server
from wide_model import wide_model


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


def test_weights_in_16_bits_are_another_file_and_give_the_same_answers(tmp_path):
    answers, sizes = [], []
    for flags in ((), ("--no-compress-weights",)):
        with Server("--served-model-name", "qwen3.5", "--packed-cache", tmp_path / "packed", *flags) as server:
            answers.append(server.complete(max_tokens=40, ignore_eos=True, logprobs=5)["choices"][0])
            sizes.append(float(re.search(r"weights +([\d.]+) MiB", server.log)[1]))
    assert answers[0] == answers[1], "bit for bit"
    assert 0.7 < sizes[0] / sizes[1] < 0.85
    kept = sorted(file.stat().st_size for file in (tmp_path / "packed").iterdir())
    assert len(kept) == 2 and kept[0] < 0.85 * kept[1]


def test_answers_stay_the_same_while_mapped_weights_move_into_huge_pages(tmp_path):
    model = wide_model(tmp_path / "model", experts=16, width=512)  # 6 and 3 MiB a layer: from 2 MiB on weights are mapped
    flags = ("--served-model-name", "qwen3.5", "--packed-cache", tmp_path / "packed", "--no-enable-prefix-caching")
    moved = "Packed weights lie in huge pages now"

    def ask(server):
        return server.complete(max_tokens=20, ignore_eos=True, logprobs=2)["choices"][0]

    with Server(*flags, model=model) as server:
        plain = ask(server)
        assert moved not in server.log, "what was just packed is not mapped"
    with Server(*flags, model=model) as server:
        answers = [ask(server)]
        server._poll(60, "moved weights", lambda: answers.append(ask(server)) or moved in server.log)
        answers.append(ask(server))
        assert all(answer == plain for answer in answers), len(answers)
        mapped = pathlib.Path(f"/proc/{server.process.pid}/maps").read_text()
        assert ".weirpack" not in mapped, "nothing depends on the file any more"


def test_a_start_that_is_killed_leaves_nothing_that_is_taken_for_whole(tmp_path):
    directory = tmp_path / "packed"
    server = Server("--served-model-name", "qwen3.5", "--packed-cache", directory)
    server._poll(60, "partial file", lambda: directory.exists() and list(directory.iterdir()))
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    start(directory)
    assert [file.suffix for file in directory.iterdir()] == [".weirpack"]
