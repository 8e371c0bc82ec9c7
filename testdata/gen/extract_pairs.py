"""Makes pairs of tiny models, one trained from the other in one step of random numbers, and compares what PEFT computes with extracted adapters.

    python extract_pairs.py make --seed 1 --out DIR
    python extract_pairs.py check --dir DIR --adapters ADAPTERS

`make` writes DIR/NAME/base and DIR/NAME/tuned, and DIR/pairs.json. `check` loads each adapter ADAPTERS/NAME and ADAPTERS/NAME-exact on its base
with PEFT and fails (one line on stderr, exit 1) where the outputs are further from the tuned model's than 1e-5 of their norm, unmerged and,
where PEFT can, merged. The exact ones save everything whole, so that PEFT can always merge them.
"""

import argparse
import json
import re
import sys
import warnings
from pathlib import Path

from common import begin, check


def tiny(**more):
    return {"vocab_size": 61, "hidden_size": 48, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64, **more}


def pairs(t):
    """Name, model, class to load it with, rank of the change (0 for vectors alone), whether PEFT merges it, what changes."""
    decoder = tiny(num_key_value_heads=2)
    causal, classes = "AutoModelForCausalLM", "AutoModelForSequenceClassification"
    qwen2 = lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**decoder, tie_word_embeddings=False))
    bert = lambda: t.BertForSequenceClassification(t.BertConfig(**tiny()))
    resnet = lambda: t.ResNetForImageClassification(t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], num_labels=3, layer_type="basic"))
    return [
        ("qwen2", qwen2, causal, 4, False, ""),
        ("qwen2-tied", lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**decoder, tie_word_embeddings=True)), causal, 4, False, ""),
        ("llama-tied", lambda: t.LlamaForCausalLM(t.LlamaConfig(**decoder, tie_word_embeddings=True)), causal, 3, False, ""),
        ("gpt2", lambda: t.GPT2LMHeadModel(t.GPT2Config(vocab_size=61, n_embd=48, n_layer=2, n_head=4, n_positions=64)), causal, 4, True, ""),
        ("bert", bert, classes, 4, True, ""),
        ("mistral", lambda: t.MistralForCausalLM(t.MistralConfig(**decoder)), causal, 5, True, ""),
        ("norms", lambda: t.LlamaForCausalLM(t.LlamaConfig(**decoder)), causal, 0, True, ""),
        ("weights-beside-biases", qwen2, causal, 4, True, r"q_proj\.weight"),
        ("half-a-norm", bert, classes, 0, True, r"LayerNorm\.weight"),
        ("a-bias", bert, classes, 0, True, r"layer\.1\.output\.dense\.bias"),
        ("batch-norms", resnet, "AutoModelForImageClassification", 0, True, r"normalization\.weight"),
    ]


def make(args):
    torch = begin(args.seed)
    import transformers

    listing = []
    for name, build, auto, rank, merges, only in pairs(transformers):
        model = build()
        with torch.no_grad():
            for p in model.parameters():
                p.normal_(std=0.1)
            model.eval()
            model.save_pretrained(args.out / name / "base")
            for key, p in model.named_parameters():
                if not re.search(only, key):
                    continue
                size = 0.5 if only else 0.02  # one of many has to be seen
                if p.dim() < 2:
                    p.add_(torch.randn_like(p), alpha=size)
                elif rank:
                    p.add_(torch.randn(p.shape[0], rank) @ torch.randn(rank, p.shape[1]), alpha=size / rank**0.5)
            model.save_pretrained(args.out / name / "tuned")
        listing.append({"name": name, "auto": auto, "merges": merges})
    (args.out / "pairs.json").write_text(json.dumps(listing) + "\n")


def check_all(args):
    torch = begin(args.seed)
    import transformers
    from peft import PeftModel

    warnings.simplefilter("ignore")
    ids, pixels = torch.randint(0, 61, (2, 9)), torch.randn(2, 3, 32, 32)
    worst = 0.0
    for pair in json.loads((args.dir / "pairs.json").read_text()):
        name, auto = pair["name"], getattr(transformers, pair["auto"])
        inputs = {"pixel_values": pixels} if "Image" in pair["auto"] else {"input_ids": ids}
        for adapter in (name, name + "-exact"):
            with torch.no_grad():
                want = auto.from_pretrained(args.dir / name / "tuned").eval()(**inputs).logits
                base = auto.from_pretrained(args.dir / name / "base").eval()

                def far(model):
                    return float((model(**inputs).logits - want).norm() / want.norm())

                check(far(base) > 1e-3, name, "the change is too small to see")
                model = PeftModel.from_pretrained(base, args.adapters / adapter).eval()
                apart = far(model)
                check(apart <= 1e-5, adapter, "with the adapter the outputs are off by", apart)
                worst = max(worst, apart)
                if pair["merges"] or adapter != name:
                    apart = far(model.merge_and_unload())
                    check(apart <= 1e-5, adapter, "merged by PEFT the outputs are off by", apart)
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
