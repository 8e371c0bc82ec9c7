"""Prints pairs of texts and the ids and types that transformers cuts them to, as JSON.

    python truncate.py > train/tokenizer/testdata/truncate.json

Needs transformers (gen-requirements.txt). The tokenizers are those of ../tokenizer.
"""

import json
from pathlib import Path

from transformers import PreTrainedTokenizerFast

TOKENIZERS = Path(__file__).resolve().parent.parent / "tokenizer"
LONG, MIDDLE, SHORT = "the ferry leaves at half past seven", "a clock it is", "we"
PAIRS = [(LONG, SHORT), (SHORT, LONG), (LONG, MIDDLE), (MIDDLE, LONG), (LONG, LONG), (MIDDLE, "the ferry")]


def main():
    out = {}
    for name in ("bert-uncased", "roberta", "llama2", "gpt2"):
        tok = PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZERS / f"{name}.json"))
        cases = []
        for first, second in PAIRS:
            whole = len(tok(first, second)["input_ids"])
            special = tok.num_special_tokens_to_add(pair=True)
            for limit in sorted({special, special + 1, special + 4, special + 5, whole - 4, whole - 3, whole - 1, whole, whole + 1}):
                if limit < max(special, 1):
                    continue
                e = tok(first, second, truncation=True, max_length=limit, return_token_type_ids=True)
                cases.append([first, second, limit, whole - len(e["input_ids"]), e["input_ids"], e["token_type_ids"]])
        out[name] = cases
    print("{" + ",\n".join(f"{json.dumps(n)}: [\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]" for n, cases in out.items()) + "}")


if __name__ == "__main__":
    main()
