"""weir's template interpreter against Jinja2 itself, configured as transformers' apply_chat_template configures it.

    WEIR_BUILD_DIR=build/release pytest tests/parity/test_chat_template.py

needs `jinja2` from PyPI and the program template_dump in the build directory. Errors must agree in kind: where Jinja2 raises, weir must
report an error, and a raise_exception() message must arrive whole.
"""

from __future__ import annotations

import ast
import copy
import json
import os
import random
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

jinja2 = pytest.importorskip("jinja2")
import jinja2.ext  # noqa: E402
import jinja2.sandbox  # noqa: E402
from template_snippets import EXPRESSIONS, STATEMENTS, VARIABLES  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
DUMP = ROOT / os.environ.get("WEIR_BUILD_DIR", "build/release") / "template_dump"
NUM_CONVERSATIONS = 2500
pytestmark = pytest.mark.filterwarnings("ignore::SyntaxWarning")   # of the Python that Jinja2 writes


# ---- the reference ----


class GenerationTag(jinja2.ext.Extension):
    """{% generation %}, as transformers' AssistantTracker parses it."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


class PlainDict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)


class PlainNamespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attributes = dict(*args, **kwargs)
        for name in attributes:
            PlainNamespace._check_name(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name, value):
        PlainNamespace._check_name(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check_name(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(name)


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals.update(raise_exception=raise_exception, strftime_now=lambda f: datetime.now().strftime(f), dict=PlainDict(), namespace=PlainNamespace)
    return env


class Reference:
    def __init__(self):
        self.env, self.cache = environment(), {}

    def render(self, template, variables):
        try:
            if template not in self.cache:
                self.cache[template] = self.env.from_string(template)
            text = self.cache[template].render(**copy.deepcopy(variables))   # |indent changes a list in place
            text.encode()   # lone surrogates cannot leave weir
            return {"text": text}
        except Exception as e:  # noqa: BLE001: whatever Python raises is an error to the caller
            return {"error": str(e), "raised": type(e) is jinja2.exceptions.TemplateError}


def weir(requests):
    lines = "".join(json.dumps({"template": t, "variables": v}) + "\n" for t, v in requests)
    done = subprocess.run([DUMP], input=lines.encode(), stdout=subprocess.PIPE, check=True, timeout=600)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(requests)
    return answers


def difference(request, want, got):
    if "text" in want:
        same = got.get("text") == want["text"]
    else:
        same = "error" in got and (not want["raised"] or want["error"] in got["error"])
    return None if same else f"template {request[0]!r:.2000}\n  want {want!r:.3000}\n  got  {got!r:.3000}"


def compare(requests):
    reference = Reference()
    wants = [reference.render(*r) for r in requests]
    wrong = [d for d in map(difference, requests, wants, weir(requests)) if d]
    assert not wrong, f"{len(wrong)} of {len(requests)} differ:\n" + "\n".join(wrong[:60])
    return wants


# ---- conversations ----

TEXTS = ["Hello", "What is 2 + 2?", "", "  padded  \n", "\n\nlines\n\n", "Grüße, 你好 👍🏽", "<b>&amp;\"'</b>", "{{ not a template }} {% if %}", "a </think> b", "<think>\nhm\n</think>\n\nyes",
         "<think>one</think>two</think>three", "<tool_response>\n42\n</tool_response>", "<tool_call>\n<function=f>", "tab\tand\u00a0space\u3000", "\\n \\ \\u00e9", "null", "42"]
VALUES = ["text", "two\nlines", "", "ünï", 0, -17, 2**53 + 1, 2**63, 1.5, -0.0, 1e-7, 1e21, True, False, None, [], {}, [1, "a", None, [2.5]], {"k": {"deep": [True, {}]}}, ["é", "\"q\"", "</x>"]]


def content(rng, rich):
    if not rich or rng.random() < 0.6:
        return rng.choice(TEXTS)
    parts = [{"type": "text", "text": t} for t in rng.sample(TEXTS, rng.randrange(3))]
    for _ in range(rng.randrange(3)):
        parts.insert(rng.randrange(len(parts) + 1), rng.choice([{"type": "image"}, {"type": "image_url", "image_url": {"url": "data:x"}}, {"image": "a.png"},
                                                                  {"type": "video"}, {"video": "v.mp4"}, {"type": "image", "image": "b.png"}]))
    return parts


def arguments(rng):
    return {rng.choice(["city", "n", "größe", "opts", "x.y", "items"]): rng.choice(VALUES) for _ in range(rng.randrange(4))}


def message(rng, role):
    m = {"role": role, "content": content(rng, rich=role in ("user", "tool") or rng.random() < 0.1)}
    if role == "assistant":
        if rng.random() < 0.3:
            m["reasoning_content"] = rng.choice(TEXTS + [None, 5])
        if rng.random() < 0.4:
            calls = [{"name": rng.choice(["get_weather", "f"]), "arguments": arguments(rng)} for _ in range(1 + rng.randrange(3))]
            m["tool_calls"] = [{"id": "1", "type": "function", "function": c} if rng.random() < 0.7 else c for c in calls]
        if rng.random() < 0.1:
            m["content"] = None
    if role == "tool":
        m["tool_call_id"] = "1"
    return m


def tool(rng):
    properties = {rng.choice(["city", "n", "opts"]): {"type": rng.choice(["string", "integer", "object"]), "description": rng.choice(TEXTS), "default": rng.choice(VALUES)}
                  for _ in range(rng.randrange(3))}
    return {"type": "function", "function": {"name": "get_weather", "description": rng.choice(TEXTS), "strict": rng.random() < 0.5,
                                             "parameters": {"type": "object", "properties": properties, "required": list(properties)}}}


def conversation(rng):
    messages = [message(rng, "system")] if rng.random() < 0.5 else []
    for _ in range(rng.randrange(5)):
        messages.append(message(rng, "user"))
        messages += [message(rng, rng.choice(["assistant", "assistant", "tool"])) for _ in range(rng.randrange(4))]
    if rng.random() < 0.05:   # what templates refuse
        messages.insert(rng.randrange(len(messages) + 1), message(rng, rng.choice(["system", "nobody", "tool"])))
    if rng.random() < 0.02:
        messages.append(rng.choice([{"role": "user"}, {"content": "x"}, {}, {"role": "user", "content": 5}, {"role": "user", "content": {"a": 1}}]))
    variables = {"messages": messages}
    if rng.random() < 0.5:
        variables["tools"] = rng.choice([None, [], [tool(rng)], [tool(rng), tool(rng)]])
    for name in ("add_generation_prompt", "enable_thinking", "add_vision_id"):
        if rng.random() < 0.6:
            variables[name] = rng.random() < 0.5
    return variables


def synthetic_template():
    """CHAT of tools/golden/make_synthetic.py, without importing what that script needs."""
    tree = ast.parse((ROOT / "tools/golden/make_synthetic.py").read_text())
    return next(ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "CHAT")


TEMPLATES = {
    "weir-tiny": (ROOT / "models/weir-tiny/chat_template.jinja").read_text(),
    "synthetic": synthetic_template(),
    "qwen3_5_style": (ROOT / "tests/parity/qwen3_5_style.jinja").read_text(),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_conversations(name):
    rng = random.Random(f"conversations of {name}")
    wants = compare([(TEMPLATES[name], conversation(rng)) for _ in range(NUM_CONVERSATIONS)])
    assert sum("text" in w for w in wants) > 0.6 * NUM_CONVERSATIONS, "too few conversations that a template accepts"
    assert any("error" in w for w in wants)


def expressions():
    joined = []   # a backslash at the end of a line continues it
    for line in EXPRESSIONS.split("\n"):
        if joined and joined[-1].endswith("\\"):
            joined[-1] += "\n" + line
        else:
            joined.append(line)
    return ["{{ " + e + " }}" for e in joined]


def statements():
    return list(STATEMENTS)


def test_expressions():
    wants = compare([(e, VARIABLES) for e in expressions()])
    assert len(wants) > 400 and sum("error" in w for w in wants) > 80


def test_statements():
    compare([(s, VARIABLES) for s in statements()])


def test_random_combinations():
    """Pieces of expressions put together at random: operators, filters and tests of values of every kind."""
    rng = random.Random(11)
    atoms = ["t", "f", "n", "zero", "i", "neg", "x", "y", "s", "empty", "u", "ws", "digits", "l", "ls", "el", "d", "ed", "nested", "people", "missing", "'a'", "-1", "2", "(1, 'b')", "range(3)"]
    filters = ["upper", "lower", "title", "capitalize", "trim", "length", "first", "last", "list", "string", "int", "float", "abs", "round", "sort", "reverse|list", "unique|list", "join(',')", "sum", "min", "max",
               "tojson", "tojson(indent=1)", "default('z', true)", "replace('a', 1)", "dictsort", "items|list", "indent", "map('string')|list", "select|list", "map(attribute='name')|list", "wordcount", "e", "safe"]
    tests = ["defined", "none", "string", "number", "integer", "float", "boolean", "mapping", "sequence", "iterable", "true", "odd", "lower", "in l", "eq 1", "callable", "divisibleby 2"]
    operators = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]

    def expression(depth):
        roll = rng.random()
        if depth == 0 or roll < 0.2:
            return rng.choice(atoms)
        if roll < 0.45:
            return f"({expression(depth - 1)} {rng.choice(operators)} {expression(depth - 1)})"
        if roll < 0.7:
            return f"({expression(depth - 1)})|{rng.choice(filters)}"
        if roll < 0.8:
            return f"(({expression(depth - 1)}) is {rng.choice(['', 'not '])}{rng.choice(tests)})"
        if roll < 0.9:
            # Of a variable: Jinja2 makes wrong slices of constants undefined at compile time, elsewhere they are an error.
            return f"({expression(depth - 1)} if t else n)[{rng.choice(['0', '-1', ':2', '::-1', '1:', repr('name')])}]"
        return f"({expression(depth - 1)} if {expression(depth - 1)} else {expression(depth - 1)})"

    reference = Reference()
    requests = []
    for _ in range(6000):
        template = "{{ " + expression(3) + " }}"
        want = reference.render(template, VARIABLES)
        # Not objects with an address, and no complex numbers.
        if len(want.get("text", "")) < 2000 and not any(word in want.get("text", "") for word in ("object at", "<built-in", "<function", "j")):
            requests.append((template, VARIABLES))
    compare(requests)
