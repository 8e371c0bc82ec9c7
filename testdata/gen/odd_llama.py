"""Makes a second tiny LlamaForCausalLM in which everything is unlike the usual, and PEFT's numbers for it.

    python odd_llama.py --seed 1 --out testdata/odd-llama

OUT/ is the model: BF16, hidden 60, 5 heads of 14 on 1 key-value head, intermediate 101, vocabulary 203, 3 layers, biases on
q, k, v and o, tied head, rope theta 5e5, an uncommon norm epsilon, two shards whose names lack `model.`, and the config as transformers 5
writes it (`rope_parameters`, `dtype`). The script asserts that the logits move by more than 1e-2 when any of that is switched off, and that
AutoModelForCausalLM loads the directory with nothing missing.

OUT/reference/NAME/, computed by PEFT and PyTorch in float32 on the BF16 weights:
  init/, trained/             the adapter before and after 10 AdamW steps, as PEFT saves it
  inputs.safetensors          `batches` [step, batch, tokens+1], `logit_ids`; where a reference has ignored labels also
                              `labels` [step, batch, tokens], -100 where a position does not count
  train.json                  loss per step, every hyper-parameter, rank and scaling per module, and how far
                              float32 is from float64 (`float64_gap`)
  grads_step3.safetensors     gradients before the update of step 3 (0-based)
  logits.safetensors          of the base, with the trained adapter, and merged
  merged_targets.safetensors  PEFT's merge_and_unload on the BF16 model, under the names of the base's files;
                              asserted to be bf16(W + Δ), Δ in float32, rounded once

OUT/mlp-bias/ is the opposite variant: F32, untied, biases on gate, up and down but not on attention, one file whose names have
`model.`, `rope_theta` at the top of the config; with logits only (OUT/mlp-bias/reference/logits.safetensors).

The same seed gives the same bits on one machine; other CPUs may differ in the last bits of what was trained.
"""

import argparse
import json
import math
import shutil
from pathlib import Path

from common import begin, check, save_adapter, save_json, save_tensors

STEPS = 10
MOVES = 1e-2  # what an option must be worth in the logits

REFERENCES = {
    "mixed-r5": {
        # Overlapping keys: the first that matches wins, and the order is already the sorted one that PEFT saves.
        "lora": {
            "r": 5,
            "lora_alpha": 12.5,
            "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            "rank_pattern": {
                "layers\\.1\\.mlp\\..*": 4,
                "mlp\\.(down|up)_proj": 7,
                "self_attn\\.[kq]_proj": 3,
            },
            "alpha_pattern": {
                "(q|k)_proj": 7,
                "^model\\.layers\\.2\\..*": 9.25,
                "down_proj": 20,
            },
        },
        "lr": 4e-3,
        "batch": 2,
        "tokens": 33,
        "ignored": False,
    },
    "regex-r3-rslora": {
        "lora": {
            "r": 3,
            "lora_alpha": 2,
            "target_modules": r"model\.layers\.(0|2)\.(self_attn\.(q|o)_proj|mlp\.up_proj)",
            "use_rslora": True,
            "init_lora_weights": False,  # B starts nonzero
        },
        "lr": 2e-3,
        "batch": 3,
        "tokens": 17,
        "ignored": True,
    },
}


def odd_config(**changes):
    from transformers import LlamaConfig

    values = {
        "vocab_size": 203,
        "hidden_size": 60,
        "intermediate_size": 101,
        "num_hidden_layers": 3,
        "num_attention_heads": 5,
        "num_key_value_heads": 1,
        "head_dim": 14,
        "max_position_embeddings": 96,
        "rms_norm_eps": 7e-4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
        "attention_bias": True,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "pad_token_id": 1,
        "dtype": "bfloat16",
        "architectures": ["LlamaForCausalLM"],
    }
    return LlamaConfig(**{**values, **changes})


def randomize(model, torch):
    """Weights at which every option matters: no bias at 0, no norm at 1, small embeddings so that the epsilon shows."""
    generator = torch.Generator().manual_seed(torch.initial_seed())
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            noise = torch.randn(p.shape, generator=generator)
            if "norm" in name:
                p.copy_(1.3 + 0.35 * noise if name != "model.norm.weight" else 4 + noise)
            elif name.endswith(".bias"):
                p.copy_(0.4 * noise)
            elif "embed_tokens" in name:
                p.copy_(0.06 * noise)
            elif "q_proj" in name or "k_proj" in name:
                p.copy_(0.2 * noise)
            else:
                p.copy_(0.12 * noise)


def logits_of(model, ids, torch):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


def assert_options_matter(directory, ids, torch):
    """Loads the model with one option after the other switched off; each must be seen in the logits."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    def load(**changes):
        config = LlamaConfig.from_pretrained(directory)
        for key, value in changes.items():
            setattr(config, key, value)
        return AutoModelForCausalLM.from_pretrained(
            directory, config=config, dtype=torch.float32, attn_implementation="eager"
        )

    base = logits_of(load(), ids, torch)
    moved = {}

    def record(what, model):
        moved[what] = (logits_of(model, ids, torch) - base).abs().max().item()

    config = json.loads((directory / "config.json").read_text())
    for eps in (1e-5, 1e-6):
        record(f"rms_norm_eps {eps}", load(rms_norm_eps=eps))
    record("rope theta 1e4", load(rope_parameters={"rope_type": "default", "rope_theta": 1e4}))

    names = [n for n, _ in load().named_parameters()]
    kinds = sorted({n.split(".")[-2] for n in names if n.endswith(".bias")})
    wanted = ["k_proj", "o_proj", "q_proj", "v_proj"] if config["attention_bias"] else ["down_proj", "gate_proj", "up_proj"]
    check(kinds == wanted, "biases are on", kinds)
    for kind in kinds:
        model = load()
        with torch.no_grad():
            for n, p in model.named_parameters():
                if n.endswith(f"{kind}.bias"):
                    p.zero_()
        record(f"{kind} bias", model)
    for kind in ("input_layernorm.weight", "post_attention_layernorm.weight", "model.norm.weight"):
        model = load()
        with torch.no_grad():
            for n, p in model.named_parameters():
                if n.endswith(kind):
                    p.fill_(1)
        record(kind, model)
    model = load()
    for layer in model.model.layers:
        layer.self_attn.scaling = (config["hidden_size"] / config["num_attention_heads"]) ** -0.5
    record("head_dim in the attention scale", model)
    if config["tie_word_embeddings"]:
        model = load()
        check(model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr(), "the head is not tied")

    for what, amount in moved.items():
        check(amount > MOVES, what, "moves the logits by", amount, "only")
    print("moved by", {k: round(v, 3) for k, v in moved.items()})


def write_model(out, torch):
    """The model directory: config as transformers 5 writes it, two shards, an index, no `model.` in the names."""
    from transformers import AutoModelForCausalLM, LlamaForCausalLM

    config = odd_config()
    model = LlamaForCausalLM(config)
    randomize(model, torch)
    model.to(torch.bfloat16)
    config.save_pretrained(out)

    tensors = {}
    for name, value in model.state_dict().items():
        if name != "lm_head.weight":
            check(name.startswith("model."), "unexpected name", name)
            tensors[name.removeprefix("model.")] = value
    # The cut lies inside layer 1, so that a layer is spread over both files.
    names = sorted(tensors)
    first = [n for n in names if n == "embed_tokens.weight" or n.startswith(("layers.0.", "layers.1.mlp."))]
    shards = {
        "model-00001-of-00002.safetensors": first,
        "model-00002-of-00002.safetensors": [n for n in names if n not in first],
    }
    for file, members in shards.items():
        save_tensors(out / file, {n: tensors[n] for n in members})
    index = {
        "metadata": {
            "total_parameters": sum(t.numel() for t in tensors.values()),
            "total_size": sum(t.numel() * t.element_size() for t in tensors.values()),
        },
        "weight_map": {n: file for file, members in shards.items() for n in members},
    }
    index["weight_map"] = dict(sorted(index["weight_map"].items()))
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")

    loaded, info = AutoModelForCausalLM.from_pretrained(out, dtype=torch.bfloat16, output_loading_info=True)
    for key, value in info.items():
        check(not value, "loading reports", key, value)
    for name, value in loaded.state_dict().items():
        check(torch.equal(value, model.state_dict()[name]), name, "did not come back")


def write_variant(out, torch):
    """The small opposite: mlp_bias, untied, F32, one file with `model.`, rope_theta as transformers 4 wrote it."""
    from transformers import AutoModelForCausalLM, LlamaForCausalLM

    config = odd_config(
        vocab_size=67,
        hidden_size=44,
        intermediate_size=57,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=10,
        attention_bias=False,
        mlp_bias=True,
        tie_word_embeddings=False,
        rms_norm_eps=3e-4,
        rope_parameters={"rope_type": "default", "rope_theta": 31000.0},
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    randomize(model, torch)
    save_tensors(out / "model.safetensors", model.state_dict())
    config.save_pretrained(out)
    text = json.loads((out / "config.json").read_text())
    text["rope_theta"] = text.pop("rope_parameters")["rope_theta"]
    text["rope_scaling"] = None
    text["torch_dtype"] = text.pop("dtype")
    (out / "config.json").write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")

    loaded, info = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, output_loading_info=True)
    for key, value in info.items():
        check(not value, "loading reports", key, value)
    ids = torch.randint(4, config.vocab_size, (2, 19))
    assert_options_matter(out, ids, torch)
    save_tensors(out / "reference" / "inputs.safetensors", {"logit_ids": ids})
    save_tensors(out / "reference" / "logits.safetensors", {"base": logits_of(loaded, ids, torch)})


def make_inputs(spec, vocab, torch):
    """Batches and, where the reference has them, labels with right padding, a masked prompt and a row that does not count."""
    batch, tokens = spec["batch"], spec["tokens"]
    # A sticky walk over the vocabulary, so that there is something to learn.
    step = torch.randint(0, 7, (STEPS, batch, tokens + 1))
    batches = 4 + (torch.randint(0, vocab, (STEPS, batch, 1)) + step.cumsum(-1)) % (vocab - 4)
    inputs = {"batches": batches, "logit_ids": torch.randint(4, vocab, (1, 37))}
    if not spec["ignored"]:
        return inputs
    labels = batches[:, :, 1:].clone()
    for row, length in enumerate((17, 9, 4)):  # right padding
        batches[2, row, length + 1 :] = 1
        labels[2, row, length:] = -100
    batches[7, 1, 6:] = 1
    labels[7, 1, 5:] = -100
    labels[3, :, :6] = -100  # prompts, in the step whose gradients are kept
    labels[5, 2, :] = -100  # a whole row
    labels[6, 0, 3] = labels[6, 0, 11] = -100  # holes
    inputs["labels"] = labels
    return inputs


def train(model, inputs, lr, torch):
    """The loop of every reference. Returns the losses and the gradients before the update of step 3."""
    factors = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    check(all(".lora_" in n for n, _ in factors), "more is trained than factors")
    optimizer = torch.optim.AdamW([p for _, p in factors], lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    batches = inputs["batches"]
    labels = inputs.get("labels", batches[:, :, 1:])
    losses, grads = [], {}
    model.train()
    for step in range(STEPS):
        logits = model(input_ids=batches[step, :, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[step].flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        if step == 3:
            grads = {n.replace(".default.", "."): p.grad.clone() for n, p in factors}
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses, grads


def lora_layers(model):
    from peft.tuners.lora import LoraLayer

    return {n.removeprefix("base_model.model."): m for n, m in model.named_modules() if isinstance(m, LoraLayer)}


def relative(got, want):
    """The worst relative Frobenius distance over a dict of tensors."""
    return max(((got[k].double() - want[k]).norm() / want[k].norm()).item() for k in want)


def write_reference(out, base, name, spec, torch):
    from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
    from transformers import AutoModelForCausalLM

    def load(dtype):
        model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, attn_implementation="eager")
        model.name_or_path = "odd-llama"  # what PEFT writes as base_model_name_or_path
        model.config._name_or_path = "odd-llama"
        return model

    f32, f64 = torch.float32, torch.float64
    config = {"task_type": "CAUSAL_LM", **spec["lora"]}
    model = get_peft_model(load(f32), LoraConfig(**config))
    save_adapter(model, out / "init", save_embedding_layers=False)

    inputs = make_inputs(spec, base_vocab := model.config.vocab_size, torch)
    check(inputs["batches"].max() < base_vocab, "an id is too large")
    save_tensors(out / "inputs.safetensors", inputs)
    ids = inputs["logit_ids"]
    base_logits = logits_of(load(f32), ids, torch)
    losses, grads = train(model, inputs, spec["lr"], torch)
    save_adapter(model, out / "trained", save_embedding_layers=False)
    save_tensors(out / "grads_step3.safetensors", grads)
    check(set(grads) == set(get_peft_model_state_dict(model, save_embedding_layers=False)), "gradients and factors differ in names")
    for key, grad in grads.items():
        check(grad.abs().max() > 1e-6, "no gradient in", key)

    # The saved adapter read back must be the trained one (pattern order after saving) and is what the rest uses.
    layers = lora_layers(model)
    reloaded = PeftModel.from_pretrained(load(f32), out / "trained")
    for module, layer in lora_layers(reloaded).items():
        check(layer.r == layers[module].r and layer.scaling == layers[module].scaling, "patterns changed on saving", module)
    adapter_logits = logits_of(reloaded, ids, torch)
    check(torch.equal(adapter_logits, logits_of(model, ids, torch)), "the reloaded adapter computes something else")

    merged = PeftModel.from_pretrained(load(torch.bfloat16), out / "trained").merge_and_unload()
    before = load(torch.bfloat16).state_dict()
    targets, after = {}, merged.state_dict()
    for key, value in after.items():
        module = key.removesuffix(".weight")
        if module in layers:
            delta = layers[module].get_delta_weight("default").detach()
            check(delta.dtype == f32, "delta is", delta.dtype)
            check(torch.equal(value, (before[key].float() + delta).to(torch.bfloat16)), key, "is not rounded once")
            check(not torch.equal(value, before[key]), key, "did not change")
            targets[key.removeprefix("model.")] = value
        else:
            check(torch.equal(value, before[key]), key, "changed")
    check(len(targets) == len(layers), "targets are missing")
    save_tensors(out / "merged_targets.safetensors", targets)
    logits = {"base": base_logits, "adapter": adapter_logits, "merged": logits_of(merged.float(), ids, torch)}
    save_tensors(out / "logits.safetensors", logits)
    check((logits["adapter"] - logits["base"]).abs().max() > 0.1, "the adapter hardly matters")

    if "labels" in inputs:
        assert_padding_is_causal(load(f32), inputs, torch)

    # The same in float64, to know what the numbers are worth.
    exact = get_peft_model(load(f64), LoraConfig(**config))
    start = PeftModel.from_pretrained(load(f64), out / "init", is_trainable=True)
    exact.load_state_dict(start.state_dict())
    exact.double()
    losses64, grads64 = train(exact, inputs, spec["lr"], torch)
    gap = {
        "loss": max(abs(a - b) for a, b in zip(losses, losses64)),
        "gradient": relative(grads, grads64),
        "factor": relative(
            get_peft_model_state_dict(model, save_embedding_layers=False),
            get_peft_model_state_dict(exact, save_embedding_layers=False),
        ),
        "logits": (adapter_logits.double() - logits_of(exact, ids, torch)).abs().max().item(),
    }

    lora = spec["lora"]
    save_json(
        out / "train.json",
        {
            "loss": losses,
            "steps": STEPS,
            "batch": spec["batch"],
            "tokens": spec["tokens"],
            "lr": spec["lr"],
            "weight_decay": 0.01,
            "betas": [0.9, 0.999],
            "eps": 1e-8,
            "schedule": "constant",
            "clipping": None,
            "scaling": lora["lora_alpha"] / (math.sqrt(lora["r"]) if lora.get("use_rslora") else lora["r"]),
            "rank": lora["r"],
            "alpha": lora["lora_alpha"],
            "rslora": lora.get("use_rslora", False),
            "targets": lora["target_modules"],
            "modules": {
                n: {"r": m.r["default"], "alpha": m.lora_alpha["default"], "scaling": m.scaling["default"]}
                for n, m in layers.items()
            },
            "float64_gap": gap,
            "note": "batches[t] is (batch, tokens+1): inputs are [:, :-1], "
            + (
                "labels are in `labels`, -100 does not count; loss is the mean over the labels that count in the whole batch; "
                "no attention mask is given (the padding is on the right)"
                if "labels" in inputs
                else "labels [:, 1:]; loss is the mean over all tokens"
            )
            + "; grads_step3 are dloss/dfactor before the update of step 3 (0-based); `scaling`, `rank` and `alpha` are"
            " those without patterns, `modules` has each module's own; float64_gap is the distance to the same in float64:"
            " worst absolute (loss, logits) and worst relative Frobenius (gradient, factor)",
        },
    )
    print(name, "losses", [round(x, 4) for x in losses], "gap", gap)


def assert_padding_is_causal(model, inputs, torch):
    """With padding on the right an attention mask changes nothing where labels count."""
    ids, labels = inputs["batches"][2, :, :-1], inputs["labels"][2]
    with torch.no_grad():
        plain = model(input_ids=ids, use_cache=False).logits
        masked = model(input_ids=ids, attention_mask=(ids != 1).long(), use_cache=False).logits
    counted = labels != -100
    check((plain - masked)[counted].abs().max() < 1e-5, "the padding is seen")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch = begin(args.seed)

    if args.out.exists():
        shutil.rmtree(args.out)
    args.out.mkdir(parents=True)
    write_model(args.out, torch)
    assert_options_matter(args.out, torch.randint(4, 203, (2, 40)), torch)
    write_variant(args.out / "mlp-bias", torch)
    for number, (name, spec) in enumerate(REFERENCES.items()):
        torch.manual_seed(args.seed * 1000 + number)
        write_reference(args.out / "reference" / name, args.out, name, spec, torch)


if __name__ == "__main__":
    main()
