"""Opens what graft wrote with the real safetensors and compares it with its base; no torch.

    python check_light.py BASE OUT

OUT is a model (a .safetensors file, or a directory with or without model.safetensors.index.json) and BASE the model it was made
from: every file must open and carry format=pt, names, dtypes and shapes must be BASE's, nothing may have become NaN or
Inf, and an index must list exactly what the shards hold. Or OUT is an adapter directory: it must open, the factors must come in pairs of
equal rank, and, unless BASE is `-`, fit a weight of BASE's. Prints one line of JSON with the numbers; on failure one line on stderr, exit 1.
"""

import json
import sys
from pathlib import Path

import ml_dtypes  # noqa: F401  (gives numpy bfloat16 and the float8 types)
import numpy as np
from safetensors import safe_open

INDEX = "model.safetensors.index.json"


class Failure(Exception):
    pass


def files_of(path):
    if path.is_file():
        return [path]
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise Failure(f"{path}: no .safetensors file")
    return files


def headers(path, strict):
    """name -> (file, dtype, shape)"""
    found = {}
    for file in files_of(path):
        with safe_open(str(file), framework="numpy") as f:
            metadata = f.metadata() or {}
            if strict and metadata.get("format") != "pt":
                raise Failure(f"{file}: metadata is {metadata!r}, want format=pt")
            for name in f.keys():
                if name in found:
                    raise Failure(f"{name}: in both {found[name][0].name} and {file.name}")
                part = f.get_slice(name)
                found[name] = (file, part.get_dtype(), tuple(part.get_shape()))
    return found


def tensors(path, names):
    """Every tensor, one at a time, in the order of files and names."""
    for file in files_of(path):
        with safe_open(str(file), framework="numpy") as f:
            for name in f.keys():
                if name in names:
                    yield name, f.get_tensor(name)


def check_index(path, found):
    index = json.loads((path / INDEX).read_text())
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict):
        raise Failure(f"{path / INDEX}: no weight_map")
    for name, (file, _, _) in found.items():
        if weight_map.get(name) != file.name:
            raise Failure(f"{path / INDEX}: {name} is in {file.name}, the index says {weight_map.get(name)}")
    extra = sorted(set(weight_map) - set(found))
    if extra:
        raise Failure(f"{path / INDEX}: {extra[0]} is in no shard")
    total = sum(tensor.nbytes for _, tensor in tensors(path, found))
    if index.get("metadata", {}).get("total_size") != total:
        raise Failure(f"{path / INDEX}: total_size is {index.get('metadata', {}).get('total_size')}, want {total}")


def finite(tensor):
    if tensor.dtype.kind in "biu":
        return True
    return bool(np.isfinite(tensor if tensor.dtype.kind in "fc" else tensor.astype(np.float32)).all())


def check_model(base, out):
    want, got = headers(base, strict=False), headers(out, strict=True)
    for name in sorted(set(want) | set(got)):
        if name not in got:
            raise Failure(f"{name}: missing in {out}")
        if name not in want:
            raise Failure(f"{name}: in {out} but not in the base")
        if got[name][1:] != want[name][1:]:
            raise Failure(f"{name}: is {got[name][1:]}, want {want[name][1:]}")
    if out.is_dir() and (out / INDEX).exists():
        check_index(out, got)
    elif out.is_dir() and len(files_of(out)) > 1:
        raise Failure(f"{out}: several files and no {INDEX}")

    differ = []
    names = {}
    for name, (file, _, _) in want.items():
        names.setdefault(file, []).append(name)
    for file, members in names.items():
        with safe_open(str(file), framework="numpy") as f:
            for name in members:
                before = f.get_tensor(name)
                with safe_open(str(got[name][0]), framework="numpy") as g:
                    after = g.get_tensor(name)
                if before.tobytes() != after.tobytes():
                    differ.append(name)
                    if finite(before) and not finite(after):
                        raise Failure(f"{name}: not finite")
    return {
        "kind": "model",
        "files": len(files_of(out)),
        "tensors": len(got),
        "differ": len(differ),
        "differing": sorted(differ),
    }


def check_adapter(base, out):
    config = json.loads((out / "adapter_config.json").read_text())
    file = out / "adapter_model.safetensors"
    found = headers(file, strict=True)
    for name, tensor in tensors(file, found):
        if not finite(tensor):
            raise Failure(f"{name}: not finite")
    weights = {} if base is None else headers(base, strict=False)
    pairs = [(".lora_A.weight", ".lora_B.weight"), (".lora_embedding_A", ".lora_embedding_B")]
    targets = 0
    for a, b in pairs:
        for name in sorted(n for n in found if n.endswith(b)):
            if name.removesuffix(b) + a not in found:
                raise Failure(f"{name}: no {a[1:]} beside it")
        for name in sorted(n for n in found if n.endswith(a)):
            other = name.removesuffix(a) + b
            if other not in found:
                raise Failure(f"{name}: no {b[1:]} beside it")
            shape_a, shape_b = found[name][2], found[other][2]
            if shape_a[0] != shape_b[1]:
                raise Failure(f"{name}: rank {shape_a[0]}, lora_B has {shape_b[1]}")
            targets += 1
            if base is None:
                continue
            module = name.removesuffix(a).removeprefix("base_model.model.")
            # The file may lack a prefix that the module path has, or have one more.
            near = [w for w in weights if f".{module}.weight".endswith("." + w) or f".{w}".endswith(f".{module}.weight")]
            if len(near) != 1:
                raise Failure(f"{name}: {len(near)} weights of the base fit the name")
            wanted = weights[near[0]][2]
            # Linear and ConvNd; Conv1D of GPT-2, Embedding
            if (shape_b[0], *shape_a[1:]) != wanted and (shape_a[1], shape_b[0]) != wanted:
                raise Failure(f"{name}: factors {shape_b} and {shape_a} do not fit {near[0]} {wanted}")
    if not targets:
        raise Failure(f"{file}: no factors")
    return {"kind": "adapter", "tensors": len(found), "targets": targets, "r": config.get("r"), "peft_type": config.get("peft_type")}


def main(argv):
    if len(argv) != 3:
        sys.exit(f"usage: {argv[0]} BASE OUT")
    base, out = (None if argv[1] == "-" else Path(argv[1])), Path(argv[2])
    try:
        if out.is_dir() and (out / "adapter_config.json").exists():
            result = check_adapter(base, out)
        elif base is None:
            raise Failure("a model needs a BASE")
        else:
            result = check_model(base, out)
    except Failure as e:
        sys.exit(f"check_light: {e}")
    except Exception as e:  # what safetensors, json or the file system say
        sys.exit(f"check_light: {type(e).__name__}: {' '.join(str(e).split())}")
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv)
