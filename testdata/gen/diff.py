"""Makes pairs of models and of adapters that differ in known ways, and what numpy says about them.

    python diff.py --seed 1 --out testdata/diff

OUT/a.safetensors, b.safetensors    tensors of all kinds: random changes, steps of some ulps, signs of zero, infinities
                                    and NaN, subnormals, numbers whose squares overflow, types that are no floats
OUT/wide.safetensors                a's floats in other types
OUT/ADAPTER/                        PEFT LoRA directories: first, other (other rank, scale and modules), near (1e-6 from
                                    first), ulp (one factor element one ulp from first), scaled (lora_alpha halved),
                                    turned (another pair of factors of the same product, to rounding), dora-a, dora-b
OUT/base.safetensors                a model that they are for: its weights lie across and along the adapters' directions
OUT/golden.json                     for each pair what differs, from the dense matrices: sums in long double, singular
                                    values and vectors by numpy.linalg.svd in float64

Needs interop-requirements.txt. The same seed gives the same bits.
"""

import argparse
import json
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save

WIDE = np.longdouble
BF16 = ml_dtypes.bfloat16
UINT = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def number(x):
    """A float as JSON has it: infinities and NaN are null."""
    x = float(x)
    return x if np.isfinite(x) else None


def norm(x):
    return np.sqrt(np.sum(np.square(x, dtype=WIDE)))


def ordered(x):
    """The index of each number among all numbers of its type; 0 and -0 have the same."""
    size = x.dtype.itemsize
    bits = x.view(UINT[size]).astype(object)
    sign = 1 << (8 * size - 1)
    return np.array([-(int(b) - sign) if b >= sign else int(b) for b in bits.ravel()], dtype=object)


def values(a, b):
    """What differs between two float arrays of one shape."""
    x, y = a.astype(WIDE), b.astype(WIDE)
    if a.dtype == b.dtype:
        differ = a.view(UINT[a.itemsize]) != b.view(UINT[b.itemsize])
    else:
        differ = ~((x == y) | (np.isnan(x) & np.isnan(y)))
    finite = np.isfinite(x) & np.isfinite(y)
    out = {"elements": a.size, "differing": int(differ.sum()), "not_finite": int((differ & ~finite).sum())}
    if a.dtype == b.dtype:
        steps = [int(d) for d in np.abs(ordered(a) - ordered(b))[(differ & finite).ravel()]]
        histogram = {}
        for d in steps:
            low = 0 if d == 0 else 1 << (d.bit_length() - 1)
            histogram[low] = histogram.get(low, 0) + 1
        out["ulps"] = [{"from": k, "to": max(0, 2 * k - 1), "elements": n} for k, n in sorted(histogram.items())]
        out["max_ulps"] = max(steps, default=0)
    x, y = x[finite], y[finite]
    out |= {"max_abs": number(np.max(np.abs(y - x), initial=0)), "norm_a": number(norm(x)), "norm_b": number(norm(y)), "distance": number(norm(y - x))}
    with np.errstate(divide="ignore", invalid="ignore"):
        out["relative"] = number(norm(y - x) / norm(x)) if norm(y - x) else 0.0
        out["cosine"] = number(np.sum(x * y) / norm(x) / norm(y))
    return out


def step(rng, x, most):
    """Moves every other number up to so many ulps, not beyond the largest."""
    bits = x.view(UINT[x.itemsize]).copy()
    by = rng.integers(0, most + 1, x.shape).astype(bits.dtype)
    bits.ravel()[::2] += by.ravel()[::2]
    return bits.view(x.dtype)


def models(rng):
    a, b = {}, {}
    for name, dtype in {"f64": np.float64, "f32": np.float32, "f16": np.float16, "bf16": BF16}.items():
        x = rng.standard_normal((37, 29)).astype(dtype)
        a[f"random.{name}"], b[f"random.{name}"] = x, (x.astype(np.float64) + 0.1 * rng.standard_normal(x.shape)).astype(dtype)
        a[f"steps.{name}"], b[f"steps.{name}"] = x, step(rng, x, 9)
        small = (rng.standard_normal(41) * 8).astype(np.int64).astype(UINT[x.itemsize]).view(dtype)
        small[np.isnan(small)] = 0  # of negative integers
        a[f"subnormal.{name}"], b[f"subnormal.{name}"] = small, -small[::-1].copy()
        odd = np.array([0, -0.0, 1, np.inf, -np.inf, np.nan, np.inf, 2, np.nan, 5], dtype)
        a[f"odd.{name}"] = odd
        b[f"odd.{name}"] = np.array([-0.0, 0, 1, np.inf, np.inf, np.nan, 1, np.nan, 3, 7], dtype)
        a[f"alike.{name}"] = b[f"alike.{name}"] = x[:3].copy()
        zero = np.zeros(8, dtype)
        a[f"from-zero.{name}"], b[f"from-zero.{name}"] = zero, np.arange(8).astype(dtype)
    x = rng.standard_normal(2100)
    a["huge.f64"], b["huge.f64"] = x * 1e200, x[::-1] * 1e200
    a["tiny.f64"], b["tiny.f64"] = x * 1e-200, x[::-1] * 1e-200
    mixed = x * np.logspace(-300, 300, x.size)
    a["mixed.f64"], b["mixed.f64"] = mixed, mixed * (1 + 1e-3 * rng.standard_normal(x.size))
    for name, dtype in {"i64": np.int64, "i32": np.int32, "u8": np.uint8, "bool": np.bool_}.items():
        v = rng.integers(0, 2 if dtype is np.bool_ else 100, (5, 7)).astype(dtype)
        w = v.copy()
        w[::2, 3] = 1 - w[::2, 3] if dtype is not np.bool_ else ~w[::2, 3]
        a[f"whole.{name}"], b[f"whole.{name}"] = v, w
    a["only.a"] = b["only.b"] = np.zeros(2, np.float32)
    a["shape"], b["shape"] = np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32)
    a["dtype"], b["dtype"] = np.zeros(4, np.float32), np.zeros(4, np.int32)
    wide = {}
    for name, x in a.items():
        other = {"bf16": np.float32, "f16": np.float64, "f32": BF16, "f64": np.float32}.get(name.rpartition(".")[2])
        if other and not name.startswith(("huge", "tiny", "mixed")):
            with np.errstate(over="ignore"):
                wide[name] = x.astype(other)
    return a, b, wide


def compare(a, b):
    out = {}
    for name in a:
        if name in b and a[name].shape == b[name].shape:
            x, y = a[name], b[name]
            floats = [v.dtype.kind == "f" or v.dtype == BF16 for v in (x, y)]
            if all(floats):
                v = values(x, y)
            elif x.dtype == y.dtype:
                v = {"elements": x.size, "differing": int((x != y).sum())}
            else:
                v = None
            if v is None or v["differing"] or x.dtype != y.dtype:
                out[name] = v
    return out


CONFIG = {
    "base_model_name_or_path": "none", "bias": "none", "fan_in_fan_out": False, "inference_mode": True,
    "init_lora_weights": True, "lora_dropout": 0.0, "modules_to_save": None, "peft_type": "LORA", "task_type": "CAUSAL_LM", "use_rslora": False,
}
SHAPES = {"q_proj": (40, 33), "v_proj": (12, 33), "up_proj": (31, 40)}


def save_adapter(path, factors, alpha, magnitudes=None):
    path.mkdir(parents=True, exist_ok=True)
    r = next(iter(factors.values()))[0].shape[0]
    config = CONFIG | {"r": r, "lora_alpha": alpha, "target_modules": sorted(factors), "use_dora": bool(magnitudes)}
    (path / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = {}
    for name, (a, b) in factors.items():
        key = f"base_model.model.model.layers.0.{name}"
        tensors |= {f"{key}.lora_A.weight": a, f"{key}.lora_B.weight": b}
        if magnitudes:
            tensors[f"{key}.lora_magnitude_vector"] = magnitudes[name]
    (path / "adapter_model.safetensors").write_bytes(save(tensors))


def phi(u, v):
    g = np.square(u.T @ v)
    k, l = g.shape
    return g.cumsum(0).cumsum(1) / np.minimum.outer(np.arange(1, k + 1), np.arange(1, l + 1))


def powers(n):
    return [1 << i for i in range(20) if 1 << i < n] + [n]


def update(factors, alpha):
    a, b = (x.astype(WIDE) for x in factors)
    return WIDE(alpha / a.shape[0]) * (b @ a)


def describe(w, rank):
    u, s, vt = np.linalg.svd(w.astype(np.float64))
    s = s[:rank]
    p = s[s > 0] / s.sum()
    return {
        "rank": rank, "norm": float(norm(w)), "spectrum": s.tolist(), "effective_rank": float(np.exp(-(p * np.log(p)).sum())),
        "stable_rank": float(np.square(s).sum() / s[0] ** 2),
    }, u[:, :rank], vt[:rank].T


def modules(first, second, alpha1, alpha2):
    out = {}
    for name in first.keys() & second.keys():
        x, y = update(first[name], alpha1), update(second[name], alpha2)
        a, ua, va = describe(x, first[name][0].shape[0])
        b, ub, vb = describe(y, second[name][0].shape[0])
        i, j = [p - 1 for p in powers(a["rank"])], [p - 1 for p in powers(b["rank"])]
        out[f"model.layers.0.{name}"] = {
            "a": a, "b": b, "distance": float(norm(y - x)), "relative": float(norm(y - x) / norm(x)),
            "cosine": float(np.sum(x * y) / norm(x) / norm(y)),
            "input": phi(va, vb)[np.ix_(i, j)].tolist(), "output": phi(ua, ub)[np.ix_(i, j)].tolist(),
        }
    return dict(sorted(out.items()))


def factors(rng, r, names, dtype=np.float32):
    return {n: (rng.standard_normal((r, SHAPES[n][1])).astype(dtype), rng.standard_normal((SHAPES[n][0], r)).astype(dtype)) for n in names}


def adapters(rng, out):
    first = factors(rng, 5, ["q_proj", "v_proj", "up_proj"])
    other = factors(rng, 3, ["q_proj", "v_proj"])
    near = {n: tuple((x * (1 + 1e-6 * rng.standard_normal(x.shape))).astype(np.float32) for x in f) for n, f in first.items()}
    ulp = {n: tuple(x.copy() for x in f) for n, f in first.items()}
    for n in ulp:
        a = ulp[n][0]
        a[1, 2] = np.nextafter(a[1, 2], np.float32(np.inf))
    turned = {}
    for n, (a, b) in first.items():
        q, _ = np.linalg.qr(rng.standard_normal((5, 5)))
        turned[n] = (q.T @ a.astype(np.float64), b.astype(np.float64) @ q)
    cases = {"first": (first, 10), "other": (other, 4), "near": (near, 10), "ulp": (ulp, 10), "scaled": (first, 5), "turned": (turned, 10)}
    for name, (f, alpha) in cases.items():
        save_adapter(out / name, f, alpha)
    magnitude = {n: rng.uniform(1, 2, SHAPES[n][0]).astype(np.float32) for n in first}
    moved = {n: (m * 1.01).astype(np.float32) for n, m in magnitude.items()}
    save_adapter(out / "dora-a", first, 10, magnitude)
    save_adapter(out / "dora-b", first, 10, moved)
    golden = {name: modules(first, f, 10, alpha) for name, (f, alpha) in cases.items() if name != "first"}
    base = base_of(rng, first)
    (out / "base.safetensors").write_bytes(save(base))
    golden["base"] = {name: amplification(base, cases[name][0], cases[name][1]) for name in ("first", "other")}
    return golden, {f"model.layers.0.{n}.magnitude": values(magnitude[n], moved[n]) for n in first}


def base_of(rng, pairs):
    """A weight for each module: noise, and some of what the first adapter writes."""
    out = {}
    for (name, f), dtype in zip(pairs.items(), [np.float32, BF16, np.float64]):
        w = update(f, 10).astype(np.float64)
        out[f"model.layers.0.{name}.weight"] = (0.3 * w + 7 * rng.standard_normal(SHAPES[name])).astype(dtype)
    return out


def amplification(base, adapter, alpha):
    """What the base has in the directions of each update (LoRA, section 7.3)."""
    out = {}
    for name, f in adapter.items():
        w = base[f"model.layers.0.{name}.weight"].astype(np.float64)
        delta = update(f, alpha)
        u, _, vt = np.linalg.svd(delta.astype(np.float64))
        r = f[0].shape[0]
        u, v = u[:, :r], vt[:r].T
        projected = norm(u.T @ w @ v)
        out[f"model.layers.0.{name}"] = {
            "rank": r, "norm": float(norm(w)), "projected": float(projected), "factor": float(norm(delta) / projected),
            "random": float(r * norm(w) / np.sqrt(WIDE(w.size))),
        }
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    a, b, wide = models(rng)
    for name, tensors in {"a": a, "b": b, "wide": wide}.items():
        (args.out / f"{name}.safetensors").write_bytes(save(tensors))
    pairs, magnitudes = adapters(rng, args.out)
    golden = {"tensors": compare(a, b), "wide": compare(a, wide), "base": pairs.pop("base"), "adapters": pairs, "magnitudes": magnitudes}
    (args.out / "golden.json").write_text(json.dumps(golden, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
