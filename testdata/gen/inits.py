"""Makes what PEFT starts adapters from that are made of the base's weights, and how they train.

    python inits.py --seed 1 --models testdata/models --out testdata/init

Bases are the models of decoders.py and encoders.py, read as float32. OUT/NAME.json says which base, how PEFT was
configured, and how training went; OUT/NAME.safetensors has
  MODULE.lora_A.weight, MODULE.lora_B.weight   the factors after get_peft_model
  loss                                         of 20 AdamW steps (lr 4e-3, weight decay 0.01) on `batches` of the models' inputs
  trained                                      logits of `long_ids` after them
  converted                                    the same of the unchanged base with the adapter that PEFT converts when it saves it
                                               (path_initial_model_for_weight_conversion), where it does

Ids are taken modulo the model's vocabulary, and of a row only as many as the model has positions.

The base's part is taken out in float32, as PEFT does it; what follows is computed in float64.
OUT/orthogonal.safetensors has the factors of layers without a base, which are random.
"""

import argparse
import tempfile
import warnings
from pathlib import Path

from common import begin, check, save_json, save_tensors

STEPS = 20
CASES = {
    "pissa": ("mistral", {"r": 3, "lora_alpha": 7, "target_modules": "all-linear", "init_lora_weights": "pissa"}),
    "pissa-rslora": (
        "gpt2",
        {"r": 4, "lora_alpha": 5, "target_modules": ["c_attn", "c_proj"], "init_lora_weights": "pissa", "use_rslora": True},
    ),
    "pissa-patterns": (
        "qwen3",
        {
            "r": 3,
            "lora_alpha": 7,
            "target_modules": ["q_proj", "o_proj", "down_proj"],
            "layers_to_transform": [1],
            "rank_pattern": {"o_proj": 2},
            "alpha_pattern": {"down_proj": 4},
            "init_lora_weights": "pissa",
        },
    ),
    "olora": ("mistral", {"r": 3, "lora_alpha": 4, "target_modules": "all-linear", "init_lora_weights": "olora"}),
    "olora-patterns": (
        "phi3",
        {
            "r": 2,
            "lora_alpha": 3,
            "target_modules": ["qkv_proj", "down_proj"],
            "rank_pattern": {"qkv_proj": 5},
            "alpha_pattern": {"down_proj": 5},
            "init_lora_weights": "olora",
        },
    ),
}
ORTHOGONAL = {"tall": (6, 31, 17), "wide": (4, 9, 40)}  # rank, in, out


def load(directory, torch):
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    for key, value in info.items():
        check(not value, "loading reports", key, value)
    return model.eval()


def logits_of(model, ids, torch):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits.detach()


def fitted(ids, config):
    return ids[..., : config.max_position_embeddings] % config.vocab_size


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


def train(model, batches, torch):
    factors = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(factors, lr=4e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    losses = []
    for step in range(STEPS):
        ids = batches[step % len(batches)]
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).double(), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def write_case(out, name, base, options, inputs, models, torch):
    from peft import LoraConfig, PeftModel, get_peft_model
    from safetensors.torch import load_file

    plain = load(models / base, torch).double()
    long_ids, batches = (fitted(inputs[key], plain.config) for key in ("long_ids", "batches"))
    before = logits_of(plain, long_ids, torch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(load(models / base, torch), LoraConfig(task_type="CAUSAL_LM", **options))
    reference = {}
    for n, p in model.named_parameters():
        if p.requires_grad:
            reference[n.removeprefix("base_model.model.").replace(".default.", ".")] = p.detach().clone()
    model.double()
    started = relative(logits_of(model.eval(), long_ids, torch), before)
    check(started < 1e-5, name, "does not start at the base:", started)

    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        initial, converted = Path(directory) / "initial", Path(directory) / "converted"
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(str(initial), save_embedding_layers=False)
        model.peft_config["default"].init_lora_weights = options["init_lora_weights"]
        losses = train(model, batches, torch)
        trained = logits_of(model, long_ids, torch)
        moved = relative(trained, before)
        check(moved > 0.02, name, "hardly learns:", moved)
        reference["loss"] = torch.tensor(losses, dtype=torch.float64)
        reference["trained"] = trained.to(torch.float32)
        model.save_pretrained(str(converted), path_initial_model_for_weight_conversion=str(initial), save_embedding_layers=False)
        count = len(load_file(converted / "adapter_model.safetensors"))
        check(count == sum(".lora_" in n for n, _ in model.named_parameters() if ".default." in n), name, "converted", count)
        again = PeftModel.from_pretrained(load(models / base, torch), str(converted), autocast_adapter_dtype=False).double().eval()
        off = relative(logits_of(again, long_ids, torch), trained)
        check(off < 1e-4, name, "is another one when PEFT converts it:", off)
    save_tensors(out / f"{name}.safetensors", reference)
    save_json(out / f"{name}.json", {"base": base, "config": options})
    print(f"{name}: losses {losses[0]:.4f} … {losses[-1]:.4f}, moved {moved:.3f}, converted {off:.1e}")


def write_orthogonal(out, torch):
    from peft import LoraConfig, get_peft_model

    reference = {}
    for name, (r, features, outs) in ORTHOGONAL.items():
        layer = torch.nn.Sequential(torch.nn.Linear(features, outs, bias=False))
        model = get_peft_model(layer, LoraConfig(r=r, lora_alpha=2 * r, target_modules=["0"], init_lora_weights="orthogonal"))
        part = model.base_model.model[0]
        reference[f"{name}.lora_A.weight"] = part.lora_A["default"].weight
        reference[f"{name}.lora_B.weight"] = part.lora_B["default"].weight
    save_tensors(out / "orthogonal.safetensors", reference)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch = begin(args.seed)

    from safetensors.torch import load_file

    inputs = load_file(args.models / "inputs.safetensors")
    for name, (base, options) in CASES.items():
        write_case(args.out, name, base, options, inputs, args.models, torch)
    write_orthogonal(args.out, torch)


if __name__ == "__main__":
    main()
