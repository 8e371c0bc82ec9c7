"""Makes ONNX Runtime adapter files with ONNX Runtime itself, beside the numbers that they hold: golden inputs for a reader.

    python ort_adapter.py --seed 1 --out testdata/onnx_adapter

OUT/NAME.onnx_adapter   what onnxruntime.AdapterFormat.export_adapter wrote
OUT/NAME.safetensors    the same tensors; adapter_version and model_version are in its metadata, as "versions"

Cases: every type that ONNX Runtime takes; odd shapes, empty ones and factors of rank 0; many parameters; none; and the
PEFT adapters of ../peft by the recipe of olive convert-adapters: A transposed, B transposed and times
the scale, under the three namings that tools use. Products are exact and rounded once. Convolutions, for which
Olive has no form, keep the orientation that both PyTorch and ONNX give them.

Needs interop-requirements.txt. The same seed gives the same bits.
"""

import argparse
import json
from fractions import Fraction
from pathlib import Path

import ml_dtypes
import numpy as np
from onnxruntime import AdapterFormat, OrtValue
from safetensors import safe_open
from safetensors.numpy import save_file

# numpy's type, ONNX's number (TensorProto.DataType)
TYPES = {
    "float32": (np.float32, 1),
    "uint8": (np.uint8, 2),
    "int8": (np.int8, 3),
    "uint16": (np.uint16, 4),
    "int16": (np.int16, 5),
    "int32": (np.int32, 6),
    "int64": (np.int64, 7),
    "float16": (np.float16, 10),
    "float64": (np.float64, 11),
    "uint32": (np.uint32, 12),
    "uint64": (np.uint64, 13),
    "bfloat16": (ml_dtypes.bfloat16, 16),
    "float8_e4m3fn": (ml_dtypes.float8_e4m3fn, 17),
    "float8_e4m3fnuz": (ml_dtypes.float8_e4m3fnuz, 18),
    "float8_e5m2": (ml_dtypes.float8_e5m2, 19),
    "float8_e5m2fnuz": (ml_dtypes.float8_e5m2fnuz, 20),
}
NUMBER = {np.dtype(t): n for t, n in TYPES.values()}
# Numpy knows these only through ml_dtypes: ONNX Runtime takes their bits.
BITS = {16: np.uint16, 17: np.uint8, 18: np.uint8, 19: np.uint8, 20: np.uint8}


def ort_value(array):
    number = NUMBER[array.dtype]
    if number in BITS:
        return OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(BITS[number]), number)
    return OrtValue.ortvalue_from_numpy(array)


def save(out, name, tensors, adapter_version=0, model_version=0):
    tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    values = {k: ort_value(v) for k, v in tensors.items()}  # they use the arrays' memory, and the adapter uses theirs
    adapter = AdapterFormat()
    adapter.set_adapter_version(adapter_version)
    adapter.set_model_version(model_version)
    adapter.set_parameters(values)
    adapter.export_adapter(str(out / f"{name}.onnx_adapter"))
    metadata = {"versions": f"{adapter_version} {model_version}"}  # safetensors writes several in any order
    save_file(tensors, str(out / f"{name}.safetensors"), metadata=metadata)


def any_bits(rng, dtype, shape):
    """Every pattern of bits may come, NaNs too: a reader must not change them."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    return np.frombuffer(rng.bytes(size), dtype=dtype).reshape(shape)


def plain(rng, out):
    save(out, "types", {name: any_bits(rng, t, (3, 5)) for name, (t, _) in TYPES.items()}, 7, -3)
    shapes = [(1,), (0,), (4, 0), (0, 6), (2, 3, 4), (2, 1, 3, 1, 2), (1, 1, 1, 1, 1, 1, 1), (65, 3)]
    save(out, "shapes", {"s" + "x".join(map(str, s)): any_bits(rng, np.float32, s) for s in shapes}, 2147483647, -2147483648)
    save(out, "many", {f"model.layers.{i}.weight": any_bits(rng, np.int8, (i % 5, 1)) for i in range(300)})
    save(out, "none", {}, 1, 2)


def products(b, scale):
    """b times scale: of the neighbours of an approximate product the one nearest to the exact product, or the even one."""
    kind = {2: np.uint16, 4: np.uint32, 8: np.uint64}[b.dtype.itemsize]
    out = (b.astype(np.float64) * scale).astype(b.dtype)
    for i, x in np.ndenumerate(b):
        exact = Fraction(float(x)) * Fraction(scale)
        bits = int(out[i].view(kind))
        near = [(n, np.array(n, kind).view(b.dtype)) for n in range(max(bits - 1, 0), bits + 2)]
        near = [(abs(Fraction(float(y)) - exact), n & 1, y) for n, y in near if np.isfinite(y)]
        out[i] = min(near, key=lambda c: c[:2])[2]
    return out


def rename(key, naming):
    name = key.removeprefix("base_model.model.")
    if naming == "olive":
        return name
    if naming == "peft":
        return key
    return name.replace("self_attn", "attn").replace("lora_A", "lora_A.MatMul").replace("lora_B", "lora_B.MatMul")


def converted(peft, out, case, naming):
    cases = {c["name"]: c for c in json.loads((peft / "cases.json").read_text())["cases"]}
    targets = cases[case]["targets"][0]
    tensors = {}
    with safe_open(str(peft / case / "adapter" / "adapter_model.safetensors"), framework="numpy") as f:
        for key in f.keys():
            factor = f.get_tensor(key)
            module = key.removeprefix("base_model.model.").split(".lora_")[0]
            if ".lora_" not in key:
                continue  # an embedding that PEFT saved along
            if ".lora_B" in key or ".lora_embedding_B" in key:
                factor = products(factor, targets[module]["scaling"])
            tensors[rename(key, naming)] = factor.T if factor.ndim == 2 else factor
    save(out, f"{case}-{naming}", tensors, 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    plain(np.random.default_rng(args.seed), args.out)
    peft = Path(__file__).resolve().parent.parent / "peft"
    for case, naming in [
        ("linear-f32", "olive"),
        ("linear-f64", "olive"),
        ("rslora", "peft"),
        ("adapter-bf16", "genai"),
        ("patterns", "genai"),
        ("alpha-negative", "peft"),
        ("gpt2-conv1d", "olive"),
        ("conv2d", "olive"),
    ]:
        converted(peft, args.out, case, naming)


if __name__ == "__main__":
    main()
