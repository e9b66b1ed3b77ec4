#!/usr/bin/env python3
"""Writes tests/text/golden/chat_template.json: templates, variables and what Jinja2 renders, for the C++ tests.

    pip install jinja2==3.1.6 pytest
    python tests/parity/template_golden.py
"""

from __future__ import annotations

import json
import random

import jinja2
from template_snippets import VARIABLES
from test_chat_template import ROOT, TEMPLATES, Reference, conversation, expressions, statements

CONVERSATIONS = 50


def main() -> None:
    reference = Reference()

    def case(template, variables):
        answer = reference.render(template, variables)
        if "text" in answer:
            return {"text": answer["text"]}
        return {"error": answer["error"] if answer["raised"] else ""}   # weir words errors of the language its own way

    snippets = [{"template": t, **case(t, VARIABLES)} for t in expressions() + statements() if "strftime_now('%Y" not in t and "%% %Y" not in t]
    chats = []
    for name, template in TEMPLATES.items():
        rng = random.Random(f"golden conversations of {name}")
        for _ in range(CONVERSATIONS):
            variables = conversation(rng)
            chats.append({"template": name, "variables": variables, **case(template, variables)})
    path = ROOT / "tests/text/golden/chat_template.json"

    def lines(cases):
        return ",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in cases)

    header = {"made_by": "tests/parity/template_golden.py", "jinja2": jinja2.__version__, "variables": VARIABLES,
              "templates": {n: t for n, t in TEMPLATES.items()}}
    path.write_text(json.dumps(header, ensure_ascii=False)[:-1] + f', "snippets": [\n{lines(snippets)}\n], "chats": [\n{lines(chats)}\n]}}\n')
    print(f"{len(snippets)} snippets, {len(chats)} conversations, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
