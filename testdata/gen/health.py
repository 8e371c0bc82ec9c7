"""Makes PEFT adapters in all states of health, and what numpy says about their numbers.

    python health.py --seed 1 --out testdata/health

OUT/base.safetensors    eight linear layers, an embedding, a convolution, a head and a norm
OUT/fresh/              a LoRA adapter that was never trained, with the head saved whole
OUT/random/             one whose factors are all drawn (init_lora_weights=False), never trained
OUT/dora/               a DoRA adapter that was never trained
OUT/ill/                an adapter with something wrong in nearly every layer; the norm is saved whole and unchanged, the head is
                        saved and changed
OUT/half/               an adapter in F16, of which one factor has large numbers; OUT/brain/ one in BF16 with a fast decay
OUT/orthogonal/         one with init_lora_weights="orthogonal" that was never trained: B·A is nothing but rounding; in F32, and in
                        BF16 in OUT/orthogonal-bf16
OUT/golden.json         for each adapter and module the singular values of ΔW and what follows from them, and for the layers
                        of base and of ../tiny-bert the same of the weights: numpy.linalg.svd in float64

The same seed gives the same bits on one machine.
"""

import argparse
import json
from pathlib import Path

from common import begin, save_adapter, save_json, save_tensors

torch = begin(0)  # main seeds again

import numpy as np  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import nn  # noqa: E402

LAYERS = 8


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(24, 18)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(31, 24)
        self.h = nn.ModuleList(Block() for _ in range(LAYERS))
        self.conv = nn.Conv2d(5, 6, (3, 2))
        self.norm = nn.LayerNorm(18)
        self.head = nn.Linear(18, 7)

    def forward(self, x):
        return x


def describe(matrix, energy):
    s = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    p = s[s > s[0] * 1e-15] / s.sum() if s[0] > 0 else np.ones(0)
    total = np.square(s).sum()
    kept = np.cumsum(np.square(s)) / total if total else np.ones(len(s))
    out = {"norm": float(np.sqrt(total)), "spectrum": s.tolist(), "effective_rank": float(np.exp(-(p * np.log(p)).sum())) if total else 0.0,
           "stable_rank": float(total / s[0] ** 2) if total else 0.0}
    for e in energy:
        out[f"rank_{e:g}"] = int(np.searchsorted(kept, e * (1 - 1e-14)) + 1)
    return out


def golden(path, base):
    tensors = load_file(path / "adapter_model.safetensors")
    config = json.loads((path / "adapter_config.json").read_text())
    out = {}
    for key in tensors:
        for a, b in ((".lora_A.weight", ".lora_B.weight"), (".lora_embedding_A", ".lora_embedding_B")):
            if not key.endswith(a):
                continue
            module = key.removeprefix("base_model.model.").removesuffix(a)
            A, B = (tensors[k].double().flatten(1).numpy() for k in (key, key.removesuffix(a) + b))
            if not (np.isfinite(A).all() and np.isfinite(B).all()):
                out[module] = None
                continue
            out[module] = describe(config["lora_alpha"] / config["r"] * B @ A, [0.5, 0.9, 0.99])
            out[module]["dead"] = int(((A == 0).all(1) | (B == 0).all(0)).sum())
            out[module]["base_norm"] = float(np.linalg.norm(base[module + ".weight"].double().numpy()))
    return out


def change(path, do):
    """Rewrites the factors that PEFT saved."""
    file = path / "adapter_model.safetensors"
    tensors = load_file(file)
    out = do({k.removeprefix("base_model.model."): v.clone() for k, v in tensors.items()})
    save_file({"base_model.model." + k: v.contiguous() for k, v in out.items()}, file, metadata={"format": "pt"})


def trained(t):
    """Factors as some training might leave them."""
    for k in t:
        if "lora_" in k:
            t[k] = 0.03 * torch.randn(t[k].shape)
    return t


def ill(t):
    t = trained(t)
    A = [f"h.{i}.fc.lora_A.weight" for i in range(LAYERS)]
    B = [f"h.{i}.fc.lora_B.weight" for i in range(LAYERS)]
    t[A[0]][2, 5] = float("nan")
    t[B[0]][7, 1] = float("inf")
    t[B[0]][9, 0] = -float("inf")
    t[B[0]][9, 3] = float("nan")
    t[A[1]][1] = 0
    t[B[1]][:, 3] = -0.0
    t[B[2]][:, 2] = t[B[2]][:, 0]
    t[B[2]][:, 3] = -t[B[2]][:, 1]
    t[B[3]] *= 50
    t[B[4]][:, 1:] *= 0.02
    t[B[5]] *= 0
    t["head.weight"] += 0.1
    return t


def half(t):
    t = trained(t)
    t["h.0.fc.lora_A.weight"] *= 40000 / t["h.0.fc.lora_A.weight"].abs().max()
    return {k: v.half() for k, v in t.items()}


def brain(t):
    t = trained(t)
    for k in t:
        if k.endswith("lora_B.weight"):
            t[k][:, 2:] *= 1e-4
    return {k: v.bfloat16() for k, v in t.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    base = Small().state_dict()
    save_tensors(args.out / "base.safetensors", base)
    result = {"adapters": {}, "weights": {}}
    for name, options, do in (
        ("fresh", {"r": 4, "lora_alpha": 6, "target_modules": ["fc", "embed", "conv"], "modules_to_save": ["head"]}, None),
        ("random", {"r": 8, "lora_alpha": 6, "target_modules": ["fc"], "init_lora_weights": False}, None),
        ("dora", {"r": 4, "lora_alpha": 6, "target_modules": ["fc", "conv"], "use_dora": True}, None),
        ("ill", {"r": 4, "lora_alpha": 7, "target_modules": ["fc", "embed"], "modules_to_save": ["head", "norm"]}, ill),
        ("half", {"r": 4, "lora_alpha": 7, "target_modules": ["fc"]}, half),
        ("brain", {"r": 4, "lora_alpha": 7, "target_modules": ["fc"]}, brain),
    ):
        model = Small()
        model.load_state_dict(base)
        model = get_peft_model(model, LoraConfig(**options))
        path = args.out / name
        save_adapter(model, path, save_embedding_layers=False)
        if do:
            change(path, do)
        result["adapters"][name] = golden(path, base)
    bert = load_file(Path(__file__).parents[1] / "tiny-bert" / "model.safetensors")
    for name, tensors, keep in (("base.safetensors", base, ("fc.weight", "conv.weight", "head.weight")), ("../tiny-bert", bert, ("layer.1.output.dense.weight", "layer.2.attention.self.key.weight"))):
        result["weights"][name] = {}
        for key, v in tensors.items():
            if key.endswith(keep):
                module = key.removesuffix(".weight")
                result["weights"][name][module] = describe(v.flatten(1).double().numpy(), [0.5, 0.9, 0.99])
                del result["weights"][name][module]["spectrum"]
    save_json(args.out / "golden.json", result)

    # No golden numbers: what rounding leaves of zero is another for each who computes it.
    for name, dtype in (("orthogonal", torch.float32), ("orthogonal-bf16", torch.bfloat16)):
        model = Small()
        model.load_state_dict(base)
        model = get_peft_model(model.to(dtype), LoraConfig(r=6, lora_alpha=7, target_modules=["fc"], init_lora_weights="orthogonal"), autocast_adapter_dtype=False)
        save_adapter(model, args.out / name)


if __name__ == "__main__":
    main()
