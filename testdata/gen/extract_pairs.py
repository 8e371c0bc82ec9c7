"""Makes pairs of tiny models, one trained from the other in one step of random numbers, and compares what PEFT computes with extracted adapters.

    python extract_pairs.py make --seed 1 --out DIR
    python extract_pairs.py check --dir DIR --adapters ADAPTERS

`make` writes DIR/NAME/base and DIR/NAME/tuned, and DIR/pairs.json. `check` loads ADAPTERS/NAME on each base with PEFT and fails (one line on
stderr, exit 1) where the logits are further from the tuned model's than 1e-5 of their norm, unmerged and, where PEFT can, merged.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

from common import begin, check


def tiny(**more):
    return {"vocab_size": 61, "hidden_size": 48, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64, **more}


def pairs(t):
    """Name, model, class to load it with, rank of the change (0 for norms alone), whether PEFT merges it."""
    decoder = tiny(num_key_value_heads=2)
    return [
        ("qwen2", lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**decoder, tie_word_embeddings=False)), "AutoModelForCausalLM", 4, False),
        ("qwen2-tied", lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**decoder, tie_word_embeddings=True)), "AutoModelForCausalLM", 4, False),
        ("llama-tied", lambda: t.LlamaForCausalLM(t.LlamaConfig(**decoder, tie_word_embeddings=True)), "AutoModelForCausalLM", 3, False),
        ("gpt2", lambda: t.GPT2LMHeadModel(t.GPT2Config(vocab_size=61, n_embd=48, n_layer=2, n_head=4, n_positions=64)), "AutoModelForCausalLM", 4, True),
        ("bert", lambda: t.BertForSequenceClassification(t.BertConfig(**tiny())), "AutoModelForSequenceClassification", 4, True),
        ("mistral", lambda: t.MistralForCausalLM(t.MistralConfig(**decoder)), "AutoModelForCausalLM", 5, True),
        ("norms", lambda: t.LlamaForCausalLM(t.LlamaConfig(**decoder)), "AutoModelForCausalLM", 0, True),
    ]


def make(args):
    torch = begin(args.seed)
    import transformers

    listing = []
    for name, build, auto, rank, merges in pairs(transformers):
        model = build()
        with torch.no_grad():
            for p in model.parameters():
                p.normal_(std=0.1)
            model.save_pretrained(args.out / name / "base")
            for p in model.parameters():
                if p.dim() < 2:
                    p.add_(torch.randn_like(p), alpha=0.02)
                elif rank:
                    p.add_(torch.randn(p.shape[0], rank) @ torch.randn(rank, p.shape[1]), alpha=0.02 / rank**0.5)
            model.save_pretrained(args.out / name / "tuned")
        listing.append({"name": name, "auto": auto, "merges": merges})
    (args.out / "pairs.json").write_text(json.dumps(listing) + "\n")


def check_all(args):
    torch = begin(args.seed)
    import transformers
    from peft import PeftModel

    warnings.simplefilter("ignore")
    ids = torch.randint(0, 61, (2, 9))
    worst = 0.0
    for pair in json.loads((args.dir / "pairs.json").read_text()):
        name, auto = pair["name"], getattr(transformers, pair["auto"])

        def far(model, want):
            return float((model(input_ids=ids).logits - want).norm() / want.norm())

        with torch.no_grad():
            want = auto.from_pretrained(args.dir / name / "tuned")(input_ids=ids).logits
            base = auto.from_pretrained(args.dir / name / "base").eval()
            check(far(base, want) > 1e-2, name, "the change is too small to see")
            model = PeftModel.from_pretrained(base, args.adapters / name).eval()
            apart = far(model, want)
            check(apart <= 1e-5, name, "with the adapter the logits are off by", apart)
            worst = max(worst, apart)
            if pair["merges"]:
                apart = far(model.merge_and_unload(), want)
                check(apart <= 1e-5, name, "merged by PEFT the logits are off by", apart)
    print(json.dumps({"worst": worst}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["make", "check"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--adapters", type=Path)
    args = parser.parse_args()
    {"make": make, "check": check_all}[args.what](args)


if __name__ == "__main__":
    sys.exit(main())
