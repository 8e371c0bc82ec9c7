"""Loads a merged model with transformers and compares it with what PEFT makes of the same base and adapter.

    python check_full.py --base DIR --adapter DIR [--adapter DIR] --merged DIR [--tolerance 1e-4] [--share 1e-4] [--ulps 1] [--seed 1]

Several adapters are merged by PEFT one after the other in the order given, rounding each time.
Fails (one line on stderr, exit 1) when
  - anything is missing, unexpected or newly initialized on loading base or merged, or a key of the adapter is not used;
  - a tensor that PEFT's merge_and_unload leaves alone is not bit-identical in the merged model;
  - a tensor that PEFT changes differs from PEFT's in more than --share of its elements (two elements are always allowed), or anywhere
    by more than, if it is stored in 16 bits or has a magnitude (DoRA), --ulps units of its dtype, at the size of the larger of the weights
    before and after, and else 4 u (|W| + sum |s| |B| |A|), where u is 2^-24 for F32 and 2^-53 for F64;
  - the merged model's logits are further from base + adapter (unmerged, float32 on the weights as stored) than PEFT's own merged model's,
    by more than 5 % and --tolerance of the largest logit.
Prints one line of JSON with the numbers; identical_share is that of all elements of tensors that PEFT changes.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

from common import begin

SUSPICIOUS = ("missing", "unexpected", "not used", "unused", "newly initialized", "ignored", "size mismatch", "no effect")


class Failure(Exception):
    pass


def load(path, dtype, torch):
    import transformers

    architectures = json.loads((path / "config.json").read_text()).get("architectures") or [""]
    auto = transformers.AutoModelForCausalLM
    if not architectures[0].endswith(("ForCausalLM", "LMHeadModel")):
        auto = getattr(transformers, architectures[0])
    model, info = auto.from_pretrained(path, dtype=dtype, output_loading_info=True)
    for key, value in info.items():
        if value:
            raise Failure(f"{path}: loading reports {key}: {sorted(map(str, value))[:3]}")
    return model.eval()


def stored_dtype(path, torch):
    """The dtype of the largest share of the weights."""
    from safetensors import safe_open

    names = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    size = {}
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, framework="pt") as f:
            for name in f.keys():
                part = f.get_slice(name)
                count = 1
                for n in part.get_shape():
                    count *= n
                size[part.get_dtype()] = size.get(part.get_dtype(), 0) + count
    floats = {k: v for k, v in size.items() if k in names}
    if not floats:
        raise Failure(f"{path}: no float weights")
    return names[max(floats, key=floats.get)]


def with_adapters(model, adapters):
    """PeftModel.from_pretrained with all adapters active, and every tensor of every file accounted for."""
    from peft import PeftModel

    names = ["default"] + [f"adapter{n}" for n in range(2, len(adapters) + 1)]
    for name, adapter in zip(names, adapters):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if name == "default":
                model = PeftModel.from_pretrained(model, adapter)
            else:
                model.load_adapter(adapter, name)
        for w in caught:
            text = " ".join(str(w.message).split())
            if any(s in text.lower() for s in SUSPICIOUS):
                raise Failure(f"{adapter}: PEFT warns: {text[:300]}")
        check_used(model, name, adapter)
    if len(names) > 1:
        model.base_model.set_adapter(names)
    return model.eval()


def check_used(model, name, adapter):
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        live = get_peft_model_state_dict(model, adapter_name=name)
        needed = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as f:
        stored = {name: f.get_tensor(name) for name in f.keys()}
    if set(stored) - set(live):
        raise Failure(f"{adapter}: PEFT does not use {sorted(set(stored) - set(live))[0]}")
    if set(needed) - set(stored):
        raise Failure(f"{adapter}: PEFT misses {sorted(set(needed) - set(stored))[0]}")
    for name, value in stored.items():
        if not live[name].double().equal(value.to(live[name].dtype).double()):
            raise Failure(f"{adapter}: {name} is not what PEFT loaded")


def spacing(x, dtype, torch):
    """One ulp of dtype at |x|, in float64."""
    info = torch.finfo(dtype)
    exponent = torch.frexp(x.abs().clamp(min=info.tiny))[1] - 1
    return info.eps * torch.pow(2.0, exponent.double())


def delta_sizes(model, torch):
    """sum |s| |B| |A| of every weight with factors and no magnitude, by the weight's name after merging."""
    sizes, scaled = {}, set()
    for path, layer in model.base_model.model.named_modules():
        if not hasattr(layer, "get_delta_weight"):
            continue
        for name in layer.active_adapters:
            if name not in layer.scaling:
                continue
            if layer.use_dora.get(name):
                scaled.add(path + ".weight")
            factors = [p for key, p in layer.named_parameters() if name in key.split(".") and not key.startswith(("base_layer", "lora_magnitude"))]
            kept = [p.detach().clone() for p in factors]
            with torch.no_grad():
                for p in factors:
                    p.abs_()
                size = layer.get_delta_weight(name).abs().double()
                for p, value in zip(factors, kept):
                    p.copy_(value)
            sizes[path + ".weight"] = sizes.get(path + ".weight", 0) + size
    return {name: size for name, size in sizes.items() if name not in scaled}


def compare_weights(base, sizes, want, got, share, ulps, torch):
    """PEFT's merged weights against the merged model's. Returns the numbers."""
    numbers = {"targets": 0, "elements": 0, "differing": 0, "worst_share": 0.0, "worst_ulp": 0.0, "worst_of_bound": 0.0, "worst_tensor": None}
    if set(want) != set(got):
        raise Failure(f"state dicts differ in {sorted(set(want) ^ set(got))[0]}")
    for name, value in want.items():
        if torch.equal(value, base[name]):
            if not torch.equal(got[name], value):
                raise Failure(f"{name}: changed, but PEFT leaves it alone")
            continue
        if got[name].dtype != value.dtype:
            raise Failure(f"{name}: is {got[name].dtype}, PEFT's is {value.dtype}")
        a, b, w = got[name].double(), value.double(), base[name].double()
        if not a.isfinite().all():
            raise Failure(f"{name}: not finite")
        count = int((a != b).sum())
        ulp = ((a - b).abs() / spacing(torch.maximum(torch.maximum(a.abs(), b.abs()), w.abs()), value.dtype, torch)).max().item()
        numbers["targets"] += 1
        numbers["elements"] += a.numel()
        numbers["differing"] += count
        if count / a.numel() > numbers["worst_share"]:
            numbers["worst_share"], numbers["worst_tensor"] = count / a.numel(), name
        numbers["worst_ulp"] = max(numbers["worst_ulp"], ulp)
        bounded = value.dtype in (torch.float32, torch.float64) and name in sizes
        if bounded:
            bound = 4 * torch.finfo(value.dtype).eps / 2 * (w.abs() + sizes[name])
            of_bound = torch.where(a == b, torch.zeros_like(a), (a - b).abs() / bound).max().item()
            numbers["worst_of_bound"] = max(numbers["worst_of_bound"], of_bound)
            if of_bound > 1:
                raise Failure(f"{name}: {4 * of_bound:.3g} u (|W| + sum |s| |B| |A|) from PEFT's merge, more than 4")
        if count > max(2, share * a.numel()):
            raise Failure(f"{name}: {count} of {a.numel()} elements differ from PEFT's merge (worst {ulp:.3g} ulp)")
        if not bounded and ulp > ulps:
            raise Failure(f"{name}: {ulp:.3g} ulp from PEFT's merge")
    numbers["identical_share"] = 1 - numbers["differing"] / max(1, numbers["elements"])
    return numbers


def run(args, torch):
    stored = stored_dtype(args.base, torch)
    compute = torch.float64 if stored == torch.float64 else torch.float32

    base = load(args.base, stored, torch)
    before = {k: v.clone() for k, v in base.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = with_adapters(base, args.adapter)
        sizes = delta_sizes(adapted, torch)
        peft_merged = adapted.merge_and_unload()
    merged = load(args.merged, stored, torch)
    numbers = compare_weights(before, sizes, peft_merged.state_dict(), merged.state_dict(), args.share, args.ulps, torch)

    generator = torch.Generator().manual_seed(args.seed)
    config = merged.config
    length = min(24, getattr(config, "max_position_embeddings", 24))
    ids = torch.randint(0, config.vocab_size, (2, length), generator=generator)
    if getattr(config, "pad_token_id", None) is not None:
        ids[ids == config.pad_token_id] = (config.pad_token_id + 1) % config.vocab_size

    def logits(model):
        with torch.no_grad():
            return model(input_ids=ids).logits.double()

    unmerged = logits(with_adapters(load(args.base, compute, torch), args.adapter))
    plain = logits(load(args.base, compute, torch))
    # A buffer that is not saved, such as the scale of Gemma's embeddings, is rounded by a load in BF16.
    wide = load(args.base, compute, torch)
    wide.load_state_dict(peft_merged.state_dict())
    ours, theirs = logits(load(args.merged, compute, torch)), logits(wide)
    scale = max(1.0, unmerged.abs().max().item())
    far, far_peft = (ours - unmerged).abs().max().item(), (theirs - unmerged).abs().max().item()
    numbers.update(
        {
            "dtype": str(stored).removeprefix("torch."),
            "largest_logit": scale,
            "adapter_moves_logits": (unmerged - plain).abs().max().item(),
            "merged_from_adapter": far,
            "peft_merged_from_adapter": far_peft,
            "merged_from_peft_merged": (ours - theirs).abs().max().item(),
        }
    )
    if not far <= 1.05 * far_peft + args.tolerance * scale:
        raise Failure(f"merged logits are {far:.3g} from base + adapter, PEFT's own are {far_peft:.3g} from it")
    if numbers["differing"] == 0 and not numbers["merged_from_peft_merged"] <= args.tolerance * scale:
        raise Failure(f"equal weights, but logits differ by {numbers['merged_from_peft_merged']:.3g}")
    return numbers


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, required=True, action="append", help="again for the next one")
    parser.add_argument("--merged", type=Path, required=True)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--share", type=float, default=1e-4)
    parser.add_argument("--ulps", type=float, default=1)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch = begin(args.seed)
    try:
        numbers = run(args, torch)
    except Failure as e:
        sys.exit(f"check_full: {e}")
    except Exception as e:  # what the libraries say
        sys.exit(f"check_full: {type(e).__name__}: {' '.join(str(e).split())[:500]}")
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
