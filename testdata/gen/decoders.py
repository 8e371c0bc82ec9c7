"""Makes a tiny random model of every decoder family and option, and what transformers and PEFT compute with it.

    python decoders.py --seed 1 --out testdata/models

OUT/inputs.safetensors, for all models:
  long_ids [1, 75], short_ids [1, 12]   for logits: longer than every window and original length, and shorter
  batches [5, 2, 41]                    step t trains on batches[t % 5]: inputs are [:, :-1], labels [:, 1:]

OUT/frequencies.json has the frequencies and the scale of rotary embeddings by transformers for heads of published sizes, each with a
config, and for how many tokens. Nothing random is in it.

OUT/NAME/ is a model directory as save_pretrained writes it (BF16, real names), its config in the form of transformers 5
or, where the list below says so, as older versions wrote it. Weights are N(0, 0.1); norms and biases are far from 1 and 0.
  adapter/                 by PEFT: all-linear, rank 3, alpha 7, B nonzero
  reference.safetensors    `base` and `adapter`, logits of long_ids; `short`, of short_ids with the adapter; `loss` of 20
                           AdamW steps (lr 4e-3, weight decay 0.01) from the adapter; `grad.NAME`, the factors' gradients
                           before the first step

All is computed in float64 with eager attention; what transformers itself does in float32 (angles, norms of Gemma, the softmax)
stays float32. In every model each option moves the logits: with the option changed as listed under `matters`, transformers gives
logits that differ by more than 2 % of their rms. Weights with which that is not so are drawn again.
"""

import argparse
import copy
import json
import shutil
from pathlib import Path

from common import begin, check, save_adapter, save_json, save_tensors

STEPS = 20
VOCABULARY = 53
MATTERS = 0.02

SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 10,
    "max_position_embeddings": 96,
    "rms_norm_eps": 1e-3,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
ROPE = {**SMALL, "num_attention_heads": 2, "head_dim": 16}


def rope(kind, **options):
    return {"rope_type": kind, "rope_theta": 50.0, **options}


def old_rope(config):
    """rope_theta at the top and rope_scaling with `type`, as transformers 4 wrote them."""
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    kind = parameters.pop("rope_type")
    config["rope_scaling"] = {"type": kind, **parameters} if kind != "default" else None
    config["torch_dtype"] = config.pop("dtype")


def old_layers(config):
    old_rope(config)
    config.pop("layer_types")


def old_gemma3(config):
    """One pattern number and two bases, as transformers 4 wrote them."""
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters["full_attention"].pop("rope_theta")
    config["rope_local_base_freq"] = parameters["sliding_attention"]["rope_theta"]
    config["rope_scaling"] = parameters["full_attention"]
    config["sliding_window_pattern"] = 2
    config.pop("layer_types")
    config.pop("_sliding_window_pattern", None)
    config["torch_dtype"] = config.pop("dtype")


def old_phi3(config):
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters["rope_theta"]
    config["partial_rotary_factor"] = parameters["partial_rotary_factor"]
    config["rope_scaling"] = {"type": "longrope", "short_factor": parameters["short_factor"], "long_factor": parameters["long_factor"]}
    config["torch_dtype"] = config.pop("dtype")


BIG = {"vocab_size": 9, "hidden_size": 4096, "intermediate_size": 9, "num_hidden_layers": 1, "num_attention_heads": 32, "num_key_value_heads": 8, "pad_token_id": 0}
FREQUENCIES = {
    "default": ("llama", 9, {**BIG, "max_position_embeddings": 8192, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
    "linear": ("llama", 9, {**BIG, "max_position_embeddings": 4096, "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}),
    "dynamic": ("llama", 6001, {**BIG, "max_position_embeddings": 4096, "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}),
    "llama3": (
        "llama",
        9,
        {
            **BIG,
            "max_position_embeddings": 131072,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
    ),
    "yarn": (
        "qwen2",
        9,
        {
            **BIG,
            "max_position_embeddings": 131072,
            "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 32768},
        },
    ),
    "longrope": (
        "phi3",
        5000,
        {
            **BIG,
            "hidden_size": 3072,
            "num_attention_heads": 24,
            "max_position_embeddings": 131072,
            "original_max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "partial_rotary_factor": 0.75,
                "short_factor": [1 + i / 64 for i in range(48)],
                "long_factor": [1 + i / 3 for i in range(48)],
                "original_max_position_embeddings": 4096,
            },
        },
    ),
}

PLAIN = {"rope_parameters": rope("default")}
FAST, SLOW = [1.0, 1.25, 1.5], [3.0, 7.5, 11.0]

MODELS = {
    "mistral": {
        "kind": "mistral",
        "config": {**SMALL, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 6, "sliding_window": 7, "rope_parameters": rope("default")},
        "rewrite": old_rope,
        "matters": {"window": {"sliding_window": None}, "window by one": {"sliding_window": 8}},
    },
    "qwen2": {
        "kind": "qwen2",
        "config": {
            **SMALL,
            "num_hidden_layers": 3,
            "use_sliding_window": True,
            "sliding_window": 9,
            "max_window_layers": 1,
            "tie_word_embeddings": True,
            "rope_parameters": rope("default"),
        },
        "rewrite": old_layers,
        "matters": {"window": {"use_sliding_window": False}, "first layer": {"max_window_layers": 0}, "last layer": {"max_window_layers": 2}},
    },
    "qwen3": {
        "kind": "qwen3",
        "config": {
            **SMALL,
            "num_hidden_layers": 3,
            "attention_bias": True,
            "use_sliding_window": True,
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": rope("default"),
        },
        "matters": {"layer types": {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}},
    },
    "llama-linear": {
        "kind": "llama",
        "config": {**ROPE, "rope_parameters": rope("linear", factor=3.5)},
        "rewrite": old_rope,
        "matters": {"scaling": PLAIN},
    },
    "llama-dynamic": {
        "kind": "llama",
        "config": {**ROPE, "max_position_embeddings": 30, "rope_parameters": rope("dynamic", factor=2.5)},
        "rewrite": old_rope,
        "matters": {"scaling": PLAIN, "length": {"max_position_embeddings": 60}},
    },
    "llama-llama3": {
        "kind": "llama",
        "config": {
            **ROPE,
            "rope_parameters": rope("llama3", factor=8.0, low_freq_factor=0.5, high_freq_factor=2.0, original_max_position_embeddings=16),
        },
        "matters": {
            "scaling": PLAIN,
            "low": {"rope_parameters": rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=2.0, original_max_position_embeddings=16)},
            "high": {"rope_parameters": rope("llama3", factor=8.0, low_freq_factor=0.5, high_freq_factor=4.0, original_max_position_embeddings=16)},
            "original": {"rope_parameters": rope("llama3", factor=8.0, low_freq_factor=0.5, high_freq_factor=2.0, original_max_position_embeddings=32)},
        },
    },
    "llama-yarn": {
        "kind": "llama",
        "config": {**ROPE, "rope_parameters": rope("yarn", factor=5.0, original_max_position_embeddings=16)},
        "rewrite": old_rope,
        "matters": {"scaling": PLAIN, "attention": {"rope_parameters": rope("yarn", factor=5.0, original_max_position_embeddings=16, attention_factor=1.0)}},
    },
    "llama-yarn-mscale": {
        "kind": "llama",
        "config": {
            **ROPE,
            "rope_parameters": rope(
                "yarn", factor=5.0, original_max_position_embeddings=16, beta_fast=2.0, beta_slow=0.2, truncate=False, mscale=3.0, mscale_all_dim=0.5
            ),
        },
        "matters": {
            "truncate": {
                "rope_parameters": rope("yarn", factor=5.0, original_max_position_embeddings=16, beta_fast=2.0, beta_slow=0.2, mscale=3.0, mscale_all_dim=0.5)
            },
            "mscale": {"rope_parameters": rope("yarn", factor=5.0, original_max_position_embeddings=16, beta_fast=2.0, beta_slow=0.2, truncate=False)},
            "fast": {
                "rope_parameters": rope(
                    "yarn", factor=5.0, original_max_position_embeddings=16, beta_slow=0.2, truncate=False, mscale=3.0, mscale_all_dim=0.5
                )
            },
            "slow": {
                "rope_parameters": rope(
                    "yarn", factor=5.0, original_max_position_embeddings=16, beta_fast=2.0, truncate=False, mscale=3.0, mscale_all_dim=0.5
                )
            },
        },
    },
    "llama-yarn-attention": {
        "kind": "llama",
        "config": {**ROPE, "rope_parameters": rope("yarn", factor=5.0, original_max_position_embeddings=16, attention_factor=1.4)},
        "matters": {"attention": {"rope_parameters": rope("yarn", factor=5.0, original_max_position_embeddings=16)}},
    },
    "gemma2": {
        "kind": "gemma2",
        "config": {
            **SMALL,
            "num_hidden_layers": 3,
            "sliding_window": 7,
            "query_pre_attn_scalar": 5,
            "attn_logit_softcapping": 0.7,
            "final_logit_softcapping": 0.9,
            "tie_word_embeddings": True,
            "rope_parameters": rope("default"),
        },
        "rewrite": old_layers,
        "matters": {
            "window": {"sliding_window": 90},
            "scale": {"query_pre_attn_scalar": 10},
            "score cap": {"attn_logit_softcapping": None},
            "logit cap": {"final_logit_softcapping": None},
            "layer types": {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
            "activation": {"hidden_activation": "silu"},
        },
    },
    "gemma3": {
        "kind": "gemma3_text",
        "config": {
            **SMALL,
            "num_hidden_layers": 3,
            "sliding_window": 7,
            "query_pre_attn_scalar": 5,
            "tie_word_embeddings": True,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {"full_attention": rope("linear", factor=3.0), "sliding_attention": {"rope_type": "default", "rope_theta": 9.0}},
        },
        "matters": {
            "window": {"sliding_window": 90},
            "scale": {"query_pre_attn_scalar": 10},
            "full rope": {"rope_parameters": {"full_attention": rope("default"), "sliding_attention": {"rope_type": "default", "rope_theta": 9.0}}},
            "sliding rope": {"rope_parameters": {"full_attention": rope("linear", factor=3.0), "sliding_attention": rope("default")}},
        },
    },
    "gemma3-old": {
        "kind": "gemma3_text",
        "config": {
            **SMALL,
            "num_hidden_layers": 3,
            "sliding_window": 6,
            "query_pre_attn_scalar": 5,
            "final_logit_softcapping": 0.9,
            "attention_bias": True,
            "tie_word_embeddings": False,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {"full_attention": rope("linear", factor=3.0), "sliding_attention": {"rope_type": "default", "rope_theta": 9.0}},
        },
        "rewrite": old_gemma3,
        "matters": {"logit cap": {"final_logit_softcapping": None}},
    },
    "phi3": {
        "kind": "phi3",
        "config": {
            **{k: v for k, v in SMALL.items() if k != "head_dim"},
            "hidden_size": 30,
            "sliding_window": 7,
            "rope_parameters": rope("default", partial_rotary_factor=0.6),
        },
        "matters": {"window": {"sliding_window": None}, "part": {"rope_parameters": rope("default", partial_rotary_factor=1.0)}},
    },
    "phi3-longrope": {
        "kind": "phi3",
        "config": {
            **{k: v for k, v in SMALL.items() if k != "head_dim"},
            "hidden_size": 24,
            "original_max_position_embeddings": 16,
            "rope_parameters": rope("longrope", partial_rotary_factor=0.75, short_factor=FAST, long_factor=SLOW, original_max_position_embeddings=16),
        },
        "rewrite": old_phi3,
        "matters": {
            "scaling": {"rope_parameters": rope("default", partial_rotary_factor=0.75)},
            "long": {
                "rope_parameters": rope(
                    "longrope", partial_rotary_factor=0.75, short_factor=FAST, long_factor=FAST, original_max_position_embeddings=16
                )
            },
            "attention": {
                "rope_parameters": rope(
                    "longrope", partial_rotary_factor=0.75, short_factor=FAST, long_factor=SLOW, original_max_position_embeddings=16, attention_factor=1.0
                )
            },
        },
    },
}


def make_inputs(torch):
    """Sticky walks over the vocabulary, so that there is something to learn."""
    step = torch.randint(0, 5, (5, 2, 41))
    batches = 3 + (torch.randint(0, VOCABULARY, (5, 2, 1)) + step.cumsum(-1)) % (VOCABULARY - 3)
    return {
        "long_ids": torch.randint(3, VOCABULARY, (1, 75)),
        "short_ids": torch.randint(3, VOCABULARY, (1, 12)),
        "batches": batches,
    }


def write_frequencies(path, torch):
    from transformers import AutoConfig, AutoModel

    out = {}
    for name, (kind, tokens, options) in FREQUENCIES.items():
        config = AutoConfig.for_model(kind, **copy.deepcopy(options))
        with torch.device("meta"):
            layer = type(AutoModel.from_config(config).rotary_emb)
        rotary = layer(config)
        rotary(torch.zeros(1), torch.arange(tokens)[None])  # recomputes what depends on the length
        out[name] = {
            "config": {"model_type": kind, **options},
            "tokens": tokens,
            "frequencies": [float(f) for f in rotary.inv_freq],
            "scale": float(rotary.attention_scaling),
        }
    save_json(path, out)


def randomize(model, torch):
    centre = 0.0 if "gemma" in model.config.model_type else 1.0
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("norm.weight"):
                p.copy_(centre + 0.3 * torch.randn_like(p))
            elif name.endswith(".bias"):
                p.normal_(0, 0.3)
            else:
                p.normal_(0, 0.1)


def load(directory, torch, config=None):
    from transformers import AutoModelForCausalLM

    options = {"config": config} if config is not None else {}
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float64, attn_implementation="eager", output_loading_info=True, **options
    )
    for key, value in info.items():
        check(not value, "loading reports", key, value)
    return model.eval()


def logits_of(model, ids, torch):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits.detach()


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


def write_model(directory, name, spec, torch):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(spec["kind"], **copy.deepcopy(spec["config"]))
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    randomize(model, torch)
    model.to(torch.bfloat16).save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    if "rewrite" in spec:
        path = directory / "config.json"
        text = json.loads(path.read_text())
        before = logits_of(load(directory, torch), torch.arange(3, 45)[None], torch)
        spec["rewrite"](text)
        path.write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
        after = logits_of(load(directory, torch), torch.arange(3, 45)[None], torch)
        check(torch.equal(before, after), name, "is another model in the old form of its config")


def options_matter(directory, name, spec, ids, torch):
    """Whether each change of the config changes what the same weights compute."""
    from transformers import AutoConfig

    base = logits_of(load(directory, torch), ids, torch)
    for what, changes in spec["matters"].items():
        config = AutoConfig.for_model(spec["kind"], **copy.deepcopy({**spec["config"], **changes}))
        moved = relative(logits_of(load(directory, torch, config), ids, torch), base)
        print(f"  {what}: {moved:.3f}")
        if moved < MATTERS:
            return False
    return True


def float32_file(path, torch):
    from safetensors.torch import load_file

    save_tensors(path, {k: v.to(torch.float32) for k, v in load_file(path).items()})


def write_reference(directory, name, inputs, torch):
    from peft import LoraConfig, PeftModel, get_peft_model

    base = load(directory, torch)
    base.name_or_path = base.config._name_or_path = name
    reference = {"base": logits_of(base, inputs["long_ids"], torch)}
    model = get_peft_model(base, LoraConfig(r=3, lora_alpha=7, target_modules="all-linear", task_type="CAUSAL_LM"))
    factors = {n: p for n, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for n, p in factors.items():
            check(".lora_" in n, "more is trained than factors", n)
            p.copy_((0.1 * torch.randn(p.shape, dtype=torch.float64)).to(torch.float32))
    save_adapter(model, directory / "adapter", save_embedding_layers=False)
    float32_file(directory / "adapter" / "adapter_model.safetensors", torch)

    # What was saved must be what is computed with.
    again = PeftModel.from_pretrained(load(directory, torch), directory / "adapter").eval()
    model.eval()
    reference["adapter"] = logits_of(again, inputs["long_ids"], torch)
    check(torch.equal(reference["adapter"], logits_of(model, inputs["long_ids"], torch)), name, "the saved adapter is another one")
    check(relative(reference["adapter"], reference["base"]) > MATTERS, name, "the adapter hardly matters")
    reference["short"] = logits_of(model, inputs["short_ids"], torch)

    optimizer = torch.optim.AdamW(factors.values(), lr=4e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    model.train()
    losses = []
    for step in range(STEPS):
        ids = inputs["batches"][step % len(inputs["batches"])]
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).double(), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            for n, p in factors.items():
                check(p.grad.abs().max() > 1e-6, name, "no gradient in", n)
                reference["grad." + n.removeprefix("base_model.model.").replace(".default.", ".")] = p.grad.to(torch.float32)
        optimizer.step()
        losses.append(loss.item())
    reference["loss"] = torch.tensor(losses, dtype=torch.float64)
    for key in ("base", "adapter", "short"):
        reference[key] = reference[key].to(torch.float32)
    save_tensors(directory / "reference.safetensors", reference)
    print(f"  losses {losses[0]:.4f} … {losses[-1]:.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(MODELS))
    args = parser.parse_args()
    torch = begin(args.seed)

    inputs = make_inputs(torch)
    args.out.mkdir(parents=True, exist_ok=True)
    save_tensors(args.out / "inputs.safetensors", inputs)
    write_frequencies(args.out / "frequencies.json", torch)
    for number, (name, spec) in enumerate(MODELS.items()):
        if name not in args.only:
            continue
        print(name)
        torch.manual_seed(args.seed * 1000 + number)
        directory = args.out / name
        for _ in range(20):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            write_model(directory, name, spec, torch)
            if options_matter(directory, name, spec, inputs["long_ids"], torch):
                break
        else:
            check(False, name, "has an option that hardly matters")
        write_reference(directory, name, inputs, torch)


if __name__ == "__main__":
    main()
