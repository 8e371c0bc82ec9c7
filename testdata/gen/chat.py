"""What transformers makes of chat templates: testdata/chat.

    python chat.py

Reads templates/*.jinja and conversations.json, which are written by hand, and writes rendered.json, a list of what each template
makes of each conversation with and without a generation prompt, with the spans of `generation` blocks, in characters; and
constructs.json, one small template for each construct, with its output. Where Jinja fails, `error` is the exception's class.
`now` is 2025-02-03 04:05:06.
"""

import datetime
import json
from pathlib import Path

import jinja2
from transformers.utils import chat_template_utils

from chat_constructs import CONSTRUCTS

OUT = Path(__file__).parent.parent / "chat"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime(2025, 2, 3, 4, 5, 6)


chat_template_utils.datetime = Clock


def attempt(call):
    try:
        return call()
    except Exception as e:
        return {"error": type(e).__name__, "message": str(e)}


def render(template, talk, prompt):
    messages = chat_template_utils._normalize_chat_messages(talk["messages"])
    rendered, spans = chat_template_utils.render_jinja_template(
        conversations=[messages],
        tools=talk.get("tools"),
        documents=talk.get("documents"),
        chat_template=template,
        return_assistant_tokens_mask="generation" in template,
        add_generation_prompt=prompt,
        **{**SPECIAL, **talk.get("variables", {})},
    )
    out = {"text": rendered[0]}
    if spans and spans[0]:
        out["spans"] = [list(s) for s in spans[0]]
    return out


def construct(source, variables):
    template = chat_template_utils._compile_jinja_template(source)
    return {"text": template.render(**variables)}


def write(name, value):
    (OUT / name).write_text(json.dumps(value, ensure_ascii=False, indent=0) + "\n")


def main():
    talks = json.loads((OUT / "conversations.json").read_text())
    rows = []
    for path in sorted((OUT / "templates").glob("*.jinja")):
        template = path.read_text()
        for talk in talks:
            for prompt in (False, True):
                result = attempt(lambda: render(template, talk, prompt))
                rows.append({"template": path.stem, "conversation": talk["name"], "prompt": prompt, **result})
    write("rendered.json", rows)
    rows = []
    for entry in CONSTRUCTS:
        source, variables = entry if isinstance(entry, tuple) else (entry, {})
        rows.append({"source": source, "variables": variables, **attempt(lambda: construct(source, variables))})
    write("constructs.json", rows)


main()
