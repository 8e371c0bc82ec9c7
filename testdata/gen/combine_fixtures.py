"""Makes small PEFT adapters and what PEFT's add_weighted_adapter combines them into: golden inputs for combining.

    python combine_fixtures.py --seed 1 --out testdata/combine

OUT/cases.json               every case: its adapters with their weights, and what was asked for each result: method, density,
                             majority sign, rank, and `scaling`, the scale that PEFT gives the result's factors
OUT/NAME/ADAPTER/            as PEFT's save_pretrained wrote it, random factors; those of F32 adapters in F32, which loses nothing
OUT/NAME/results.safetensors RESULT/MODULE: B·A of the combined factors without the scale, as (out, in·kernel), and for dare
                             RESULT/mask/FACTOR/PLACE/MODULE: what was kept (1) and dropped (0); FACTOR is A, B or delta, PLACE
                             the adapter's place in the list

PEFT computes in float64, so that the numbers can be compared to many digits. The same seed gives the same bits on one
machine.
"""

import argparse
import shutil
import warnings
from pathlib import Path

from common import begin, check, save_json, save_tensors

torch = begin(0)  # main seeds again
torch.set_default_dtype(torch.float64)  # also of the weights, which PEFT makes a tensor of

from peft import LoraConfig, get_peft_model  # noqa: E402
from peft.tuners.lora import LoraLayer, LoraModel  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402


class Small(nn.Module):
    """A layer of each kind. Nothing is square."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(17, 11)
        self.fc = nn.Linear(11, 13)
        self.proj = nn.Linear(13, 7)
        self.conv = nn.Conv2d(5, 6, (3, 2))
        self.point = nn.Conv2d(6, 9, 1)

    def forward(self, x):
        return x


ON_FACTORS = ["linear", "ties", "dare_linear", "dare_ties", "magnitude_prune"]
BY_SVD = ["svd", "ties_svd", "dare_linear_svd", "dare_ties_svd", "magnitude_prune_svd"]
EQUAL = {"r": 4, "target_modules": ["embed", "fc", "conv", "point"]}


def asked(methods, **options):
    return [{"method": m, **options} for m in methods]


CASES = [
    {
        "name": "equal",
        "note": "three adapters of one rank and the same targets, scales apart, a negative weight",
        "adapters": {"one": {**EQUAL, "lora_alpha": 7}, "two": {**EQUAL, "lora_alpha": 3}, "three": {**EQUAL, "lora_alpha": -5}},
        "weights": [0.7, -0.4, 1.3],
        "results": asked(["cat"] + ON_FACTORS + BY_SVD, density=0.6)
        + asked(["ties", "dare_ties", "ties_svd"], density=0.45, majority="frequency")
        + asked(["svd"], rank=6),
    },
    {
        "name": "ranks",
        "note": "ranks and targets differ",
        "adapters": {
            "one": {"r": 3, "lora_alpha": 5, "target_modules": ["embed", "fc"]},
            "two": {"r": 5, "lora_alpha": 4, "target_modules": ["fc", "proj", "conv"]},
        },
        "weights": [1.5, 0.8],
        "results": asked(["cat"] + BY_SVD, density=0.7) + asked(["svd"], rank=2),
    },
    {
        "name": "targets",
        "note": "one rank, targets differ, F64 factors",
        "dtype": "F64",
        "adapters": {
            "one": {"r": 2, "lora_alpha": 5, "target_modules": ["embed", "fc"]},
            "two": {"r": 2, "lora_alpha": 3, "target_modules": ["fc", "proj"]},
        },
        "weights": [1, -2],
        "results": asked(ON_FACTORS, density=0.5),
    },
    {
        "name": "rslora",
        "note": "the first adapter has use_rslora, which PEFT's result keeps; alpha_pattern; one target has its own rank",
        "adapters": {
            "one": {
                "r": 3,
                "lora_alpha": 2,
                "use_rslora": True,
                "alpha_pattern": {"fc": 5},
                "target_modules": ["embed", "fc", "proj"],
            },
            "two": {"r": 3, "lora_alpha": 4, "rank_pattern": {"proj": 2}, "target_modules": ["embed", "fc", "proj"]},
        },
        "weights": [0.9, 0.6],
        "results": asked(["cat", "svd", "ties_svd"], density=0.8) + asked(["svd"], rank=4),
    },
    {
        "name": "single",
        "note": "one adapter with use_rslora: PEFT takes linear, whatever was asked for",
        "adapters": {"one": {"r": 4, "lora_alpha": 6, "use_rslora": True, "target_modules": ["embed", "fc", "conv"]}},
        "weights": [0.5],
        "results": asked(["cat", "magnitude_prune", "svd"], density=0.5),
    },
]


class Masks:
    """Records what torch.bernoulli gives while PEFT combines, under the module, the factor and the adapter's place."""

    def __init__(self, model):
        self.names = {id(m): n.removeprefix("base_model.model.") for n, m in model.named_modules()}
        self.found = {}

    def __enter__(self):
        self.old = torch.bernoulli, LoraModel._generalized_task_arithmetic_weighted_adapter
        self.old_svd = LoraModel._svd_generalized_task_arithmetic_weighted_adapter

        def bernoulli(input):
            mask = self.old[0](input)
            self.calls.append(mask)
            return mask

        def places(target, adapters):
            return [i for i, a in enumerate(adapters) if a in target.lora_A or a in target.lora_embedding_A]

        def on_factors(model, method, adapters, weights, target, *rest):
            self.calls = []
            out = self.old[1](model, method, adapters, weights, target, *rest)
            keys = [(f, p) for f in "AB" for p in places(target, adapters)]
            self.keep(target, keys)
            return out

        def by_svd(model, method, adapters, weights, rank, target, *rest, **options):
            self.calls = []
            out = self.old_svd(model, method, adapters, weights, rank, target, *rest, **options)
            if target.lora_embedding_A:  # the delta of an embedding is (vocabulary, dim)
                self.calls = [m.T for m in self.calls]
            self.keep(target, [("delta", p) for p in places(target, adapters)])
            return out

        torch.bernoulli = bernoulli
        LoraModel._generalized_task_arithmetic_weighted_adapter = on_factors
        LoraModel._svd_generalized_task_arithmetic_weighted_adapter = by_svd
        return self

    def keep(self, target, keys):
        if self.calls:
            check(len(self.calls) == len(keys), "masks", len(self.calls), keys)
        for (factor, place), mask in zip(keys, self.calls):
            self.found[f"{factor}/{place}/{self.names[id(target)]}"] = mask.flatten(1).to(torch.uint8)

    def __exit__(self, *_):
        torch.bernoulli, LoraModel._generalized_task_arithmetic_weighted_adapter = self.old
        LoraModel._svd_generalized_task_arithmetic_weighted_adapter = self.old_svd


def build(case, out):
    names = list(case["adapters"])
    configs = {n: LoraConfig(**c) for n, c in case["adapters"].items()}
    model = get_peft_model(Small(), configs[names[0]], adapter_name=names[0])
    for n in names[1:]:
        model.add_adapter(n, configs[n])
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if "lora_" in name:
                p.copy_(0.5 * torch.randn(p.shape, dtype=torch.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(str(out), selected_adapters=names)
    for card in [out / "README.md"] + [out / n / "README.md" for n in names]:
        card.unlink(missing_ok=True)
    for n in names:
        file = out / n / "adapter_model.safetensors"
        factors = load_file(file)
        check(all(x.dtype == torch.float64 for x in factors.values()), "dtypes")
        if case.get("dtype") != "F64":
            save_tensors(file, {k: x.float() for k, x in factors.items()})

    tensors, results = {}, []
    for i, ask in enumerate(case["results"]):
        key = f"{i}-{ask['method']}"
        with Masks(model) as masks, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.base_model.add_weighted_adapter(
                names,
                case["weights"],
                key,
                combination_type=ask["method"],
                svd_rank=ask.get("rank"),
                density=ask["density"] if "density" in ask else None,
                majority_sign_method=ask.get("majority", "total"),
            )
        scalings = set()
        for name, m in model.named_modules():
            if not isinstance(m, LoraLayer):
                continue
            if key in m.lora_A:
                a, b = m.lora_A[key].weight, m.lora_B[key].weight
            elif key in m.lora_embedding_A:
                a, b = m.lora_embedding_A[key], m.lora_embedding_B[key]
            else:
                continue
            scalings.add(m.scaling[key])
            tensors[f"{key}/{name.removeprefix('base_model.model.')}"] = b.flatten(1).double() @ a.flatten(1).double()
        check(len(scalings) == 1, key, scalings)
        check(("dare" in ask["method"] and len(names) > 1) == bool(masks.found), key, "masks")
        for name, mask in masks.found.items():
            tensors[f"{key}/mask/{name}"] = mask
        pruned = ask["method"] not in ("cat", "linear", "svd")
        results.append(
            {
                "key": key,
                "method": ask["method"],
                "density": ask["density"] if pruned else 0,
                "majority": ask.get("majority", ""),
                "rank": ask.get("rank", 0),
                "scaling": scalings.pop(),
            }
        )
        model.delete_adapter(key)
    save_tensors(out / "results.safetensors", tensors)
    return {"name": case["name"], "note": case["note"], "adapters": names, "weights": case["weights"], "results": results}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    shutil.rmtree(args.out, ignore_errors=True)
    save_json(args.out / "cases.json", {"seed": args.seed, "cases": [build(c, args.out / c["name"]) for c in CASES]})


main()
