"""Is an answer right? The "match" rule of an evaluation line, applied to the text the model wrote (template markup included)."""
import json
import re


def parse_call(s):
    m = re.search(r"<tool_call>\n<function=([^>]*)>\n(.*?)</function>\n</tool_call>", s, re.S)
    if not m:
        return None
    return {"name": m[1], "arguments": {a: b for a, b in re.findall(r"<parameter=([^>]*)>\n(.*?)\n</parameter>", m[2], re.S)}}


def judge(o, text):
    if o["chat_template_kwargs"]["enable_thinking"]:
        if "</think>" not in text:
            return False
        text = text.split("</think>")[-1]
    text = text.replace("<|im_end|>", "").strip()
    m = o["match"]
    if m["type"] == "number":
        n = re.findall(r"-?\d+", text)
        return bool(n) and n[-1] == m["value"]
    if m["type"] == "contains":
        return m["value"] in text
    if m["type"] == "exact":
        return m["value"] == text
    if m["type"] == "json":
        try:
            return json.loads(text) == m["value"]
        except ValueError:
            return False
    if m["type"] == "tool_call":
        c, v = parse_call(text), m["value"]
        return c is not None and c["name"] == v["name"] and c["arguments"] == {k: str(x) for k, x in v["arguments"].items()}
