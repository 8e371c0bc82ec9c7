"""What Jinja makes of templates, with the settings that transformers has for chat templates; the caller compares.

    python check_chat.py < JOBS

JOBS is a JSON list of {"source": "...", "variables": {...}}. Prints a JSON list with the text of each, or null where Jinja fails.
One line on stderr and exit 1 on failure.
"""

import json
import sys

import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment


def main():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson

    def render(job):
        try:
            return env.from_string(job["source"]).render(**job["variables"])
        except Exception:
            return None

    try:
        answers = [render(job) for job in json.load(sys.stdin)]
    except Exception as e:
        sys.exit(f"check_chat: {type(e).__name__}: {' '.join(str(e).split())}")
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
