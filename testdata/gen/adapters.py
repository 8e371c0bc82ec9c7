"""Makes adapters of every kind that is trained, on models that are there, and what PEFT computes with them.

    python adapters.py --seed 1 --models testdata/models --out testdata/models/adapters

MODELS holds what decoders.py and encoders.py made. OUT/NAME/ has, as encoders.py makes them for its runs,
  init/               the adapter that training starts from, by PEFT: nothing in it is zero
  run.json            the base (a directory of MODELS), the task, and the loss of 20 AdamW steps; step t trains on batch t % 5
  golden.safetensors  ids, lens, types and labels; base and adapter: logits of batch 0; grad.NAME before the first step;
                      trained.NAME after the last

Factors that embedding and head share (ensure_weight_tying) are one parameter here: PEFT ties their values when it makes them, but gives
each end a parameter of its own, and moving the model to another type or loading it takes them apart.

All is computed in float64 with eager attention and without dropout; what transformers itself does in float32 stays float32.
"""

import argparse
import json
import shutil
import warnings
from pathlib import Path

from common import begin, check, save_adapter, save_json, save_tensors
from encoders import BATCHES, HYPER, STEPS, make_batches, outputs_of

EVERY = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SHORTEST = 10
LINEARS = ["query", "key", "value", "dense"]

# `keep` says that PEFT saves embeddings beside their factors, as it does by default.
RUNS = {
    "dora-llama": {
        "base": "llama-linear",
        "lora": {
            "target_modules": [*EVERY, "lm_head"], "use_dora": True, "use_rslora": True,
            "rank_pattern": {"k_proj": 2, "layers.1.mlp.down_proj": 5}, "alpha_pattern": {"layers.0.*": 2.5},
        },
    },
    "dora-gpt2": {"base": "gpt2", "lora": {"target_modules": ["c_attn", "c_proj", "c_fc"], "use_dora": True, "bias": "all"}},
    "dora-bert": {"base": "bert", "lora": {"target_modules": LINEARS, "use_dora": True, "bias": "lora_only"}},
    "dora-embeddings": {"base": "gemma3", "lora": {"target_modules": ["embed_tokens", "down_proj", "q_proj"], "use_dora": True}},
    "embeddings-mistral": {"base": "mistral", "keep": "auto", "padding": True, "lora": {"target_modules": ["embed_tokens", "v_proj", "lm_head"]}},
    "embeddings-gpt2": {"base": "gpt2", "lora": {"target_modules": ["wte", "wpe", "c_attn"]}},
    "embeddings-bert": {
        "base": "bert", "padding": True,
        "lora": {"target_modules": ["word_embeddings", "position_embeddings", "token_type_embeddings", "query"], "use_rslora": True},
    },
    "embeddings-tied": {
        "base": "gemma3", "padding": True,
        "lora": {"target_modules": ["embed_tokens", "k_proj"], "ensure_weight_tying": True, "alpha_pattern": {"lm_head": 3}},
    },
    "biases-qwen2": {"base": "qwen2", "lora": {"target_modules": ["q_proj", "o_proj"], "bias": "lora_only"}},
    "biases-bert": {"base": "bert", "lora": {"target_modules": ["value", "intermediate.dense"], "bias": "all"}},
    "bias-deltas-qwen2": {"base": "qwen2", "lora": {"target_modules": ["k_proj", "up_proj"], "lora_bias": True}},
    "bias-deltas-gpt2": {"base": "gpt2", "lora": {"target_modules": ["c_attn", "c_fc"], "lora_bias": True, "bias": "all"}},
    "saved-llama": {
        "base": "llama-linear", "padding": True,
        "lora": {
            "target_modules": ["q_proj", "up_proj"], "layers_to_transform": [1], "layers_pattern": "layers",
            "modules_to_save": ["embed_tokens", "lm_head", "model.norm", "layers.0.mlp.down_proj", "layers.1.input_layernorm"],
        },
    },
    "saved-tied": {
        "base": "qwen2", "padding": True,
        "lora": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    },
    "saved-apart": {"base": "qwen2", "lora": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}},
}  # fmt: skip


def plain(name):
    """The name of a trained parameter in PEFT's files, without the wrapper's prefix."""
    name = name.removeprefix("base_model.model.").replace(".modules_to_save.default.", ".")
    return name.replace(".lora_magnitude_vector.default.weight", ".lora_magnitude_vector").replace(".default", "").replace(".base_layer.", ".")


def batches_of(spec, run, torch):
    """Batches of encoders.py, of a causal model without texts so short that a padded row's window has no token: float64 makes NaN of it."""
    data = make_batches(spec, run, torch)
    ids = data["ids"]
    if run["task"] == "lm":
        start = ids[..., :SHORTEST]
        start.copy_(torch.where(start < 0, torch.randint(4, 47, start.shape), start))
        data["lens"].clamp_(min=SHORTEST)
    if run.get("padding"):  # the padding token inside a text
        ids[:, 0, 2] = spec["config"]["pad_token_id"]
    if run["task"] == "lm":
        data["labels"][..., :-1] = torch.where(ids[..., 1:] >= 0, ids[..., 1:], -100)
    return data


def tied_ends(model, run):
    """The head's factors with the embedding's that they are the transposes of."""
    if not run["lora"].get("ensure_weight_tying") or "embed_tokens" not in run["lora"]["target_modules"]:
        return []
    low, head = model.get_input_embeddings(), model.get_output_embeddings()
    return [(head.lora_A["default"].weight, low.lora_embedding_B["default"]), (head.lora_B["default"].weight, low.lora_embedding_A["default"])]


def copy_ends(ends, torch):
    with torch.no_grad():
        for head, low in ends:
            head.copy_(low.T)


def loss_of(model, batch, spec, run, torch):
    y = outputs_of(model, batch, spec, run, torch)
    return torch.nn.functional.cross_entropy(y.flatten(0, -2), batch["labels"].flatten(), ignore_index=-100)


def write_run(models, out, run, torch):
    import transformers
    from peft import LoraConfig, PeftModel, get_peft_model

    base = models / run["base"]
    config = json.loads((base / "config.json").read_text())
    kind = config["architectures"][0]
    classes = "SequenceClassification" in kind
    run = {**run, "task": "classes" if classes else "lm"}
    spec = {"class": kind, "config": {**config, "num_labels": len(config.get("id2label", ()))}}

    def load():
        return getattr(transformers, kind).from_pretrained(base, dtype=torch.float64, attn_implementation="eager").eval()

    options = {"r": 3, "lora_alpha": 5, "fan_in_fan_out": kind.startswith("GPT2"), **run["lora"]}
    if classes:
        options["exclude_modules"] = r".*(classifier|pooler).*"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(load(), LoraConfig(task_type="SEQ_CLS" if classes else "CAUSAL_LM", **options)).eval()
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if not p.requires_grad:
                continue
            if "magnitude" in name:
                p.mul_(1 + 0.3 * torch.randn(p.shape))
            elif "lora_" in name and not name.endswith("base_layer.bias"):
                p.copy_(0.3 * torch.randn(p.shape))
            else:
                p.add_(0.3 * torch.randn(p.shape))
    copy_ends(tied_ends(model, run), torch)
    keep = run.get("keep", False)
    save_adapter(model.float(), out / "init", save_embedding_layers=keep)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PeftModel.from_pretrained(load(), out / "init", is_trainable=True).double().eval()

    data = batches_of(spec, run, torch)
    batches = [{k: v[i] for k, v in data.items()} for i in range(BATCHES)]
    golden = dict(data)
    with torch.no_grad():
        golden["adapter"] = outputs_of(model, batches[0], spec, run, torch)
        golden["base"] = outputs_of(load(), batches[0], spec, run, torch)
        moved = (golden["adapter"] - golden["base"]).abs().max() / golden["base"].std()
        check(moved > 0.1, out, "the adapter moves the outputs by", moved, "only")
    ends = tied_ends(model, run)
    shared = {id(head) for head, _ in ends}
    params = [(plain(n), p) for n, p in model.named_parameters() if p.requires_grad and "original_module" not in n and id(p) not in shared]
    optimizer = torch.optim.AdamW(
        [p for _, p in params], lr=HYPER["lr"], betas=HYPER["betas"], eps=HYPER["eps"], weight_decay=HYPER["weight_decay"]
    )
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(model, batches[step % BATCHES], spec, run, torch)
        loss.backward()
        for head, low in ends:
            low.grad += head.grad.T
            head.grad = None
        if step == 0:
            for name, p in params:
                check("grad." + name not in golden, "two parameters are called", name)
                golden["grad." + name] = p.grad
        optimizer.step()
        copy_ends(ends, torch)
        losses.append(loss.item())
    for name, p in params:
        golden["trained." + name] = p.data
    golden = {k: v.float() if v.is_floating_point() else v.to(torch.int64) for k, v in golden.items()}
    save_tensors(out / "golden.safetensors", golden)
    save_json(out / "run.json", {"base": run["base"], "task": run["task"], **HYPER, "loss": losses})
    print(out, [round(x, 4) for x in losses[:: STEPS - 1]])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", help="one run")
    args = parser.parse_args()
    torch = begin(args.seed)
    for number, (name, run) in enumerate(RUNS.items()):
        if args.only not in (None, name):
            continue
        torch.manual_seed(args.seed * 1000 + number)
        out = args.out / name
        if out.exists():
            shutil.rmtree(out)
        write_run(args.models, out, run, torch)


if __name__ == "__main__":
    main()
