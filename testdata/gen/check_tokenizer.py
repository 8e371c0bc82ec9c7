"""What Hugging Face's tokenizers library makes of texts and ids; the caller compares.

    python check_tokenizer.py < JOBS
    python check_tokenizer.py --corpus SEED

JOBS is a JSON list of {"file": "tokenizer.json", "texts": [...], "pairs": [[text, text], ...], "ids": [[...], ...]}. Prints a JSON list
with, for each job, `plain` and `special`, the ids of each text without and with the special tokens (null where the library itself
panics or has none), `pairs`, the ids and type ids of each pair with the special tokens, and `decoded` and `skipped`, the text of each
list of ids with and without the special tokens. The second form prints a JSON list of texts of every script and kind. One line on
stderr and exit 1 on failure.
"""

import json
import random
import sys

import tokenizer_corpus
from tokenizers import Tokenizer


def attempt(call):
    """The library has bugs that make it panic, for which no answer is right, and texts that it has no ids for."""
    try:
        return call()
    except BaseException as e:
        if type(e).__name__ not in ("PanicException", "Exception"):
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

    def pair(a, b):
        e = t.encode(a, b)
        return [e.ids, e.type_ids]

    pairs = [attempt(lambda: pair(a, b)) for a, b in job["pairs"]]
    return {"plain": encode(False), "special": encode(True), "pairs": pairs, "decoded": decode(False), "skipped": decode(True)}


def main():
    try:
        if sys.argv[1:2] == ["--corpus"]:
            answers = [tokenizer_corpus.text(line)[:500] for line in tokenizer_corpus.lines(random.Random(int(sys.argv[2])))]
        else:
            answers = [answer(job) for job in json.load(sys.stdin)]
    except Exception as e:
        sys.exit(f"check_tokenizer: {type(e).__name__}: {' '.join(str(e).split())}")
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
