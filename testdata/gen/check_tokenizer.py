"""What Hugging Face's tokenizers library makes of texts and ids; the caller compares.

    python check_tokenizer.py < JOBS

JOBS is a JSON list of {"file": "tokenizer.json", "texts": [...], "ids": [[...], ...]}. Prints a JSON list with, for each job,
`plain` and `special`, the ids of each text without and with the special tokens (null where the library itself panics),
and `decoded` and `skipped`, the text of each list of ids with and without the special tokens. One line on stderr and exit 1 on failure.
"""

import json
import sys

from tokenizers import Tokenizer


def attempt(call):
    """The library has bugs that make it panic, for which no answer is right."""
    try:
        return call()
    except BaseException as e:
        if type(e).__name__ != "PanicException":
            raise
        return None


def answer(job):
    t = Tokenizer.from_file(job["file"])
    t.no_truncation()
    t.no_padding()

    def encode(special):
        return [attempt(lambda: t.encode(s, add_special_tokens=special).ids) for s in job["texts"]]

    def decode(skip):
        return [attempt(lambda: t.decode(ids, skip_special_tokens=skip)) for ids in job["ids"]]

    return {"plain": encode(False), "special": encode(True), "decoded": decode(False), "skipped": decode(True)}


def main():
    try:
        answers = [answer(job) for job in json.load(sys.stdin)]
    except Exception as e:
        sys.exit(f"check_tokenizer: {type(e).__name__}: {' '.join(str(e).split())}")
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
