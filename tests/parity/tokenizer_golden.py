#!/usr/bin/env python3
"""Write tests/text/golden/tokenizer_weir_tiny.json: texts and what Hugging Face `tokenizers` makes of them, for the C++ tests.

    pip install tokenizers==0.23.3 pytest
    python tests/parity/tokenizer_golden.py
"""

from __future__ import annotations

import json
import random

import tokenizers
from test_tokenizer import PROSE, ROOT, difficult_texts, random_texts

COUNT = 500


def main() -> None:
    hf = tokenizers.Tokenizer.from_file(str(ROOT / "models/weir-tiny/tokenizer.json"))
    texts = [t for t in PROSE if len(t) < 300] + random.Random(5).sample(difficult_texts(), COUNT)
    texts += [t for t in random_texts(5000, seed=6) if len(t) < 60]
    cases = []
    for text in dict.fromkeys(texts):
        ids = hf.encode(text, add_special_tokens=False).ids
        cases.append({"text": text, "ids": ids, "decoded": hf.decode(ids, skip_special_tokens=True)})
    header = {"made_by": "tests/parity/tokenizer_golden.py", "tokenizers": tokenizers.__version__}
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    path = ROOT / "tests/text/golden/tokenizer_weir_tiny.json"
    path.write_text(json.dumps(header)[:-1] + f', "cases": [\n{lines}\n]}}\n')
    print(f"{len(cases)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
